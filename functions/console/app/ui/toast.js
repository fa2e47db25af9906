// Results of actions, told in a corner and to screen readers. They go away by themselves.
import { html, useEffect, useState } from '../view.js';

const SHOWN_MS = 5_000;
let tell = () => {};
let next = 0;

/** Tells the reader about something that succeeded. */
export const toast = (text) => tell({ text, id: (next += 1) });

export function Toasts() {
  const [shown, setShown] = useState(null);
  useEffect(() => {
    tell = setShown;
  }, []);
  useEffect(() => {
    if (!shown) return undefined;
    const timer = setTimeout(setShown, SHOWN_MS, null);
    return () => clearTimeout(timer);
  }, [shown]);
  return html`<div class="toasts" role="status" aria-label="Notifications">
    ${shown && html`<p class="toast" key=${shown.id}>${shown.text}</p>`}
  </div>`;
}
