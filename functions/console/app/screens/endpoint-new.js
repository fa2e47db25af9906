// Makes an endpoint, and shows its secret.
import { html } from '../view.js';
import { call, part } from '../api.js';
import { compose } from '../rawjson.js';
import { goUnlessLeft } from '../router.js';
import { tenantHref } from '../session.js';
import { useForm } from '../ui/form.js';
import { Page } from '../ui/page.js';
import { toast } from '../ui/toast.js';
import { EndpointForm } from './endpoint-form.js';
import { EMPTY, membersOf } from './endpoint-values.js';
import { showSecrets } from './secrets.js';
import { tenantCrumbs } from './tenant-frame.js';

export default function NewEndpoint({ tenant }) {
  const form = useForm(EMPTY);
  const create = async (values) => {
    const go = goUnlessLeft();
    const { data } = await call('POST', `tenants/${part(tenant)}/endpoints`, { body: compose(membersOf(values)) });
    toast('The endpoint is created');
    // The dialog closes when the address changes, so it opens after that. Whoever has left finds the secret at the endpoint.
    const show = () => setTimeout(showSecrets, 0, 'The endpoint is created', [data]);
    if (go(tenantHref(tenant, `/endpoints/${data.id}`))) addEventListener('hashchange', show, { once: true });
  };
  return html`<${Page} title="New endpoint" crumbs=${tenantCrumbs(tenant, ['/endpoints', 'Endpoints'])}>
    <${EndpointForm} form=${form} work=${create} action="Create endpoint" cancel=${tenantHref(tenant, '/endpoints')}
      look=${html`<a href=${tenantHref(tenant, '/endpoints')}>See the endpoints</a>: it may be there.`} />
  <//>`;
}
