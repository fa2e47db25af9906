// One endpoint: its health, what it is owed, its configuration, its deliveries, and what can be done to it.
import { html } from '../view.js';
import { part } from '../api.js';
import { useLive } from '../live.js';
import { usePages } from '../pages.js';
import { member } from '../rawjson.js';
import { setQuery } from '../router.js';
import { mayWrite, tenantHref } from '../session.js';
import { useAction } from '../ui/action.js';
import { CopyCurl, Id } from '../ui/copy.js';
import { State } from '../ui/icons.js';
import { Facts, Page, Section } from '../ui/page.js';
import { Payload } from '../ui/payload.js';
import { Empty, Loaded } from '../ui/states.js';
import { List } from '../ui/table.js';
import { Ago, At, duration } from '../ui/time.js';
import { count, number } from '../ui/words.js';
import { HealthWord } from '../health.js';
import { EventTypes } from './endpoint-columns.js';
import { deleteEndpoint, pause, resume, sendTest } from './endpoint-actions.js';
import { lifeColumns, lifeKey } from './life-columns.js';
import { revealSecrets, rotateSecret } from './secrets.js';
import { tenantCrumbs } from './tenant-frame.js';

const WHY = { asked: 'somebody asked for it', gone: 'the receiver answered 410', failing: 'it failed for too long' };

function Actions({ tenant, path, source }) {
  const { data, reload } = source;
  const pausing = useAction(() => pause(path, data, reload));
  const revealing = useAction(() => revealSecrets(path));
  const below = (name) => tenantHref(tenant, `/endpoints/${data.id}/${name}`);
  return html`<div class="buttons" role="group" aria-label="Actions">
      <button type="button" class="button primary" onClick=${() => sendTest(tenant, path)}>Send test</button>
      ${data.state === 'enabled'
        ? html`<button type="button" class="button" aria-disabled=${pausing.busy} onClick=${pausing.run}>Pause</button>`
        : html`<button type="button" class="button" onClick=${() => resume(path, reload)}>Resume</button>`}
      <a class="button" href=${below('edit')}>Edit</a>
      <a class="button" href=${below('replay')}>Replay</a>
      <button type="button" class="button" aria-disabled=${revealing.busy} onClick=${revealing.run}>Reveal secret</button>
      <button type="button" class="button" onClick=${() => rotateSecret(path, reload)}>Rotate secret</button>
      <button type="button" class="button danger-quiet" onClick=${() => deleteEndpoint(tenant, path, data)}>Delete</button>
    </div>
    ${pausing.problem}${revealing.problem}`;
}

const OwedText = ({ owed }) => html`${count(owed.deliveries, 'delivery', 'deliveries', owed.is_more)}
  ${owed.oldest_accepted_at && html`, the oldest from <${Ago} at=${owed.oldest_accepted_at} />`}`;

function Health({ data }) {
  const { health, owed, catch_up: catchUp } = data;
  return html`<${Section} title="Health" actions=${html`<${HealthWord} of=${data} />`}>
    ${!health && html`<p class="muted">The health cannot be read at the moment.</p>`}
    ${catchUp.state === 'pending' && html`<p class="notice" role="status"><${State} of="running" word="Catching up" /><span>
      ${owed ? count(owed.deliveries, 'owed delivery', 'owed deliveries', owed.is_more) : ''} still to be sent, the oldest first.</span></p>`}
    <${Facts} label="Health" of=${[
      ['Circuit breaker', health && html`<${State} of=${health.breaker} />
        ${health.retry_at && html` probe <${Ago} at=${health.retry_at} />`}`],
      ['Connections to the host', health && html`<${State} of=${health.host_breaker} />
        ${health.host_retry_at && html` probe <${Ago} at=${health.host_retry_at} />`}`],
      ['Failing since', health?.failing_since && html`<${Ago}
        at=${health.failing_since} />, ${count(health.failures, 'failure')}`],
      ['Last success', health && html`<${Ago} at=${health.last_success_at} />`],
      ['Last failure', health?.last_failure_at && html`<${Ago} at=${health.last_failure_at} />`],
      ['Last call took', health?.last_duration_ms !== undefined && duration(health.last_duration_ms)],
      ['Waiting', health && number(health.waiting)],
      ['Receiver asked to wait', health?.blocked_until && html`until <${At} at=${health.blocked_until} />`],
      ['Held by the rate', health?.advised_until && html`until <${At} at=${health.advised_until} />`],
      ['Owed', owed ? html`<${OwedText} owed=${owed} />` : 'cannot be read at the moment'],
      ['Owed and dropped until', data.owed_dropped_before && html`<${At} at=${data.owed_dropped_before} />`],
    ]} />
  <//>`;
}

const headerText = (value) => (typeof value === 'string' ? html`<code>${value}</code>` : html`<span
  class="muted">sensitive, not shown</span>`);
const named = (object, text) => Object.keys(object).length > 0 && html`<ul class="plain">
  ${Object.entries(object).map(([name, value]) => html`<li key=${name}><code>${name}</code>: ${text(value)}</li>`)}</ul>`;

function scheduleText(waits) {
  if (waits.length === 0) return 'one attempt, no retry';
  return `${count(waits.length + 1, 'attempt')}; waits ${waits.map((s) => duration(s * 1000)).join(', ')}`;
}

function Configuration({ data, text }) {
  const filter = member(text, 'filter');
  return html`<${Section} title="Configuration">
    <${Facts} label="Configuration" of=${[
      ['Id', html`<${Id} value=${data.id} what="endpoint id" />`],
      ['Your own id (uid)', data.uid && html`<${Id} value=${data.uid} what="uid" />`],
      ['Event types', html`<${EventTypes} names=${data.event_types} all />`],
      ['Retry schedule', scheduleText(data.retry_schedule_s)],
      ['Rate', data.rate_per_s ? `${data.rate_per_s} per second` : 'no limit'],
      ['Headers', named(data.headers, headerText)],
      ['Metadata', named(data.metadata, String)],
      ['Created', html`<${At} at=${data.created_at} />`],
      ['Changed', html`<${At} at=${data.updated_at} />, version ${data.version}`],
    ]} />
    ${filter && html`<h3>Filter</h3><${Payload} text=${filter} label="Filter" />`}
  <//>`;
}

const RESULTS = [['', 'Ended'], ['delivered', 'Delivered'], ['failed', 'Failed'], ['waiting', 'Waiting']];

function Deliveries({ tenant, path, result = '' }) {
  const source = usePages(`${path}/deliveries`, { query: { result }, pick: 'deliveries', keyOf: lifeKey, limit: 25 });
  const tabs = html`<div class="tabs" role="group" aria-label="Result">
    ${RESULTS.map(([value, word]) => html`<button type="button" key=${value} aria-pressed=${String(result === value)}
      onClick=${() => setQuery({ result: value })}>${word}</button>`)}
  </div>`;
  return html`<${Section} title="Deliveries" actions=${tabs}>
    <${List} source=${source} label="Deliveries" columns=${lifeColumns(tenant, 'event')} keyOf=${lifeKey}
      empty=${html`<${Empty} title=${result === 'waiting' ? 'Nothing waits' : 'There is no such delivery'}>
      ${result ? html`Choose another result to see more.` : html`Send a test, or wait for an event that this endpoint wants.`}<//>`} />
  <//>`;
}

export default function Endpoint({ tenant, endpoint, query }) {
  const path = `tenants/${part(tenant)}/endpoints/${part(endpoint)}`;
  const source = useLive(path);
  const { data } = source;
  return html`<${Page} title=${data ? data.description || data.uid || data.id : endpoint}
    crumbs=${tenantCrumbs(tenant, ['/endpoints', 'Endpoints'])}
      lead=${data && html`<${State} of=${data.state} />`} actions=${html`<${CopyCurl} path=${path} />`}>
    <${Loaded} source=${source} lines=${10}>${() => html`
      <p class="url"><${Id} value=${data.url} what="URL" /></p>
      ${data.state !== 'enabled' && html`<p class="notice warn"><${State} of=${data.state} /><span>Since <${Ago}
        at=${data.state_since} />${data.state_reason ? `, because ${WHY[data.state_reason]}` : ''}. What it would get is
          kept as owed, for 14 days by default.</span></p>`}
      ${mayWrite() && html`<${Actions} tenant=${tenant} path=${path} source=${source} />`}
      <div class="columns"><${Health} data=${data} /><${Configuration} data=${data} text=${source.text} /></div>
      <${Deliveries} tenant=${tenant} path=${path} result=${query.result} />`}
    <//>
  <//>`;
}
