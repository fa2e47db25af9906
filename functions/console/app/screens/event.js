// One event: its payload, how far its fan-out is, and its deliveries.
import { html } from '../view.js';
import { call, part } from '../api.js';
import { useLive } from '../live.js';
import { usePages } from '../pages.js';
import { member } from '../rawjson.js';
import { mayWrite, tenantHref } from '../session.js';
import { CopyCurl, Id } from '../ui/copy.js';
import { confirm } from '../ui/dialog.js';
import { State } from '../ui/icons.js';
import { Facts, Page, Section } from '../ui/page.js';
import { Payload } from '../ui/payload.js';
import { Empty, Loaded } from '../ui/states.js';
import { List } from '../ui/table.js';
import { Ago, At } from '../ui/time.js';
import { toast } from '../ui/toast.js';
import { count, number } from '../ui/words.js';
import { lifeColumns, lifeKey } from './life-columns.js';
import { tenantCrumbs } from './tenant-frame.js';

function eraseEvent(tenant, event, path, source) {
  confirm({
    title: 'Erase the payload?',
    action: 'Erase payload',
    typed: 'erase',
    facts: async () => {
      const { data } = await call('GET', `${path}/deliveries?limit=200`);
      return html`<p>The payload of <code>${event}</code> is erased for good, with the answers of receivers in
        ${' '}<b>${count(data.deliveries.length, 'ended delivery', 'ended deliveries', Boolean(data.next_cursor))}</b>. Its
          dead letters are deleted, and deliveries
        that still wait are not sent. The event stays in lists, and its id is refused for 15 days.</p>`;
    },
    run: async () => {
      await call('DELETE', `${path}/payload`);
      toast('The payload is being erased');
      source.reload();
    },
  });
}

export default function Event({ tenant, event }) {
  const path = `tenants/${part(tenant)}/events/${part(event)}`;
  const source = useLive(path);
  const deliveries = usePages(`${path}/deliveries`, { pick: 'deliveries', keyOf: lifeKey });
  const state = source.data?.erased_at ? 'erased' : source.data?.status;
  const canErase = mayWrite() && source.data && !source.data.erased_at;
  return html`<${Page} title=${event} crumbs=${tenantCrumbs(tenant, ['/events', 'Events'])}
      lead=${state && html`<${State} of=${state} />`}
      actions=${html`<${CopyCurl} path=${path} />
        ${canErase && html`<button type="button" class="button danger-quiet"
        onClick=${() => eraseEvent(tenant, event, path, source)}>Erase payload</button>`}`}>
    <${Loaded} source=${source} lines=${6}>${(data) => html`<div class="columns">
      <${Facts} label="Event" of=${[
        ['Type', html`<code class="chip">${data.event_type}</code>`],
        ['Accepted', html`<${At} at=${data.accepted_at} />`],
        ['Message id', html`<${Id} value=${data.webhook_id} what="message id" />`],
        ['Correlation id', html`<${Id} value=${data.correlation_id} what="correlation id" />`],
        ['Matched', data.matched !== undefined && count(data.matched, 'endpoint')],
        ['Queued at once', data.queued !== undefined && number(data.queued)],
        ['Owed to paused endpoints', data.owed > 0 && number(data.owed)],
        ['Error', data.error],
        ['Fan-out goes on', data.next_attempt_at && html`<${Ago} at=${data.next_attempt_at} />`],
        ['Erased', data.erased_at && html`<${At} at=${data.erased_at} />`],
      ]} />
      <${Section} title="Payload">
        ${data.erased_at
          ? html`<p class="muted">The payload was erased.</p>`
          : 'payload' in data
            ? html`<${Payload} text=${member(source.text, 'payload')} />`
            : html`<p class="muted">History does not have the payload. It may not be kept any more.</p>`}
      <//></div>`}
    <//>
    <${Section} title="Deliveries">
      <${List} source=${deliveries} label="Deliveries" columns=${lifeColumns(tenant, 'endpoint')} keyOf=${lifeKey}
        empty=${html`<${Empty} title="No delivery has ended yet">
        ${source.data?.matched === 0
          ? html`No endpoint wanted this event. Check the event types and filters of the <a
            href=${tenantHref(tenant, '/endpoints')}>endpoints</a>.`
          : html`Deliveries show here once they are delivered or given up. What waits is listed on the page of its <a
            href=${tenantHref(tenant, '/endpoints')}>endpoint</a>.`}<//>`} />
    <//>
  <//>`;
}
