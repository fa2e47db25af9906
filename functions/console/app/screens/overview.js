// The operator's overview: what works, the last hour, open circuit breakers, dead letters, and what ended last.
import { html } from '../view.js';
import { useLive } from '../live.js';
import { mayWrite } from '../session.js';
import { Bars } from '../ui/chart.js';
import { CopyCurl } from '../ui/copy.js';
import { State } from '../ui/icons.js';
import { Page, Section } from '../ui/page.js';
import { Empty, Loaded } from '../ui/states.js';
import { Table } from '../ui/table.js';
import { duration } from '../ui/time.js';
import { count, number } from '../ui/words.js';
import { breakerColumns, breakerKey } from './breaker-columns.js';
import { recentColumns, recentKey } from './recent-columns.js';

const SLOWER_MS = 15_000;
// To count dead letters is to read them.
const SELDOM_MS = 60_000;
const BREAKERS_SHOWN = 10;

const depth = (queue) => {
  const names = ['delivery', 'retry', 'wait', 'slow', 'event'];
  const sum = names.reduce((all, name) => all + (queue[name]?.visible ?? 0) + (queue[name]?.in_flight ?? 0) + (queue[name]?.delayed ?? 0), 0);
  return `${count(sum, 'message')}${queue.oldest_pending_age_seconds ? `, oldest ${duration(queue.oldest_pending_age_seconds * 1000)}` : ''}`;
};
const breakers = ({ open_count: open = 0, half_open_count: halfOpen = 0, endpoints }) =>
  `${number(open)} open, ${number(halfOpen)} half open${endpoints ? `; of endpoints ${number(endpoints.open_count)} open` : ''}`;
const memory = ({ used_memory_bytes: bytes }) => bytes !== undefined && `${number(Math.round(bytes / 1024 / 1024))} MiB used`;

const Component = ({ name, of, children }) => html`<div class="component">
  <p class="strong">${name}</p><${State} of=${of.status} />
  <p class="muted small">${children}${of.detail}${of.warnings?.map((warning, n) => html` <span key=${n}>
    ${warning}.</span>`)}</p>
</div>`;

const Health = ({ data }) => html`<div class="components">
  <${Component} name="Delivery" of=${data.components.facade} />
  <${Component} name="Queues" of=${data.components.queue}>${depth(data.components.queue)}<//>
  <${Component} name="Redis" of=${data.components.redis}>${memory(data.components.redis)}<//>
  <${Component} name="Storage" of=${data.components.storage} />
  <${Component} name="Circuit breakers" of=${data.components.circuit_breakers}>
    ${breakers(data.components.circuit_breakers)}<//>
</div>`;

const meanCall = (sum, minutes) => {
  const calls = minutes.reduce((all, minute) => all + minute.calls, 0);
  return calls ? duration(minutes.reduce((all, minute) => all + minute.call_ms, 0) / calls) : 'no call';
};

const LastHour = ({ data: { minutes } }) => minutes.length === 0
  ? html`<p class="muted">There are no figures yet.</p>`
  : html`<div class="charts">
  <${Bars} title="Deliveries" minutes=${minutes} series=${[
    { name: 'Delivered', kind: 'good', of: (minute) => minute.delivered },
    { name: 'Failed', kind: 'bad', of: (minute) => minute.failed },
  ]} />
  <${Bars} title="Held back" minutes=${minutes} series=${[
    { name: 'Retried', kind: 'warn', of: (minute) => minute.retried },
    { name: 'Parked', kind: 'off', of: (minute) => minute.parked },
  ]} />
  <${Bars} title="Duration of calls" unit="ms" minutes=${minutes} total=${meanCall} series=${[
    { name: 'Mean', kind: 'accent', of: (minute) => (minute.calls ? minute.call_ms / minute.calls : 0) },
  ]} />
</div>`;

const Counts = ({ data: { counts } }) => html`<ul class="counts">
  ${['pending', 'retrying', 'delivered', 'failed'].map((status) => html`<li key=${status}><a
    href="#/webhooks?status=${status}"><b>${number(counts[status])}</b><${State} of=${status} /></a></li>`)}
</ul>`;

/** `left` were not sent again. With `isMore`, there may be others that were not looked at. */
function Letters({ left, isMore }) {
  if (left === 0) return html`<p>${isMore ? 'The latest were all sent again.' : 'There is none that was not sent again.'}</p>`;
  return html`<p><b>${count(left, 'dead letter', 'dead letters', isMore)}</b> not sent again. <a
    href="#/dead-letters">Look at them</a>${mayWrite() && html`, or <a href="#/dead-letters/+redrive">redrive by filter</a>`}.</p>`;
}

export default function Overview() {
  const health = useLive('health', { accept: 503 });
  const hour = useLive('metrics/recent', { every: SLOWER_MS });
  const statuses = useLive('webhook-statuses', { query: { limit: 1 } });
  const open = useLive('circuit-breakers', { query: { state: 'open' }, every: SLOWER_MS });
  const letters = useLive('dead-letters', { query: { limit: 200 }, every: SELDOM_MS });
  const recent = useLive('deliveries/recent', { query: { limit: 20 } });
  return html`<${Page} title="Overview" lead=${health.data && html`<${State} of=${health.data.status} />`}
      actions=${html`<${CopyCurl} path="health" />`}>
    <${Section} title="Health" actions=${health.data && html`<span
      class="muted small">version ${health.data.version}</span>`}>
      <${Loaded} source=${health} lines=${3}>${(data) => html`<${Health} data=${data} />`}<//>
    <//>
    <${Section} title="Last hour"><${Loaded} source=${hour} lines=${5}>${(data) => html`<${LastHour} data=${data} />`}<//>
      <//>
    <div class="columns">
      <${Section} title="Direct webhooks"><${Loaded} source=${statuses} lines=${2}>
        ${(data) => html`<${Counts} data=${data} />`}<//><//>
      <${Section} title="Dead letters"><${Loaded} source=${letters} lines=${2}>
        ${({ dead_letters: list, next_cursor: cursor }) =>
        html`<${Letters} left=${list.filter((letter) => !letter.redriven_at).length} isMore=${Boolean(cursor)} />`}<//><//>
    </div>
    <${Section} title="Open circuit breakers" actions=${html`<a href="#/breakers">All breakers</a>`}>
      <${Loaded} source=${open} lines=${2}>${({ circuit_breakers: list }) =>
        list.length > 0
          ? html`<${Table} label="Open circuit breakers" rows=${list.slice(0, BREAKERS_SHOWN)} keyOf=${breakerKey}
            columns=${breakerColumns(open.reload)} />
            ${list.length > BREAKERS_SHOWN && html`<p class="more muted">${BREAKERS_SHOWN} of ${number(list.length)} are shown.</p>`}`
          : html`<p class="muted">None is open. All receivers get their calls.</p>`}<//>
    <//>
    <${Section} title="Recent deliveries">
      <${Loaded} source=${recent} lines=${8}>${({ deliveries }) =>
        deliveries.length > 0
          ? html`<${Table} label="Recent deliveries" rows=${deliveries} keyOf=${recentKey} columns=${recentColumns} />`
          : html`<${Empty} title="Nothing was delivered yet">Open a <a
            href="#/tenants">tenant</a> and send an event for a test.<//>`}<//>
    <//>
  <//>`;
}
