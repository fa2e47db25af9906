// The delivery of one event to one endpoint: every life with its attempts as a timeline.
import { html } from '../view.js';
import { call, part } from '../api.js';
import { useLive } from '../live.js';
import { setQuery, staying } from '../router.js';
import { mayWrite, tenantHref } from '../session.js';
import { CopyCurl, Id } from '../ui/copy.js';
import { confirm } from '../ui/dialog.js';
import { State } from '../ui/icons.js';
import { Facts, Page, Section } from '../ui/page.js';
import { Loaded } from '../ui/states.js';
import { At } from '../ui/time.js';
import { Timeline } from '../ui/timeline.js';
import { toast } from '../ui/toast.js';
import { useAction } from '../ui/action.js';
import { lifeKey } from './life-columns.js';
import { tenantCrumbs } from './tenant-frame.js';

const isDone = ({ status, in_flight }) => !in_flight && ['delivered', 'failed'].includes(status);

export default function Delivery({ tenant, event, endpoint, query }) {
  const path = `tenants/${part(tenant)}/events/${part(event)}/deliveries/${part(endpoint)}`;
  const source = useLive(path, {
    query: { life: query.life },
    every: 3_000,
    ended: ({ lives }) => lives.length > 0 && lives.every(isDone) && (!query.life || lives.some(({ life }) => life === query.life)),
  });
  const send = async () => {
    const isHere = staying();
    const { data } = await call('POST', `${path}/resend`);
    toast('The event is queued to be sent again');
    if (isHere()) setQuery({ life: data.life });
  };
  const resend = useAction(send, 'What is sent again shows below once its first attempt begins.');
  // Nobody should get twice what they have because of one click.
  const again = () => (source.data.status === 'delivered' ? confirm({
    title: 'Send it again?',
    action: 'Send again',
    facts: async () => html`<p>The receiver has taken this event. It gets it <b>once more</b>, with the same id.</p>`,
    run: send,
  }) : resend.run());
  return html`<${Page} title="Delivery" crumbs=${tenantCrumbs(tenant, ['/events', 'Events'], [`/events/${part(event)}`, event])}
      lead=${source.data && html`<${State} of=${source.data.in_flight ? 'in_flight' : source.data.status} />`}
      actions=${html`<${CopyCurl} path=${source.address} />
        ${mayWrite() && source.data && html`<button type="button" aria-disabled=${resend.busy}
          class=${source.data.status === 'delivered' ? 'button' : 'button primary'} onClick=${again}>Send again</button>`}`}>
    ${resend.problem}
    <${Loaded} source=${source} lines=${8}>${(data) => html`
      <${Facts} label="Delivery" of=${[
        ['Event', html`<a class="mono" href=${tenantHref(tenant, `/events/${part(event)}`)}>${event}</a>`],
        ['Endpoint', html`<a class="mono" href=${tenantHref(tenant, `/endpoints/${endpoint}`)}>${endpoint}</a>`],
        ['Type', data.event_type && html`<code class="chip">${data.event_type}</code>`],
        ['Accepted', html`<${At} at=${data.accepted_at} />`],
        ['Given up at', data.expires_at && !['delivered', 'failed'].includes(data.status) && html`<${At}
          at=${data.expires_at} />`],
        ['Message id', html`<${Id} value=${data.webhook_id} what="message id" />`],
        ['Correlation id', html`<${Id} value=${data.correlation_id} what="correlation id" />`],
      ]} />
      ${query.life && !data.lives.some(({ life }) => life === query.life) && html`<p class="notice" role="status"><${State}
        of="waiting" word="Queued" /> What was sent again shows here once its first attempt begins.</p>`}
      ${data.lives.map((life, n) => html`<${Life} key=${lifeKey(life)} life=${life} n=${n}
        isAgain=${data.lives.findIndex((other) => other.life === life.life) < n} />`)}`}
    <//>
  <//>`;
}

/** `isAgain`: an earlier end of the same life is shown above, and a redrive or a catch-up went on from there. */
function Life({ life, n, isAgain }) {
  const title = `${life.life ? `Sent again, ${life.life}` : 'First delivery'}${isAgain ? ', gone on with' : ''}`;
  return html`<${Section} id="life-${n}" title=${title}
    actions=${html`<${State} of=${life.in_flight ? 'in_flight' : (life.result ?? life.status)} />`}>
    ${life.error && life.status !== 'delivered' && life.error !== life.attempts.at(-1)?.error && html`<p>${life.error}</p>`}
    <${Timeline} attempts=${life.attempts} total=${life.attempt_count}
      acceptedAt=${life.life && life.attempts[0] ? life.attempts[0].at : life.accepted_at} nextAt=${life.next_attempt_at} />
  <//>`;
}
