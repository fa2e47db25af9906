// The view library in one place: templates, components and hooks that the screens use.
import { h, Component, Fragment, render } from './vendor/preact.js';
import htm from './vendor/htm.js';

export const html = htm.bind(h);
export { Component, Fragment, render };
export { useEffect, useLayoutEffect, useMemo, useRef, useState, useCallback } from './vendor/hooks.js';
