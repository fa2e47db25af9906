// Makes an endpoint, and shows its secret.
import { html } from '../view.js';
import { call, part } from '../api.js';
import { compose } from '../rawjson.js';
import { go } from '../router.js';
import { tenantHref } from '../session.js';
import { useForm } from '../ui/form.js';
import { Page } from '../ui/page.js';
import { toast } from '../ui/toast.js';
import { EMPTY, EndpointForm, membersOf } from './endpoint-form.js';
import { showSecrets } from './secrets.js';
import { tenantCrumbs } from './tenant-frame.js';

export default function NewEndpoint({ tenant }) {
  const form = useForm(EMPTY);
  const create = async (values) => {
    const { data } = await call('POST', `tenants/${part(tenant)}/endpoints`, { body: compose(membersOf(values)) });
    toast('The endpoint is created');
    go(tenantHref(tenant, `/endpoints/${data.id}`));
    // The dialog closes when the address changes, so it opens after that.
    addEventListener('hashchange', () => setTimeout(() => showSecrets('The endpoint is created', [data])), { once: true });
  };
  return html`<${Page} title="New endpoint" crumbs=${tenantCrumbs(tenant, ['/endpoints', 'Endpoints'])}>
    <${EndpointForm} form=${form} work=${create} action="Create endpoint" cancel=${tenantHref(tenant, '/endpoints')} />
  <//>`;
}
