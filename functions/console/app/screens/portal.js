// The overview of a tenant's portal: its endpoints with their health, and its latest events.
import { html } from '../view.js';
import { part } from '../api.js';
import { usePages } from '../pages.js';
import { mayWrite } from '../session.js';
import { CopyCurl } from '../ui/copy.js';
import { Page, Section } from '../ui/page.js';
import { Empty } from '../ui/states.js';
import { List } from '../ui/table.js';
import { endpointColumns } from './endpoint-columns.js';
import { eventColumns } from './event-columns.js';

export default function Portal({ tenant }) {
  const base = `tenants/${part(tenant)}`;
  const endpointKey = (row) => row.id;
  const eventKey = (row) => `${row.accepted_at}#${row.event_id}`;
  const endpoints = usePages(`${base}/endpoints`, { pick: 'endpoints', keyOf: endpointKey, limit: 20 });
  const events = usePages(`${base}/events`, { pick: 'events', keyOf: eventKey, limit: 10 });
  return html`<${Page} title="Overview" actions=${html`<${CopyCurl} path=${endpoints.address} />
      ${mayWrite() && html`<a class="button primary" href="#/endpoints/+new">New endpoint</a>`}`}>
    <${Section} title="Endpoints">
      <${List} source=${endpoints} label="Endpoints" columns=${endpointColumns} keyOf=${endpointKey}
        empty=${html`<${Empty} title="There is no endpoint yet">
        An endpoint is a URL of yours that gets events. ${mayWrite() && html`<a
          href="#/endpoints/+new">Create the first one</a>.`}<//>`} />
    <//>
    <${Section} title="Latest events" actions=${html`<a href="#/events">All events</a>`}>
      <${List} source=${events} label="Latest events" columns=${eventColumns(tenant)} keyOf=${eventKey}
        empty=${html`<${Empty} title="There was no event yet">Events show here as soon as something happens that you can be told about.<//>`} />
    <//>
  <//>`;
}
