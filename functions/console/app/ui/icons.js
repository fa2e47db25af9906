// Small drawn shapes. Each kind of state has a shape of its own, so that colour never carries a meaning alone.
import { html } from '../view.js';
import { kindOf, meaningOf, nameOf } from './words.js';

const SHAPES = {
  good: 'M8 1.5a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13M5 8.2l2.1 2.1L11 6.2',
  bad: 'M5 1.5h6L14.5 5v6L11 14.5H5L1.5 11V5zM5.8 5.8l4.4 4.4M10.2 5.8l-4.4 4.4',
  warn: 'M8 1.8 15 14H1zM8 6.2v3.6M8 11.8v.3',
  wait: 'M8 1.5a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13M8 4.5V8l2.5 1.8',
  run: 'M13.5 8A5.5 5.5 0 1 1 8 2.5M8 .5l2.5 2L8 4.8',
  pause: 'M2.5 2.5h11v11h-11zM6.2 5.5v5M9.8 5.5v5',
  off: 'M8 1.5a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13M5 8h6',
  copy: 'M5.5 5.5h8v8h-8zM3.5 10.5h-1v-8h8v1',
  check: 'M3 8.5l3.2 3.2L13 5',
  plus: 'M8 3v10M3 8h10',
  close: 'M4 4l8 8M12 4l-8 8',
  sun: 'M8 5a3 3 0 1 0 0 6 3 3 0 0 0 0-6M8 1v1.5M8 13.5V15M1 8h1.5M13.5 8H15M3 3l1 1M12 12l1 1M3 13l1-1M12 4l1-1',
  menu: 'M2 4h12M2 8h12M2 12h12',
};

export const Icon = ({ shape }) =>
  html`<svg class="icon" viewBox="0 0 16 16" aria-hidden="true"><path d=${SHAPES[shape]} /></svg>`;

/** A state of the service: its shape, its colour and its word. */
export const State = ({ of, word }) => {
  const kind = kindOf(of);
  return html`<span class="state ${kind}" title=${meaningOf(of)}><${Icon} shape=${kind} />${word ?? nameOf(of)}</span>`;
};
