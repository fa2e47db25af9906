// Changes an endpoint. Only what differs is sent, on the condition that nobody changed the endpoint meanwhile.
import { html, useState } from '../view.js';
import { Problem } from '../http.js';
import { call, part } from '../api.js';
import { useLive } from '../live.js';
import { Raw, compose, member } from '../rawjson.js';
import { goUnlessLeft } from '../router.js';
import { tenantHref } from '../session.js';
import { useForm } from '../ui/form.js';
import { Page } from '../ui/page.js';
import { Loaded } from '../ui/states.js';
import { toast } from '../ui/toast.js';
import { EndpointForm } from './endpoint-form.js';
import { LABELS, membersOf, valuesOf } from './endpoint-values.js';
import { tenantCrumbs } from './tenant-frame.js';

const asText = (value) => (value instanceof Raw ? value.text : JSON.stringify(value));

/** A merge patch between two objects of names: what is gone becomes null. */
function patchOf(was = {}, now = {}) {
  const valueOf = (name) => (Object.hasOwn(was, name) ? was[name] : undefined);
  const gone = Object.keys(was).filter((name) => !Object.hasOwn(now, name)).map((name) => [name, null]);
  const changed = Object.entries(now).filter(([name, value]) => asText(valueOf(name)) !== asText(value));
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

/** What is known of the endpoint: the values of its fields, and the version that a change is made on. */
const baseOf = ({ data, text, etag }) => ({ endpoint: data, values: valuesOf(data, member(text, 'filter')), etag });

const differing = (one, other) =>
  Object.keys(LABELS).filter((name) => JSON.stringify(one[name]) !== JSON.stringify(other[name])).map((name) => LABELS[name]);

/** Shown after somebody else changed the endpoint. `differ` are the labels of the fields whose values are others now. */
const Conflict = ({ differ, take, keep }) => html`<div class="notice warn">
  <p>${differ.length > 0
    ? html`On the service, these differ from what is below: <b>${differ.join(', ')}</b>.`
    : 'On the service, every field is as below. Something else of the endpoint changed.'}</p>
  <p class="buttons"><button type="button" class="button" onClick=${take}>Take the service's values</button>
  <button type="button" class="button" onClick=${keep}>Keep mine and save over it</button></p>
</div>`;

function EditForm({ first, path, back }) {
  const [base, setBase] = useState(() => baseOf(first));
  const [newer, setNewer] = useState(null);
  const form = useForm(base.values);
  const saveOver = (from) => async (values) => {
    const go = goUnlessLeft();
    const patch = changes(membersOf(from.values), membersOf(values));
    if (Object.keys(patch).length === 0) return go(back);
    try {
      await call('PATCH', path, { body: compose(patch), headers: { 'if-match': from.etag } });
    } catch (error) {
      if (error.status !== 412) throw error;
      setNewer(baseOf(await call('GET', path)));
      throw new Problem({
        status: 412,
        title: 'The endpoint changed meanwhile',
        detail: 'Nothing was saved, and what you typed is still here. Choose above what becomes of it.',
      });
    }
    toast('The endpoint is changed');
    return go(back);
  };
  const settle = () => {
    setBase(newer);
    setNewer(null);
    form.setProblem(null);
  };
  const take = () => {
    form.fill(newer.values);
    settle();
  };
  const keep = (event) => {
    settle();
    form.submit(saveOver(newer))(event);
  };
  return html`
    ${newer && html`<${Conflict} differ=${differing(newer.values, form.values)} take=${take} keep=${keep} />`}
    <${EndpointForm} form=${form} work=${saveOver(base)} before=${base.endpoint} action="Save changes" cancel=${back}
      look="You may save again: if it was done, you are told that the endpoint changed." />`;
}

export default function EditEndpoint({ tenant, endpoint }) {
  const path = `tenants/${part(tenant)}/endpoints/${part(endpoint)}`;
  // Read once: a form must not change below the reader's hands.
  const source = useLive(path, { every: 0 });
  const back = tenantHref(tenant, `/endpoints/${endpoint}`);
  return html`<${Page} title="Edit endpoint"
    crumbs=${tenantCrumbs(tenant, ['/endpoints', 'Endpoints'], [`/endpoints/${endpoint}`, source.data?.description || endpoint])}>
    <${Loaded} source=${source} lines=${10}>
      ${() => html`<${EditForm} first=${source} path=${path} back=${back} />`}<//>
  <//>`;
}
