// A replay while it runs and after: its numbers, and a button that stops it.
import { html } from '../view.js';
import { call, part } from '../api.js';
import { useLive } from '../live.js';
import { mayWrite, tenantHref } from '../session.js';
import { useAction } from '../ui/action.js';
import { CopyCurl, Id } from '../ui/copy.js';
import { Facts, Page, Section } from '../ui/page.js';
import { At } from '../ui/time.js';
import { toast } from '../ui/toast.js';
import { Progress } from './replay-progress.js';
import { tenantCrumbs } from './tenant-frame.js';

export default function Replay({ tenant, endpoint, replay }) {
  const path = `tenants/${part(tenant)}/replays/${part(replay)}`;
  const source = useLive(path, { every: 1_500, ended: ({ state }) => state !== 'running' });
  const { data } = source;
  const stop = useAction(async () => {
    await call('DELETE', path);
    toast('The replay is stopped. What is queued already is sent.');
    source.reload();
  });
  return html`<${Page} title="Replay" crumbs=${tenantCrumbs(tenant, ['/endpoints', 'Endpoints'], [`/endpoints/${endpoint}`, endpoint])}
      actions=${html`<${CopyCurl} path=${path} />
        ${mayWrite() && data?.state === 'running' && html`<button type="button" class="button danger-quiet"
          aria-disabled=${stop.busy} onClick=${stop.run}>Stop</button>`}`}>
    ${stop.problem}
    <${Progress} source=${source} />
    ${data && html`<${Section} title="What is sent">
      <${Facts} label="What is sent" of=${[
        ['Replay', html`<${Id} value=${data.replay_id} what="replay id" />`],
        ['What', data.what === 'failed' ? 'Deliveries that failed' : 'Deliveries that are missing'],
        ['Since', html`<${At} at=${data.since} />`],
        ['Until', html`<${At} at=${data.until} />`],
        ['Event types', data.event_types.length > 0 ? data.event_types.join(', ') : 'all'],
        ['Per second', data.per_second],
      ]} />
      <p><a href=${tenantHref(tenant, `/endpoints/${endpoint}`)}>See the endpoint's deliveries</a></p>
    <//>`}
  <//>`;
}
