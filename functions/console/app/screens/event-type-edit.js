// Describes an event type, new or changed.
import { html } from '../view.js';
import { call, faults, part } from '../api.js';
import { useLive } from '../live.js';
import { isName } from '../names.js';
import { Raw, compose, member, pretty, syntaxFault } from '../rawjson.js';
import { goUnlessLeft } from '../router.js';
import { CheckField, Form, JsonField, TextField, useForm } from '../ui/form.js';
import { Page } from '../ui/page.js';
import { Loaded } from '../ui/states.js';
import { toast } from '../ui/toast.js';

function EventTypeForm({ name, initial, back }) {
  const form = useForm({ name: name ?? '', ...initial });
  const save = async (values) => {
    const found = {};
    if (!isName('name', values.name)) found.name = 'has words of letters, digits, _ and - with dots between them';
    for (const field of ['example', 'schema']) {
      const fault = values[field].trim() && syntaxFault(values[field]);
      if (fault) found[field] = fault;
    }
    if (Object.keys(found).length > 0) throw faults(found);
    const raw = (text) => (text.trim() ? new Raw(text) : undefined);
    const { description, deprecated } = values;
    const body = compose({ description, example: raw(values.example), schema: raw(values.schema), deprecated });
    const go = goUnlessLeft();
    await call('PUT', `event-types/${part(values.name)}`, { body });
    toast('The event type is saved');
    go(`/event-types/${part(values.name)}`);
  };
  return html`<${Form} form=${form} work=${save} label="Event type" action="Save event type" cancel=${back}
    look="You may save it again: that changes nothing more.">
    ${!name && html`<${TextField} ...${form.bind('name')} label="Name" autocomplete="off" placeholder="order.paid"
      hint="Words with dots between them. It cannot be changed later." />`}
    <${TextField} ...${form.bind('description')} label="Description" autocomplete="off" />
    <${JsonField} ...${form.bind('example')} label="Example (optional)" hint="A payload of this type, as JSON." />
    <${JsonField} ...${form.bind('schema')} label="Schema (optional)" rows=${10}
      hint="A JSON Schema of payloads. The example must be valid." />
    <${CheckField} ...${form.bind('deprecated')} label="Deprecated" hint="Nobody should begin to use it." />
  <//>`;
}

export default function EditEventType({ name }) {
  const source = useLive(name && `event-types/${part(name)}`, { every: 0 });
  const back = name ? `#/event-types/${part(name)}` : '#/event-types';
  const asText = (field) => {
    const text = member(source.text, field);
    return text === undefined ? '' : pretty(text);
  };
  return html`<${Page} title=${name ? `Edit ${name}` : 'New event type'}
    crumbs=${[{ href: '#/event-types', text: 'Event types' }, ...(name ? [{ href: back, text: name }] : [])]}>
    ${name
      ? html`<${Loaded} source=${source} lines=${8}>
        ${(data) => html`<${EventTypeForm} name=${name} back=${back}
        initial=${{ description: data.description, example: asText('example'), schema: asText('schema'), deprecated: data.deprecated }} />`}<//>`
      : html`<${EventTypeForm} back=${back} initial=${{ description: '', example: '', schema: '', deprecated: false }} />`}
  <//>`;
}
