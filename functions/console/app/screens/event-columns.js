// The columns of a list of events.
import { html } from '../view.js';
import { part } from '../api.js';
import { tenantHref } from '../session.js';
import { Ago } from '../ui/time.js';

export const eventColumns = (tenant) => [
  { label: 'Event', kind: 'main', cell: (row) => html`<a class="mono"
    href=${tenantHref(tenant, `/events/${part(row.event_id)}`)}>${row.event_id}</a>` },
  { label: 'Type', cell: (row) => html`<code class="chip">${row.event_type}</code>` },
  { label: 'Message id', cell: (row) => html`<code class="small">${row.webhook_id}</code>` },
  { label: 'Accepted', kind: 'num', cell: (row) => html`<${Ago} at=${row.accepted_at} />` },
];
