// One tenant: its endpoints by state, what they are owed, links for its portal, and its erasure.
import { html } from '../view.js';
import { call, part } from '../api.js';
import { useLive } from '../live.js';
import { mayWrite, tenantHref } from '../session.js';
import { CopyCurl } from '../ui/copy.js';
import { confirm } from '../ui/dialog.js';
import { State } from '../ui/icons.js';
import { Facts, Page, Section } from '../ui/page.js';
import { Empty, Loaded } from '../ui/states.js';
import { At } from '../ui/time.js';
import { toast } from '../ui/toast.js';
import { count, number } from '../ui/words.js';
import { makeLink } from './token-dialogs.js';
import { TenantTabs } from './tenant-frame.js';

const STATES = ['enabled', 'paused', 'disabled'];

const owedText = (owed) => (owed ? count(owed.deliveries, 'delivery', 'deliveries', owed.is_more) : 'cannot be read at the moment');

function erase(tenant, path, reload) {
  confirm({
    title: `Erase the tenant ${tenant}?`,
    action: 'Erase tenant',
    typed: tenant,
    facts: async () => {
      const { data } = await call('GET', path);
      return html`<p>This deletes <b>${count(data.endpoints, 'endpoint')}</b> (${STATES.map((state) => `${number(data.by_state[state])} ${state}`).join(', ')}),
        ${' '}<b>${owedText(data.owed)}</b> that are owed, and all events, deliveries, replays and dead letters of the tenant. Its tokens end.
          It takes minutes, and cannot be undone.</p>`;
    },
    run: async () => {
      await call('DELETE', path);
      toast('The tenant is being erased');
      reload();
    },
  });
}

const Unknown = ({ tenant }) => html`<${Empty} title="There is no such tenant yet">
  It exists as soon as it has an endpoint. ${mayWrite() && html`<a
    href=${tenantHref(tenant, '/endpoints/+new')}>Create its first endpoint</a>.`}<//>`;

export default function Tenant({ tenant }) {
  const path = `tenants/${part(tenant)}`;
  const source = useLive(path);
  const isUnknown = source.error?.status === 404 && !source.data;
  return html`<${Page} title=${tenant} crumbs=${[{ href: '#/tenants', text: 'Tenants' }]}
    actions=${html`<${CopyCurl} path=${path} />
      ${mayWrite() && html`<button type="button" class="button"
        onClick=${() => makeLink(`tenant:${tenant}`)}>Link to its portal</button>
        ${!isUnknown && html`<button type="button" class="button danger-quiet"
          onClick=${() => erase(tenant, path, source.reload)}>Erase tenant</button>`}`}`}>
    <${TenantTabs} tenant=${tenant} here="" />
    ${isUnknown
      ? html`<${Unknown} tenant=${tenant} />`
      : html`<${Loaded} source=${source} lines=${4}>${(data) => html`
        ${data.erasing && !data.erasing.done && html`<p class="notice warn" role="status"><${State} of="running"
          word="Being erased" /><span>Everything until <${At}
          at=${data.erasing.before} /> is going. New events and endpoints are refused until that is done.</span></p>`}
        <${Section} title="Endpoints" actions=${html`<a href=${tenantHref(tenant, '/endpoints')}>All endpoints</a>`}>
          <${Facts} label="Endpoints" of=${[
            ['All', number(data.endpoints)],
            ...STATES.map((state) => [html`<${State}
              of=${state} />`, number(data.by_state[state])]),
            ['Owed', owedText(data.owed)],
            ['Revision', number(data.revision)],
            ['Last erasure', data.erasing?.done && html`<${At} at=${data.erasing.before} />`],
          ]} />
        <//>`}<//>`}
  <//>`;
}
