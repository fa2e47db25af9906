// Dead letters: deliveries that were given up, and events whose fan-out was.
import { html } from '../view.js';
import { part, withQuery } from '../api.js';
import { usePages } from '../pages.js';
import { mayWrite } from '../session.js';
import { CopyCurl } from '../ui/copy.js';
import { Filters, SelectFilter, TextFilter, TimeFilter } from '../ui/filters.js';
import { State } from '../ui/icons.js';
import { Page } from '../ui/page.js';
import { Empty } from '../ui/states.js';
import { List } from '../ui/table.js';
import { Ago } from '../ui/time.js';
import { REASONS, nameOf, number } from '../ui/words.js';

const columns = [
  {
    label: 'Dead letter',
    kind: 'main',
    cell: (row) => html`<a class="mono truncate" title=${row.webhook_id} href="#/dead-letters/${part(row.webhook_id)}">
      ${row.webhook_id}</a>
      ${row.webhook_url && html`<span class="truncate muted small" title=${row.webhook_url}>${row.webhook_url}</span>`}`,
  },
  { label: 'Reason', cell: (row) => html`<${State} of=${row.reason} />` },
  { label: 'Attempts', kind: 'num', cell: (row) => number(row.attempts) },
  { label: 'Error', cell: (row) => row.error && html`<span class="break" dir="auto">${row.error}</span>` },
  { label: 'Given up', kind: 'num', cell: (row) => html`<${Ago} at=${row.failed_at} />` },
  { label: 'Sent again', kind: 'num', cell: (row) => row.redriven_at && html`<${Ago} at=${row.redriven_at} />` },
];

export default function DeadLetters({ query }) {
  const keyOf = (row) => row.webhook_id;
  const { reason, destination, since, until } = query;
  const filter = { reason, destination, since, until };
  const source = usePages('dead-letters', { query: filter, pick: 'dead_letters', keyOf });
  const isFiltered = Object.values(filter).some(Boolean);
  return html`<${Page} title="Dead letters" actions=${html`<${CopyCurl} path=${source.address} />
      ${mayWrite() && html`<a class="button primary"
        href=${`#${withQuery('/dead-letters/+redrive', filter)}`}>Redrive by filter</a>`}`}>
    <${Filters}>
      <${SelectFilter} name="reason" label="Reason" query=${query}
        options=${[['', 'All'], ...REASONS.map((value) => [value, nameOf(value)])]} />
      <${TextFilter} name="destination" label="Receiver" placeholder="https://receiver.example" query=${query} />
      <${TimeFilter} name="since" label="Since" query=${query} />
      <${TimeFilter} name="until" label="Until" query=${query} />
    <//>
    <${List} source=${source} label="Dead letters" columns=${columns} keyOf=${keyOf} empty=${isFiltered
      ? html`<${Empty} title="No dead letter matches">Change the filter, or <a href="#/dead-letters">show all</a>.<//>`
      : html`<${Empty} title="There is no dead letter">What is given up is kept here for 30 days and can be sent again.<//>`} />
  <//>`;
}
