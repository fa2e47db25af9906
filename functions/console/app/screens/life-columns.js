// The columns of a list of deliveries: every end of every life is a row of its own.
import { html } from '../view.js';
import { part, withQuery } from '../api.js';
import { tenantHref } from '../session.js';
import { State } from '../ui/icons.js';
import { Ago, duration } from '../ui/time.js';
import { number } from '../ui/words.js';

export const lifeKey = (row) => `${row.delivery_id}#${row.hop}#${row.result ?? row.status}`;

const pathOf = (row) => withQuery(`/events/${part(row.event_id)}/deliveries/${row.endpoint_id}`, { life: row.life });
const answer = (row) => row.attempts.at(-1);

/** `of` is what the rows differ in: `endpoint` in the list of an event, `event` in that of an endpoint. */
export const lifeColumns = (tenant, of) => [
  {
    label: of === 'endpoint' ? 'Endpoint' : 'Event',
    kind: 'main',
    cell: (row) => html`<a class="mono" href=${tenantHref(tenant, pathOf(row))}>${of === 'endpoint' ? row.endpoint_id : row.event_id}</a>
      ${row.life && html`<span class="muted small">sent again</span>`}`,
  },
  ...(of === 'event' ? [{ label: 'Type', cell: (row) => row.event_type && html`<code class="chip">
    ${row.event_type}</code>` }] : []),
  { label: 'Result', cell: (row) => html`<${State} of=${row.in_flight ? 'in_flight' : (row.result ?? row.status)} />` },
  { label: 'Attempts', kind: 'num', cell: (row) => number(row.attempt_count) },
  { label: 'Last answer', cell: (row) => answer(row) && html`<span class="nowrap">
    ${answer(row).status_code ?? answer(row).error_class} <span class="muted">in ${duration(answer(row).duration_ms)}</span>
    </span>` },
  {
    label: 'When',
    kind: 'num',
    cell: (row) => (row.ended_at ? html`<${Ago} at=${row.ended_at} />` : row.next_attempt_at ? html`<span
      class="muted">next </span><${Ago} at=${row.next_attempt_at} />` : html`<${Ago} at=${row.accepted_at} />`),
  },
];
