// The columns of a list of endpoints, for the list itself and a portal's overview.
import { html } from '../view.js';
import { tenantHref } from '../session.js';
import { HealthCell } from '../health.js';
import { State } from '../ui/icons.js';

const TYPES_SHOWN = 3;

export const EventTypes = ({ names, all = false }) => {
  if (names.length === 0) return html`<span class="muted">all types</span>`;
  const shown = all ? names : names.slice(0, TYPES_SHOWN);
  return html`<span class="chips" title=${names.join(', ')}>
    ${shown.map((name) => html`<code class="chip" key=${name}>${name}</code>`)}${names.length > shown.length && html`<span
    class="muted small">and ${names.length - shown.length} more</span>`}</span>`;
};

export const endpointColumns = [
  {
    label: 'Endpoint',
    kind: 'main',
    cell: (row) => html`<a dir="auto" href=${tenantHref(row.tenant, `/endpoints/${row.id}`)}>
      ${row.description || row.uid || row.id}</a>
      <span class="truncate muted small" title=${row.url}>${row.url}</span>`,
  },
  { label: 'State', cell: (row) => html`<${State} of=${row.state} />` },
  { label: 'Event types', cell: (row) => html`<${EventTypes} names=${row.event_types} />` },
  { label: 'Health', cell: (row) => html`<${HealthCell} endpoint=${row} />` },
];
