// The endpoints of a tenant.
import { html } from '../view.js';
import { part } from '../api.js';
import { usePages } from '../pages.js';
import { mayWrite, tenantHref } from '../session.js';
import { CopyCurl } from '../ui/copy.js';
import { Filters, TextFilter } from '../ui/filters.js';
import { Page } from '../ui/page.js';
import { Empty } from '../ui/states.js';
import { List } from '../ui/table.js';
import { endpointColumns } from './endpoint-columns.js';
import { TenantTabs, tenantCrumbs } from './tenant-frame.js';

export default function Endpoints({ tenant, query }) {
  const keyOf = (row) => row.id;
  const { uid = '' } = query;
  const source = usePages(`tenants/${part(tenant)}/endpoints`, { query: { uid }, pick: 'endpoints', keyOf });
  const newHref = tenantHref(tenant, '/endpoints/+new');
  return html`<${Page} title="Endpoints" crumbs=${tenantCrumbs(tenant)} actions=${html`
      <${CopyCurl} path=${source.address} />
      ${mayWrite() && html`<a class="button primary" href=${newHref}>New endpoint</a>`}`}>
    <${TenantTabs} tenant=${tenant} here="/endpoints" />
    <${Filters}><${TextFilter} name="uid" label="Your own id (uid)" query=${query} /><//>
    <${List} source=${source} label="Endpoints" columns=${endpointColumns} keyOf=${keyOf} empty=${uid
      ? html`<${Empty} title="No endpoint has this uid">Check its spelling, or <a
        href=${tenantHref(tenant, '/endpoints')}>show all endpoints</a>.<//>`
      : html`<${Empty} title="There is no endpoint yet">An endpoint is a URL that gets events. ${mayWrite() ? html`<a
        href=${newHref}>Create the first one</a>.` : ''}<//>`} />
  <//>`;
}
