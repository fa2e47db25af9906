// The tenants of the stack, and a way to one that has no endpoint yet.
import { html } from '../view.js';
import { faults, part } from '../api.js';
import { usePages } from '../pages.js';
import { isName } from '../names.js';
import { go } from '../router.js';
import { CopyCurl } from '../ui/copy.js';
import { Form, TextField, useForm } from '../ui/form.js';
import { Page, Section } from '../ui/page.js';
import { Empty } from '../ui/states.js';
import { List } from '../ui/table.js';

const columns = [
  { label: 'Tenant', kind: 'main', cell: ({ tenant }) => html`<a href="#/tenants/${part(tenant)}">${tenant}</a>` },
  { label: 'Go to', kind: 'num', cell: ({ tenant }) => html`<span class="links"><a
    href="#/tenants/${part(tenant)}/endpoints" aria-label="Endpoints of ${tenant}">Endpoints</a> <a
    href="#/tenants/${part(tenant)}/events" aria-label="Events of ${tenant}">Events</a></span>` },
];

export default function Tenants() {
  const keyOf = (row) => row.tenant;
  const source = usePages('tenants', { pick: 'tenants', keyOf, limit: 200 });
  const form = useForm({ tenant: '' });
  const open = async ({ tenant }) => {
    const name = tenant.trim();
    if (!isName('tenant', name)) throw faults({ tenant: 'has letters, digits, _ and -, at most 64, and begins with a letter or a digit' });
    go(`/tenants/${part(name)}`);
  };
  return html`<${Page} title="Tenants" actions=${html`<${CopyCurl} path=${source.address} />`}>
    <${Section} title="Go to a tenant">
      <${Form} form=${form} work=${open} label="Go to a tenant" action="Open" inline>
        <${TextField} ...${form.bind('tenant')} label="Name" autocomplete="off"
          hint="Your own id of a customer. A new one exists as soon as it has an endpoint." />
      <//>
    <//>
    <${Section} title="All tenants">
      <${List} source=${source} label="Tenants" columns=${columns} keyOf=${keyOf}
        empty=${html`<${Empty} title="There is no tenant yet">Give a name above and create its first endpoint.<//>`} />
    <//>
  <//>`;
}
