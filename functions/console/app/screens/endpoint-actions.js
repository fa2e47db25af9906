// What can be done to an endpoint: pause, resume, test, delete. Numbers are read before anything is confirmed.
import { html } from '../view.js';
import { call, faults } from '../api.js';
import { useLive } from '../live.js';
import { goUnlessLeft } from '../router.js';
import { tenantHref } from '../session.js';
import { confirm, openDialog } from '../ui/dialog.js';
import { CheckField, Form, JsonField, TextField, useForm } from '../ui/form.js';
import { Raw, compose, syntaxFault } from '../rawjson.js';
import { ProblemBox, Skeleton } from '../ui/states.js';
import { State } from '../ui/icons.js';
import { Timeline } from '../ui/timeline.js';
import { toast } from '../ui/toast.js';
import { count } from '../ui/words.js';

const owedWords = (owed) =>
  owed ? count(owed.deliveries, 'owed delivery', 'owed deliveries', owed.is_more) : 'an unknown number of owed deliveries';
const waitingWords = (health) =>
  health ? count(health.waiting, 'waiting delivery', 'waiting deliveries') : 'an unknown number of waiting deliveries';

async function change(path, body, version) {
  await call('PATCH', path, { body, headers: { 'if-match': `"${version}"` } });
}

export async function pause(path, endpoint, reload) {
  await change(path, { state: 'paused' }, endpoint.version);
  toast('The endpoint is paused');
  reload();
}

export const resume = (path, reload) =>
  openDialog('Resume the endpoint', (close) => html`<${Resumption} path=${path} reload=${reload} close=${close} />`);

function Resumption({ path, reload, close }) {
  const source = useLive(path);
  const form = useForm({ drop: false });
  if (!source.data) {
    return html`
      ${source.error ? html`<${ProblemBox} problem=${source.error} retry=${source.reload} />` : html`<${Skeleton} lines=${3} />`}
      <p class="buttons"><button type="button" class="button" onClick=${close}>Cancel</button></p>`;
  }
  const { owed, version } = source.data;
  const owes = !owed || owed.deliveries > 0;
  const run = async ({ drop }) => {
    await change(path, drop ? { state: 'enabled', catch_up: false } : { state: 'enabled' }, version);
    toast(drop ? 'The endpoint is enabled, and what it was owed is dropped' : 'The endpoint is enabled');
    reload();
    close();
  };
  const { drop } = form.values;
  return html`<${Form} form=${form} work=${run} label="Resume the endpoint"
    action=${drop ? 'Resume and drop owed' : 'Resume'} cancel=${close}>
    <p>${!owes
      ? 'Nothing is owed. New events are delivered at once.'
      : drop
        ? html`New events are delivered. <b>${owedWords(owed)}</b> will be given up and never sent.`
        : html`Resuming will deliver <b>${owedWords(owed)}</b>, the oldest first, beginning within two minutes.`}</p>
    ${owes && html`<${CheckField} ...${form.bind('drop')} label="Drop what is owed instead"
      hint="For a receiver that does not want old events. This cannot be undone." />`}
  <//>`;
}

export function deleteEndpoint(tenant, path, endpoint) {
  let version = endpoint.version;
  confirm({
    title: 'Delete the endpoint?',
    action: 'Delete endpoint',
    facts: async () => {
      const { data } = await call('GET', path);
      version = data.version;
      return html`<p><code>${data.url}</code> gets no more events. <b>${owedWords(data.owed)}</b> and
        ${' '}<b>${waitingWords(data.health)}</b> are given up. This cannot be undone.</p>`;
    },
    run: async () => {
      const go = goUnlessLeft();
      await call('DELETE', path, { headers: { 'if-match': `"${version}"` } });
      toast('The endpoint is deleted');
      go(tenantHref(tenant, '/endpoints'));
    },
  });
}

export const sendTest = (tenant, path) =>
  openDialog('Send a test', (close) => html`<${Test} tenant=${tenant} path=${path} close=${close} />`);

function Test({ path, tenant, close }) {
  const form = useForm({ event_type: '', payload: '', sent: null });
  const { sent } = form.values;
  const send = async ({ event_type, payload }) => {
    const fault = payload.trim() && syntaxFault(payload);
    if (fault) throw faults({ payload: fault });
    const body = compose({ event_type: event_type.trim() || undefined, payload: payload.trim() ? new Raw(payload) : undefined });
    const { data } = await call('POST', `${path}/test`, { body });
    form.set('sent', data);
  };
  if (sent) return html`<${TestAnswer} sent=${sent} tenant=${tenant} close=${close}
    again=${() => form.set('sent', null)} />`;
  return html`<${Form} form=${form} work=${send} label="Send a test" action="Send test" cancel=${close}
    look="A test that was sent is among the deliveries of the endpoint.">
    <p>One call is made at once, also to a paused endpoint. It is not retried.</p>
    <${TextField} ...${form.bind('event_type')} label="Event type" placeholder="steadhook.test" autocomplete="off" />
    <${JsonField} ...${form.bind('payload')} label="Payload (optional)" rows=${4}
      hint="Any JSON. Without it, a short one is made." />
  <//>`;
}

function TestAnswer({ sent, tenant, close, again }) {
  const isDone = ({ status }) => ['delivered', 'failed'].includes(status);
  const source = useLive(sent.status_url.replace(/^\//, ''), { every: 1_000, ended: isDone });
  const delivery = source.data;
  const done = delivery && isDone(delivery);
  // The service does not know it before its attempt begins.
  const failed = source.error?.status !== 404 && source.error;
  const [eventId, endpointId] = sent.delivery_id.split('.');
  return html`<div aria-live="polite">
      ${failed && html`<${ProblemBox} problem=${failed} retry=${source.reload} />`}
      <p>${done ? html`<${State} of=${delivery.status}
        word=${delivery.status === 'delivered' ? 'The receiver took it' : 'The test failed'} />` : html`<${State} of="run"
        word="Waiting for the answer …" />`}</p>
      ${done && html`<${Timeline} attempts=${delivery.attempts} total=${delivery.attempt_count}
        acceptedAt=${delivery.accepted_at} />`}
    </div>
    <p class="buttons">
      ${done && html`<a class="button" href=${tenantHref(tenant, `/events/${eventId}/deliveries/${endpointId}`)}>Details</a>`}
      <button type="button" class="button" onClick=${again}>Send another</button>
      <button type="button" class="button primary" onClick=${close}>Done</button>
    </p>`;
}
