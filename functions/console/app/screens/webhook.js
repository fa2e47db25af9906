// One direct webhook: its record, or what history knows of its end.
import { html } from '../view.js';
import { part } from '../api.js';
import { useLive } from '../live.js';
import { CopyCurl, Id } from '../ui/copy.js';
import { State } from '../ui/icons.js';
import { Facts, Page, Section } from '../ui/page.js';
import { Loaded } from '../ui/states.js';
import { Ago, At, duration } from '../ui/time.js';
import { Timeline } from '../ui/timeline.js';
import { number } from '../ui/words.js';

export default function Webhook({ id }) {
  const path = `webhook-statuses/${part(id)}`;
  const source = useLive(path);
  const { data } = source;
  return html`<${Page} title="Direct webhook" crumbs=${[{ href: '#/webhooks', text: 'Direct webhooks' }]}
      lead=${html`<code class="break">${id}</code>
        ${data && html`<${State} of=${data.in_flight ? 'in_flight' : data.status} />`}`} actions=${html`<${CopyCurl}
        path=${path} />`}>
    <${Loaded} source=${source} lines=${8}>${() => html`
      ${data.from_history && html`<p class="notice"><span>The record is gone. This is what history knows.</span></p>`}
      <${Facts} label="Direct webhook" of=${[
        ['URL', html`<${Id} value=${data.webhook_url} what="URL" />`],
        ['Type', data.event_type && html`<code class="chip">${data.event_type}</code>`],
        ['Attempts', number(data.attempts)],
        ['Reason', data.reason && html`<${State} of=${data.reason} />`],
        ['Last answer', data.last_status_code],
        ['Error', data.error],
        ['Last call took', data.duration_ms !== undefined && duration(data.duration_ms)],
        ['Next attempt', data.next_attempt_at && html`<${Ago} at=${data.next_attempt_at} />`],
        ['Accepted', html`<${At} at=${data.created_at} />`],
        ['Changed', html`<${At} at=${data.updated_at} />`],
        ['Given up at', data.expires_at && !['delivered', 'failed'].includes(data.status) && html`<${At}
          at=${data.expires_at} />`],
        ['Correlation id', html`<${Id} value=${data.correlation_id} what="correlation id" />`],
        ['Dead letter', data.status === 'failed' && html`<a href="#/dead-letters/${part(id)}">See its dead letter</a>`],
      ]} />
      ${data.history?.length > 0 && html`<${Section} title="Attempts"><${Timeline} attempts=${data.history}
        total=${data.history_count} acceptedAt=${data.created_at} /><//>`}`}
    <//>
  <//>`;
}
