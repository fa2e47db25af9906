// What a view of data shows while it has none: a skeleton, an empty state, or a problem with what to do about it.
import { html } from '../view.js';
import { Copy } from './copy.js';
import { Icon } from './icons.js';
import { localHour } from './time.js';

export const Skeleton = ({ lines = 4 }) => html`<div class="skeleton" role="status" aria-label="Loading">
  ${Array.from({ length: lines }, (_, n) => html`<i key=${n} />`)}
</div>`;

export const Empty = ({ title, children }) => html`<div class="empty">
  <p class="strong">${title}</p>
  <div>${children}</div>
</div>`;

const TITLES = { 403: 'You are not allowed to see this', 404: 'This does not exist' };

/** `retry` is what a button does, `action` its word. `look` says where one sees what became of an unknown outcome. */
export function ProblemBox({ problem, retry, action = 'Try again', look }) {
  const known = problem.kind === 'problem' && TITLES[problem.status];
  return html`<div class="problem" role="alert">
    <p class="strong"><${Icon} shape=${['offline', 'unknown'].includes(problem.kind) ? 'warn' : 'bad'} /> ${known || problem.message}</p>
    ${known && problem.message !== known && html`<p>${problem.message}</p>`}
    ${problem.detail && html`<p>${problem.detail}</p>`}
    ${problem.kind === 'unknown' && look && html`<p>${look}</p>`}
    ${problem.errors?.length > 0 && html`<ul>
      ${problem.errors.map((fault, n) => html`<li key=${n}><code>${fault.pointer}</code> ${fault.message}</li>`)}</ul>`}
    ${problem.correlationId && html`<p class="small">Correlation id <code>${problem.correlationId}</code> <${Copy}
      text=${problem.correlationId} what="correlation id" /></p>`}
    ${retry && problem.status !== 403 && html`<button type="button" class="button" onClick=${retry}>${action}</button>`}
  </div>`;
}

/** Said above data that could not be brought up to date. */
const Behind = ({ source }) => html`<p class="notice warn" role="status">
  <${Icon} shape="warn" />
  <span>${source.error.message}. This is what was read at ${localHour(source.at)}.</span>
  <button type="button" class="button quiet" onClick=${source.reload}>Try again</button>
</p>`;

/** Shows `source` of a hook of `live.js` in each of its states. `children` is a function of its data. */
export function Loaded({ source, lines, skeleton, children }) {
  if (source.data === null) {
    if (source.error) return html`<${ProblemBox} problem=${source.error} retry=${source.reload} />`;
    return skeleton ?? html`<${Skeleton} lines=${lines} />`;
  }
  return html`${source.error && html`<${Behind} source=${source} />`}${children(source.data)}`;
}
