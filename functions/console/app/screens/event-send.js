// A form that sends an event, for tests.
import { html, useRef } from '../view.js';
import { call, faults, part } from '../api.js';
import { useLive } from '../live.js';
import { Raw, compose, syntaxFault } from '../rawjson.js';
import { goUnlessLeft } from '../router.js';
import { tenantHref } from '../session.js';
import { CopyCurl } from '../ui/copy.js';
import { Form, JsonField, TextField, useForm } from '../ui/form.js';
import { Page } from '../ui/page.js';
import { toast } from '../ui/toast.js';
import { tenantCrumbs } from './tenant-frame.js';

/** An id of the form itself: if an answer is lost, what is sent again counts as the same event. */
const newId = () => `console-${crypto.randomUUID()}`;

export default function SendEvent({ tenant, query }) {
  const form = useForm({ event_type: query.event_type ?? '', event_id: '', payload: '{\n  "hello": "world"\n}' });
  const types = useLive('event-types', { query: { limit: 200 }, every: 0 });
  const known = types.data?.event_types ?? [];
  const example = known.find(({ name }) => name === form.values.event_type)?.example;
  const path = `tenants/${part(tenant)}/events`;
  const ownId = useRef(null);
  ownId.current ??= newId();
  const bodyOf = ({ event_type, event_id, payload }) => compose({ event_type, event_id: event_id || ownId.current, payload: new Raw(payload) });
  const send = async (values) => {
    const fault = syntaxFault(values.payload);
    if (fault) throw faults({ payload: fault });
    const go = goUnlessLeft();
    const { data } = await call('POST', path, { body: bodyOf(values) });
    toast(data.duplicate ? 'This event was accepted before' : 'The event is accepted');
    go(tenantHref(tenant, `/events/${part(data.event_id)}`));
  };
  return html`<${Page} title="Send an event" crumbs=${tenantCrumbs(tenant, ['/events', 'Events'])}
    actions=${html`<${CopyCurl} path=${path} method="POST" body=${bodyOf(form.values)} />`}>
    <p class="lead">It goes to all endpoints of the tenant that want its type, as an event of your own service would.</p>
    <${Form} form=${form} work=${send} label="Send an event" action="Send event" cancel=${tenantHref(tenant, '/events')}
      look=${html`You may send it again as it is: an event with the same id is accepted once. <a href=${tenantHref(tenant, '/events')}>See the events</a>.`}>
      <${TextField} ...${form.bind('event_type')} label="Event type" list="known-types" autocomplete="off"
        hint="A dotted name, such as order.paid." />
      <datalist id="known-types">${known.map(({ name }) => html`<option key=${name} value=${name} />`)}</datalist>
      <${JsonField} ...${form.bind('payload')} label="Payload" rows=${10}
        hint="Any JSON. Receivers get it byte for byte." />
      ${example !== undefined && html`<p><button type="button" class="button"
        onClick=${() => form.set('payload', JSON.stringify(example, null, 2))}>Use the example of ${form.values.event_type}</button></p>`}
      <${TextField} ...${form.bind('event_id')} label="Event id (optional)" autocomplete="off"
        placeholder=${ownId.current}
        hint="An event with the same id is accepted once. Without one, it gets the one shown." />
    <//>
  <//>`;
}
