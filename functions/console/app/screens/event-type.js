// One event type: what it says, with its example and its schema.
import { html } from '../view.js';
import { call, part } from '../api.js';
import { useLive } from '../live.js';
import { member } from '../rawjson.js';
import { goUnlessLeft } from '../router.js';
import { isOperator, mayWrite } from '../session.js';
import { CopyCurl } from '../ui/copy.js';
import { confirm } from '../ui/dialog.js';
import { State } from '../ui/icons.js';
import { Facts, Page, Section } from '../ui/page.js';
import { Payload } from '../ui/payload.js';
import { Loaded } from '../ui/states.js';
import { At } from '../ui/time.js';
import { toast } from '../ui/toast.js';

function remove(path, name) {
  confirm({
    title: 'Delete the event type?',
    action: 'Delete event type',
    facts: async () => html`<p><b>1 event type</b>, <code>
      ${name}</code>, leaves the catalogue. Endpoints that name it stay as they are, and events of this type are accepted without a check.</p>`,
    run: async () => {
      const go = goUnlessLeft();
      await call('DELETE', path);
      toast('The event type is deleted');
      go('/event-types');
    },
  });
}

export default function EventType({ name }) {
  const path = `event-types/${part(name)}`;
  const source = useLive(path, { every: 30_000 });
  const { data, text } = source;
  return html`<${Page} title=${name} crumbs=${[{ href: '#/event-types', text: 'Event types' }]}
    lead=${data?.deprecated && html`<${State} of="deprecated" />`}
      actions=${html`<${CopyCurl} path=${path} />${isOperator() && mayWrite() && data && html`
        <a class="button" href="#/event-types/${part(name)}/edit">Edit</a>
        <button type="button" class="button danger-quiet" onClick=${() => remove(path, name)}>Delete</button>`}`}>
    <${Loaded} source=${source} lines=${6}>${() => html`
      ${data.description && html`<p class="lead" dir="auto">${data.description}</p>`}
      <${Facts} label="Event type" of=${[['Created', html`<${At} at=${data.created_at} />`], ['Changed', html`<${At}
        at=${data.updated_at} />`]]} />
      <${Section} title="Example">${'example' in data ? html`<${Payload} text=${member(text, 'example')}
        label="Example" />` : html`<p class="muted">There is no example.</p>`}<//>
      <${Section} title="Schema">${'schema' in data ? html`<${Payload} text=${member(text, 'schema')}
        label="Schema" />` : html`<p class="muted">There is no schema. Payloads of this type are not checked.</p>`}<//>`}
    <//>
  <//>`;
}
