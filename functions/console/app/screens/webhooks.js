// Direct webhooks, by status or by id.
import { html } from '../view.js';
import { faults, part } from '../api.js';
import { usePages } from '../pages.js';
import { isName } from '../names.js';
import { go } from '../router.js';
import { CopyCurl } from '../ui/copy.js';
import { Filters, SelectFilter } from '../ui/filters.js';
import { Form, TextField, useForm } from '../ui/form.js';
import { State } from '../ui/icons.js';
import { Page } from '../ui/page.js';
import { Empty } from '../ui/states.js';
import { List } from '../ui/table.js';
import { Ago } from '../ui/time.js';
import { nameOf, number } from '../ui/words.js';

const STATUSES = ['pending', 'retrying', 'delivered', 'failed'];

const columns = [
  { label: 'Webhook', kind: 'main', cell: (row) => html`<a class="mono" href="#/webhooks/${part(row.webhook_id)}">
    ${row.webhook_id}</a><span class="truncate muted small" title=${row.webhook_url}>${row.webhook_url}</span>` },
  { label: 'Status', cell: (row) => html`<${State} of=${row.in_flight ? 'in_flight' : row.status} />` },
  { label: 'Attempts', kind: 'num', cell: (row) => number(row.attempts) },
  { label: 'Last answer', cell: (row) => row.last_status_code ?? (row.error_class && nameOf(row.error_class)) },
  { label: 'Changed', kind: 'num', cell: (row) => html`<${Ago} at=${row.updated_at} />` },
];

export default function Webhooks({ query }) {
  const { status = '' } = query;
  const keyOf = (row) => row.webhook_id;
  const source = usePages('webhook-statuses', { query: { status }, pick: 'webhooks', keyOf });
  const counted = (value) => (source.data ? `${nameOf(value)} (${number(source.data.counts[value])})` : nameOf(value));
  const form = useForm({ id: '' });
  const open = async ({ id }) => {
    const name = id.trim();
    if (!name) throw faults({ id: 'is needed' });
    if (!isName('id', name)) throw faults({ id: 'has letters, digits and _ : . ~ -, at most 200' });
    go(`/webhooks/${part(name)}`);
  };
  return html`<${Page} title="Direct webhooks" actions=${html`<${CopyCurl} path=${source.address} />`}>
    <${Form} form=${form} work=${open} label="Go to a webhook" action="Open" inline>
      <${TextField} ...${form.bind('id')} label="Webhook id" autocomplete="off"
        hint="Also of one whose record is gone: history still knows how it ended." />
    <//>
    <${Filters}><${SelectFilter} name="status" label="Status" query=${query}
      options=${[['', 'All'], ...STATUSES.map((value) => [value, counted(value)])]} /><//>
    <${List} source=${source} label="Direct webhooks" columns=${columns} keyOf=${keyOf}
      empty=${html`<${Empty} title="There is no such webhook">Records are kept for half an hour after their end. Accept
          one with <code>POST /webhooks</code>.<//>`} />
  <//>`;
}
