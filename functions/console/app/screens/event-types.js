// The catalogue of event types.
import { html } from '../view.js';
import { part } from '../api.js';
import { usePages } from '../pages.js';
import { isOperator, mayWrite } from '../session.js';
import { CopyCurl } from '../ui/copy.js';
import { State } from '../ui/icons.js';
import { Page } from '../ui/page.js';
import { Empty } from '../ui/states.js';
import { List } from '../ui/table.js';

const columns = [
  { label: 'Name', kind: 'main', cell: (row) => html`<a class="mono" href="#/event-types/${part(row.name)}">
    ${row.name}</a>` },
  { label: 'Description', cell: (row) => html`<span class="break" dir="auto">${row.description}</span>` },
  { label: 'Schema', cell: (row) => ('schema' in row ? 'yes' : html`<span class="muted">none</span>`) },
  { label: 'Use', cell: (row) => (row.deprecated ? html`<${State} of="deprecated" />` : html`<span
    class="muted">current</span>`) },
];

export default function EventTypesScreen() {
  const keyOf = (row) => row.name;
  const source = usePages('event-types', { pick: 'event_types', keyOf, limit: 100, every: 30_000 });
  const canEdit = isOperator() && mayWrite();
  return html`<${Page} title="Event types"
    actions=${html`<${CopyCurl} path=${source.address} />
    ${canEdit && html`<a class="button primary" href="#/event-types/+new">New event type</a>`}`}>
    <p class="lead">What an endpoint can ask for. Events of other types are accepted as well.</p>
    <${List} source=${source} label="Event types" columns=${columns} keyOf=${keyOf}
      empty=${html`<${Empty} title="The catalogue is empty">
      ${canEdit
          ? html`<a href="#/event-types/+new">Describe the first event type</a>, so that endpoints can pick it.`
          : 'Event types show here once they are described.'}<//>`} />
  <//>`;
}
