// The form of an endpoint, new or changed: its fields, and the body of a request made from them.
import { html } from '../view.js';
import { faults } from '../api.js';
import { useLive } from '../live.js';
import { Raw, pretty, syntaxFault } from '../rawjson.js';
import { Form, JsonField, TextField } from '../ui/form.js';
import { HeadersField, PairsField, TypesField } from '../ui/list-fields.js';
import { duration } from '../ui/time.js';

export const EMPTY = {
  url: '', description: '', event_types: [], filter: '', headers: [], retry_schedule_s: '', rate_per_s: '', uid: '', metadata: [],
};

/** The values of the form for an endpoint. `filterText` is its filter as it was sent. */
export const valuesOf = (endpoint, filterText) => ({
  url: endpoint.url,
  description: endpoint.description,
  event_types: endpoint.event_types,
  filter: filterText ? pretty(filterText) : '',
  headers: Object.entries(endpoint.headers).map(([name, value]) =>
    typeof value === 'string' ? { name, value, sensitive: false } : { name, value: '', sensitive: true, kept: true },
  ),
  retry_schedule_s: endpoint.retry_schedule_s.join(', '),
  rate_per_s: endpoint.rate_per_s === undefined ? '' : String(endpoint.rate_per_s),
  uid: endpoint.uid ?? '',
  metadata: Object.entries(endpoint.metadata).map(([name, value]) => ({ name, value })),
});

const waits = (text) => text.split(/[\s,]+/).filter(Boolean).map(Number);

/** Finds what a request cannot even say. Everything else is for the service to judge. */
function check({ url, filter, retry_schedule_s, rate_per_s, headers, metadata }) {
  const found = {};
  if (!url.trim()) found.url = 'is needed';
  const fault = filter.trim() && syntaxFault(filter);
  if (fault) found.filter = fault;
  if (waits(retry_schedule_s).some((wait) => !Number.isInteger(wait))) {
    found.retry_schedule_s = 'must be whole numbers of seconds with commas between them';
  }
  if (rate_per_s.trim() && Number.isNaN(Number(rate_per_s))) found.rate_per_s = 'must be a number';
  for (const [field, rows] of Object.entries({ headers, metadata })) {
    const names = rows.map(({ name }) => name.trim());
    if (names.some((name) => !name)) found[field] = 'needs a name for each entry';
    else if (new Set(names).size < names.length) found[field] = 'has a name twice';
  }
  if (Object.keys(found).length > 0) throw faults(found);
}

const header = ({ value, sensitive, kept }) => {
  if (sensitive) return kept && !value ? { sensitive: true } : { value, sensitive: true };
  return value;
};
const entries = (rows, valueOf) => Object.fromEntries(rows.map((row) => [row.name.trim(), valueOf(row)]));

/** The members of a request for these values. Empty ones are undefined. */
export function membersOf(values) {
  check(values);
  const schedule = waits(values.retry_schedule_s);
  return {
    url: values.url.trim(),
    description: values.description.trim() || undefined,
    event_types: values.event_types.length > 0 ? values.event_types : undefined,
    filter: values.filter.trim() ? new Raw(values.filter) : undefined,
    headers: values.headers.length > 0 ? entries(values.headers, header) : undefined,
    retry_schedule_s: schedule.length > 0 ? schedule : undefined,
    rate_per_s: values.rate_per_s.trim() ? Number(values.rate_per_s) : undefined,
    uid: values.uid.trim() || undefined,
    metadata: values.metadata.length > 0 ? entries(values.metadata, ({ value }) => value) : undefined,
  };
}

function scheduleHint(text) {
  const schedule = waits(text);
  if (schedule.length === 0 || schedule.some(Number.isNaN)) {
    return 'The waits between attempts in seconds. Without any: eight attempts in 27.6 hours.';
  }
  return `${schedule.length + 1} attempts. The last one at most ${duration(schedule.reduce((sum, wait) => sum + wait, 0) * 1000)} after the first.`;
}

function originOf(url) {
  try {
    return new URL(url).origin;
  } catch {
    return null;
  }
}

/** `before` is the endpoint that is changed, if there is one. */
export function EndpointForm({ form, work, action, cancel, before }) {
  const types = useLive('event-types', { query: { limit: 200 }, every: 0 });
  const { values, bind } = form;
  const losesHeaders = before && originOf(values.url) !== originOf(before.url) && values.headers.some(({ kept, value }) => kept && !value);
  return html`<${Form} form=${form} work=${work} label=${action} action=${action} cancel=${cancel}>
    <fieldset><legend>Receiver</legend>
      <${TextField} ...${bind('url')} label="URL" type="url" inputmode="url" autocomplete="off" placeholder="https://"
        hint="Events are posted to it. It must answer with a 2xx status within some seconds."
        warning=${losesHeaders && 'With another origin, the sensitive headers are removed unless you give their values again'} />
      <${TextField} ...${bind('description')} label="Description" autocomplete="off"
        hint="What it is for, in a few words." />
    </fieldset>
    <fieldset><legend>What it gets</legend>
      <${TypesField} ...${bind('event_types')} label="Event types" known=${types.data?.event_types ?? []}
        hint="Names, or all below a name as order.*. Without any, it gets all events." />
      <${JsonField} ...${bind('filter')} label="Filter (optional)"
        hint='An event pattern over {"event_type": …, "payload": …}, for example {"payload": {"total": [{"numeric": [">=", 100]}]}}.' />
    </fieldset>
    <fieldset><legend>How it is sent</legend>
      <${HeadersField} ...${bind('headers')} label="Headers"
        hint="Sent with each webhook. The value of a sensitive header is never shown again." />
      <${TextField} ...${bind('retry_schedule_s')} label="Retry schedule" inputmode="text" autocomplete="off"
        placeholder="5, 300, 1800" hint=${scheduleHint(values.retry_schedule_s)} />
      <${TextField} ...${bind('rate_per_s')} label="Rate per second" inputmode="decimal" autocomplete="off"
        placeholder="no limit" hint="The calls that the receiver takes in a second, 0.1 to 500." />
    </fieldset>
    <fieldset><legend>Yours</legend>
      <${TextField} ...${bind('uid')} label="Your own id (uid)" autocomplete="off"
        hint="Unique among the endpoints of the tenant." />
      <${PairsField} ...${bind('metadata')} label="Metadata" hint="Short texts of your own." />
    </fieldset>
  <//>`;
}
