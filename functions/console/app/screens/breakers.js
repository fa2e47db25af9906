// The circuit breakers that changed within the last day.
import { html } from '../view.js';
import { useLive } from '../live.js';
import { CopyCurl } from '../ui/copy.js';
import { Filters, SelectFilter } from '../ui/filters.js';
import { Page } from '../ui/page.js';
import { Empty, Loaded } from '../ui/states.js';
import { Table } from '../ui/table.js';
import { breakerColumns, breakerKey } from './breaker-columns.js';

const SHOWN = 500;

export default function Breakers({ query }) {
  const { state = '' } = query;
  const source = useLive('circuit-breakers', { query: { state } });
  return html`<${Page} title="Circuit breakers" actions=${html`<${CopyCurl} path=${source.address} />`}>
    <p class="lead">A breaker opens after failures in a row. Until its next probe succeeds, deliveries to its receiver wait and spend no attempt.</p>
    <${Filters}><${SelectFilter} name="state" label="State" query=${query}
      options=${[['', 'All'], ['open', 'Open'], ['half_open', 'Half open'], ['closed', 'Closed']]} /><//>
    <${Loaded} source=${source} lines=${6}>${({ circuit_breakers: list }) =>
      list.length > 0
        ? html`<${Table} label="Circuit breakers" rows=${list.slice(0, SHOWN)} keyOf=${breakerKey}
          columns=${breakerColumns(source.reload)} />
          ${list.length > SHOWN && html`<p
            class="more muted">The ${SHOWN} of ${list.length} that changed last are shown. Filter by state to see others.</p>`}`
        : html`<${Empty} title="No circuit breaker">None ${state ? 'with this state ' : ''}changed within the last day.<//>`}<//>
  <//>`;
}
