// The columns of deliveries that ended last, of all tenants.
import { html } from '../view.js';
import { part } from '../api.js';
import { State } from '../ui/icons.js';
import { Ago, duration } from '../ui/time.js';
import { number } from '../ui/words.js';

export const recentKey = (row) => `${row.delivery_id}#${row.ended_at}`;

const hrefOf = (row) =>
  row.event_id && row.endpoint_id
    ? `#/tenants/${part(row.tenant)}/events/${part(row.event_id)}/deliveries/${row.endpoint_id}`
    : `#/webhooks/${part(row.delivery_id)}`;

export const recentColumns = [
  { label: 'Delivery', kind: 'main', cell: (row) => html`<a class="mono" href=${hrefOf(row)} title=${row.delivery_id}>
    ${row.event_id ?? row.delivery_id}</a>` },
  { label: 'To', cell: (row) => row.tenant ? html`<a class="break" href="#/tenants/${part(row.tenant)}">${row.tenant}</a>` : html`<span
    class="truncate" title=${row.destination}>${row.destination ?? 'a direct webhook'}</span>` },
  { label: 'Result', cell: (row) => html`<${State} of=${row.result} />` },
  { label: 'Attempts', kind: 'num', cell: (row) => number(row.attempts) },
  { label: 'Last answer', cell: (row) => row.duration_ms !== undefined && html`<span class="nowrap">
    ${row.status_code ?? 'no answer'} <span class="muted">in ${duration(row.duration_ms)}</span></span>` },
  { label: 'Ended', kind: 'num', cell: (row) => html`<${Ago} at=${row.ended_at} />` },
];
