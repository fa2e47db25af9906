// The events of a tenant, newest first.
import { html } from '../view.js';
import { part } from '../api.js';
import { usePages } from '../pages.js';
import { mayWrite, tenantHref } from '../session.js';
import { CopyCurl } from '../ui/copy.js';
import { Filters, TextFilter, TimeFilter } from '../ui/filters.js';
import { Page } from '../ui/page.js';
import { Empty } from '../ui/states.js';
import { List } from '../ui/table.js';
import { eventColumns } from './event-columns.js';
import { TenantTabs, tenantCrumbs } from './tenant-frame.js';

export default function Events({ tenant, query }) {
  const { event_type, since, until } = query;
  const keyOf = (row) => `${row.accepted_at}#${row.event_id}`;
  const source = usePages(`tenants/${part(tenant)}/events`, { query: { event_type, since, until }, pick: 'events', keyOf });
  const isFiltered = event_type || since || until;
  const sendHref = tenantHref(tenant, '/events/+send');
  return html`<${Page} title="Events" crumbs=${tenantCrumbs(tenant)} actions=${html`
      <${CopyCurl} path=${source.address} />
      ${mayWrite() && html`<a class="button primary" href=${sendHref}>Send an event</a>`}`}>
    <${TenantTabs} tenant=${tenant} here="/events" />
    <${Filters}>
      <${TextFilter} name="event_type" label="Event type" placeholder="order.paid or order.*" query=${query} />
      <${TimeFilter} name="since" label="Since" query=${query} />
      <${TimeFilter} name="until" label="Until" query=${query} />
    <//>
    <${List} source=${source} label="Events" columns=${eventColumns(tenant)} keyOf=${keyOf} empty=${isFiltered
      ? html`<${Empty} title="No event matches">Events are kept for seven days by default. <a
        href=${tenantHref(tenant, '/events')}>Show all events</a>.<//>`
      : html`<${Empty} title="There was no event yet">
        ${mayWrite() ? html`<a href=${sendHref}>Send one for a test</a>, or ` : ''}call <code>POST /tenants/${tenant}/events</code>.<//>`} />
  <//>`;
}
