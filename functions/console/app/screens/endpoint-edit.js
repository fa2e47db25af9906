// Changes an endpoint. Only what differs is sent, on the condition that nobody changed the endpoint meanwhile.
import { html } from '../view.js';
import { Problem, call, part } from '../api.js';
import { useLive } from '../live.js';
import { Raw, compose, member } from '../rawjson.js';
import { go } from '../router.js';
import { tenantHref } from '../session.js';
import { useForm } from '../ui/form.js';
import { Page } from '../ui/page.js';
import { Loaded } from '../ui/states.js';
import { toast } from '../ui/toast.js';
import { EndpointForm, membersOf, valuesOf } from './endpoint-form.js';
import { tenantCrumbs } from './tenant-frame.js';

const asText = (value) => (value instanceof Raw ? value.text : JSON.stringify(value));

/** A merge patch between two objects of names: what is gone becomes null. */
function patchOf(was = {}, now = {}) {
  const gone = Object.keys(was).filter((name) => !(name in now)).map((name) => [name, null]);
  const changed = Object.entries(now).filter(([name, value]) => asText(was[name]) !== asText(value));
  return Object.fromEntries([...gone, ...changed]);
}

function changes(was, now) {
  const patch = patchOf(was, now);
  // Undefined members of `now` are those that were emptied.
  for (const [name, value] of Object.entries(patch)) if (value === undefined) patch[name] = null;
  for (const name of ['headers', 'metadata']) {
    if (name in patch) patch[name] = patchOf(was[name], now[name]);
  }
  return patch;
}

function EditForm({ source, endpoint, path, back }) {
  const before = valuesOf(endpoint, member(source.text, 'filter'));
  const form = useForm(before);
  const save = async (values) => {
    const patch = changes(membersOf(before), membersOf(values));
    if (Object.keys(patch).length === 0) return go(back);
    try {
      await call('PATCH', path, { body: compose(patch), headers: { 'if-match': source.etag } });
    } catch (error) {
      if (error.status !== 412) throw error;
      throw new Problem({
        status: 412,
        title: 'The endpoint changed meanwhile',
        detail: 'Nothing was saved. Reload the endpoint to see its present values, and make your change again.',
      });
    }
    toast('The endpoint is changed');
    return go(back);
  };
  return html`
    ${form.problem?.status === 412 && html`<p class="notice warn">
      <span>The values below are older than those of the service.</span><button type="button" class="button"
      onClick=${source.reload}>Reload the endpoint</button></p>`}
    <${EndpointForm} form=${form} work=${save} before=${endpoint} action="Save changes" cancel=${back} />`;
}

export default function EditEndpoint({ tenant, endpoint }) {
  const path = `tenants/${part(tenant)}/endpoints/${part(endpoint)}`;
  // Read once: a form must not change below the reader's hands.
  const source = useLive(path, { every: 0 });
  const back = tenantHref(tenant, `/endpoints/${endpoint}`);
  return html`<${Page} title="Edit endpoint"
    crumbs=${tenantCrumbs(tenant, ['/endpoints', 'Endpoints'], [`/endpoints/${endpoint}`, source.data?.description || endpoint])}>
    <${Loaded} source=${source} lines=${10}>
      ${(data) => html`<${EditForm} key=${data.version} source=${source} endpoint=${data} path=${path} back=${back} />`}<//>
  <//>`;
}
