// Sends many deliveries of an endpoint again. A dry run says how many before anything is sent.
import { html } from '../view.js';
import { call, faults, part } from '../api.js';
import { now } from '../clock.js';
import { useLive } from '../live.js';
import { goUnlessLeft } from '../router.js';
import { tenantHref } from '../session.js';
import { useAction } from '../ui/action.js';
import { Form, SelectField, TextField, useForm } from '../ui/form.js';
import { TypesField } from '../ui/list-fields.js';
import { Page, Section } from '../ui/page.js';
import { duration, fromField, toField } from '../ui/time.js';
import { toast } from '../ui/toast.js';
import { count, number } from '../ui/words.js';
import { Progress } from './replay-progress.js';
import { tenantCrumbs } from './tenant-frame.js';

const DAY_MS = 86_400_000;
const FASTEST = 500;

function bodyOf({ what, since, until, event_types, per_second }, dry_run) {
  const found = {};
  if (!since) found.since = 'is needed: only events since then are looked at';
  const rate = Number(per_second);
  if (!Number.isInteger(rate) || rate < 1 || rate > FASTEST) found.per_second = `must be a whole number from 1 to ${FASTEST}`;
  if (Object.keys(found).length > 0) throw faults(found);
  return {
    what,
    since: fromField(since),
    until: fromField(until) || undefined,
    event_types: event_types.length > 0 ? event_types : undefined,
    per_second: rate,
    dry_run,
  };
}

export default function NewReplay({ tenant, endpoint }) {
  const base = `tenants/${part(tenant)}`;
  const here = `${base}/endpoints/${part(endpoint)}`;
  const form = useForm({
    what: 'failed',
    since: toField(new Date(now() - DAY_MS).toISOString()),
    until: '',
    event_types: [],
    per_second: '10',
    tried: null,
  });
  const types = useLive('event-types', { query: { limit: 200 }, every: 0 });
  const { tried } = form.values;
  const counting = useLive(tried && `${base}/replays/${tried.id}`, { every: 1_000, ended: ({ state }) => state !== 'running' });
  const back = tenantHref(tenant, `/endpoints/${endpoint}`);
  const dryRun = async (values) => {
    const body = bodyOf(values, true);
    const { data } = await call('POST', `${here}/replays`, { body });
    // What is started later is exactly what was counted, also when the fields are changed meanwhile.
    form.set('tried', { id: data.replay_id, body: { ...body, until: data.until } });
  };
  const start = useAction(async () => {
    const go = goUnlessLeft();
    const { data } = await call('POST', `${here}/replays`, { body: { ...tried.body, dry_run: false } });
    if (!go(tenantHref(tenant, `/endpoints/${endpoint}/replays/${data.replay_id}`))) toast('The replay has begun');
  }, html`<a href=${back}>See the deliveries of the endpoint</a>: what is sent again is among them.`);
  const counted = counting.data?.state !== 'running' && counting.data;
  return html`<${Page} title="Replay deliveries"
    crumbs=${tenantCrumbs(tenant, ['/endpoints', 'Endpoints'], [`/endpoints/${endpoint}`, endpoint])}>
    <p class="lead">Sends many deliveries of this endpoint again. A dry run counts them first and sends nothing.</p>
    <${Form} form=${form} work=${dryRun} label="Replay" action="Dry run" cancel=${back}>
      <${SelectField} ...${form.bind('what')} label="What to send"
        hint="Failed ones were given up and never delivered. Missing ones were never made, though the endpoint wants their events now."
        options=${[['failed', 'Deliveries that failed'], ['missing', 'Deliveries that are missing']]} />
      <div class="pair">
        <${TextField} ...${form.bind('since')} label="Since" type="datetime-local" />
        <${TextField} ...${form.bind('until')} label="Until (optional)" type="datetime-local" />
      </div>
      <${TypesField} ...${form.bind('event_types')} label="Event types (optional)" known=${types.data?.event_types ?? []} />
      <${TextField} ...${form.bind('per_second')} label="Deliveries per second" type="number" min="1" max=${FASTEST} />
    <//>
    ${tried && html`<${Section} title="Dry run">
      <${Progress} source=${counting} />
      ${counted && html`
        <p>${counted.matched > 0
          ? html`Starting will send <b>${count(counted.matched, 'delivery', 'deliveries')}</b> to the receiver, ${number(tried.body.per_second)} a second,
              in about ${duration((counted.matched / tried.body.per_second) * 1000)}.`
          : 'Nothing matches, so there is nothing to send.'}</p>
        ${start.problem}
        <p class="buttons"><button type="button" class="button danger"
          disabled=${counted.matched === 0 || counted.state !== 'done' || start.busy} onClick=${start.run}>
          ${`Send ${count(counted.matched, 'delivery', 'deliveries')} again`}</button></p>`}
    <//>`}
  <//>`;
}
