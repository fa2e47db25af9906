// One dead letter: why it was given up, what it holds, and sending it again or deleting it.
import { html } from '../view.js';
import { call, part } from '../api.js';
import { useLive } from '../live.js';
import { member } from '../rawjson.js';
import { goUnlessLeft } from '../router.js';
import { mayWrite } from '../session.js';
import { useAction } from '../ui/action.js';
import { CopyCurl, Id } from '../ui/copy.js';
import { confirm } from '../ui/dialog.js';
import { State } from '../ui/icons.js';
import { Facts, Page, Section } from '../ui/page.js';
import { Payload } from '../ui/payload.js';
import { Loaded } from '../ui/states.js';
import { At } from '../ui/time.js';
import { Timeline } from '../ui/timeline.js';
import { toast } from '../ui/toast.js';
import { count, meaningOf, number } from '../ui/words.js';

/** A dead letter names the members of an attempt more shortly than history does. */
const attemptOf = ({ at, code, class: errorClass, ms, error, answer }) => (
  { at, status_code: code, error_class: errorClass, duration_ms: ms, error, answer }
);

function remove(path, id, data) {
  confirm({
    title: 'Delete the dead letter?',
    action: 'Delete',
    facts: async () => html`<p><b>1 dead letter</b>, <code>
      ${id}</code>, with its payload and ${count(data.history_count, 'attempt')}. It can never be sent again.</p>`,
    run: async () => {
      const go = goUnlessLeft();
      await call('DELETE', path);
      toast('The dead letter is deleted');
      go('/dead-letters');
    },
  });
}

const Source = ({ data }) => html`<${Facts} label="Dead letter" of=${[
  ['Reason', html`<${State} of=${data.reason} /> <span class="muted">${meaningOf(data.reason)}</span>`],
  ['Error', data.error],
  ['URL', data.webhook_url && html`<${Id} value=${data.webhook_url} what="URL" />`],
  ['Tenant', data.tenant && html`<a href="#/tenants/${part(data.tenant)}">${data.tenant}</a>`],
  ['Endpoint', data.endpoint_id && html`<a class="mono" href="#/tenants/${part(data.tenant)}/endpoints/${data.endpoint_id}">
    ${data.endpoint_id}</a>`],
  ['Event', data.event_id && html`<a class="mono" href="#/tenants/${part(data.tenant)}/events/${part(data.event_id)}">
    ${data.event_id}</a>`],
  ['Type', data.event_type && html`<code class="chip">${data.event_type}</code>`],
  ['Endpoints that have theirs', data.matched !== undefined && number(data.matched)],
  ['Attempts', number(data.history_count)],
  ['Accepted', data.accepted_at && html`<${At} at=${data.accepted_at} />`],
  ['Given up', html`<${At} at=${data.failed_at} />`],
  ['Sent again', data.redriven_at && html`<${At} at=${data.redriven_at} />`],
  ['Is sent as', data.reused_id && html`<code>${data.reused_id}</code>`],
  ['Headers', Object.keys(data.headers).length > 0 && html`<ul class="plain">
    ${Object.entries(data.headers).map(([name, value]) => html`<li key=${name}><code>${name}: ${value}</code>
    </li>`)}</ul>`],
  ['Correlation id', data.correlation_id && html`<${Id} value=${data.correlation_id} what="correlation id" />`],
]} />`;

export default function DeadLetter({ id }) {
  const path = `dead-letters/${part(id)}`;
  const source = useLive(path);
  const { data } = source;
  const redrive = useAction(async () => {
    const { data: sent } = await call('POST', `${path}/redrive`);
    toast(`It is queued as ${sent.webhook_id}`);
    source.reload();
  });
  return html`<${Page} title="Dead letter" crumbs=${[{ href: '#/dead-letters', text: 'Dead letters' }]}
    lead=${html`<code class="break">${id}</code>`}
      actions=${html`<${CopyCurl} path=${path} />
        ${mayWrite() && data && html`
          ${data.reason !== 'malformed' && html`<button type="button" class="button primary" aria-disabled=${redrive.busy}
            onClick=${redrive.run}>Redrive</button>`}
          <button type="button" class="button danger-quiet" onClick=${() => remove(path, id, data)}>Delete</button>`}`}>
    ${redrive.problem}
    <${Loaded} source=${source} lines=${8}>${() => html`
      <${Source} data=${data} />
      ${data.history.length > 0 && html`<${Section} title="Attempts"><${Timeline} attempts=${data.history.map(attemptOf)}
        total=${data.history_count} acceptedAt=${data.accepted_at ?? data.history[0].at} /><//>`}
      ${'payload' in data && html`<${Section} title="Payload"><${Payload} text=${member(source.text, 'payload')} /><//>`}
      ${data.body !== undefined && html`<${Section} title="Message that could not be read"><${Payload} text=${data.body}
        label="Message" />${data.truncated && html`<p class="muted">The text was too long and is cut.</p>`}<//>`}`}
    <//>
  <//>`;
}
