// The values of an endpoint's form: from an endpoint, and as the body of a request.
import { faults } from '../api.js';
import { Raw, pretty, syntaxFault } from '../rawjson.js';

/** The fields of the form and what they are called. */
export const LABELS = {
  url: 'URL', description: 'Description', event_types: 'Event types', filter: 'Filter', headers: 'Headers',
  retries: 'Retries', retry_schedule_s: 'Retry schedule', rate_per_s: 'Rate per second', uid: 'Your own id (uid)',
  metadata: 'Metadata',
};

// What the service takes if a request names no schedule. It tells all schedules in full.
const DEFAULT_SCHEDULE = '5, 300, 1800, 7200, 18000, 36000, 36000';

export const EMPTY = {
  url: '', description: '', event_types: [], filter: '', headers: [], retries: 'default', retry_schedule_s: '', rate_per_s: '', uid: '', metadata: [],
};

function retriesOf(schedule) {
  if (schedule.length === 0) return 'one';
  return schedule.join(', ') === DEFAULT_SCHEDULE ? 'default' : 'own';
}

/** The values of the form for an endpoint. `filterText` is its filter as it was sent. */
export const valuesOf = (endpoint, filterText) => ({
  url: endpoint.url,
  description: endpoint.description,
  event_types: endpoint.event_types,
  filter: filterText ? pretty(filterText) : '',
  headers: Object.entries(endpoint.headers).map(([name, value]) =>
    typeof value === 'string' ? { name, value, sensitive: false } : { name, value: '', sensitive: true, kept: true },
  ),
  retries: retriesOf(endpoint.retry_schedule_s),
  retry_schedule_s: endpoint.retry_schedule_s.join(', '),
  rate_per_s: endpoint.rate_per_s === undefined ? '' : String(endpoint.rate_per_s),
  uid: endpoint.uid ?? '',
  metadata: Object.entries(endpoint.metadata).map(([name, value]) => ({ name, value })),
});

export const waits = (text) => text.split(/[\s,]+/).filter(Boolean).map(Number);

/** Finds what a request cannot even say. Everything else is for the service to judge. */
function check({ url, filter, retries, retry_schedule_s, rate_per_s, headers, metadata }) {
  const found = {};
  if (!url.trim()) found.url = 'is needed';
  const fault = filter.trim() && syntaxFault(filter);
  if (fault) found.filter = fault;
  const schedule = waits(retry_schedule_s);
  if (retries === 'own' && (schedule.length === 0 || schedule.some((wait) => !Number.isInteger(wait)))) {
    found.retry_schedule_s = 'must be whole numbers of seconds with commas between them';
  }
  if (rate_per_s.trim() && !/^\d+(\.\d+)?$/.test(rate_per_s.trim())) found.rate_per_s = 'must be a number';
  for (const [field, rows] of Object.entries({ headers, metadata })) {
    const names = rows.map(({ name }) => name.trim());
    if (names.some((name) => !name)) found[field] = 'needs a name for each entry';
    else if (new Set(names).size < names.length) found[field] = 'has a name twice';
  }
  if (Object.keys(found).length > 0) throw faults(found);
}

const header = ({ value, sensitive, kept }) => {
  if (kept && !value) return { sensitive: true };
  return sensitive ? { value, sensitive: true } : value;
};

const scheduleOf = { default: () => undefined, one: () => [], own: waits };

const entries = (rows, valueOf) => Object.fromEntries(rows.map((row) => [row.name.trim(), valueOf(row)]));

/** The members of a request for these values. Empty ones are undefined. */
export function membersOf(values) {
  check(values);
  return {
    url: values.url.trim(),
    description: values.description.trim() || undefined,
    event_types: values.event_types.length > 0 ? values.event_types : undefined,
    filter: values.filter.trim() ? new Raw(values.filter) : undefined,
    headers: values.headers.length > 0 ? entries(values.headers, header) : undefined,
    retry_schedule_s: scheduleOf[values.retries](values.retry_schedule_s),
    rate_per_s: values.rate_per_s.trim() ? Number(values.rate_per_s) : undefined,
    uid: values.uid.trim() || undefined,
    metadata: values.metadata.length > 0 ? entries(values.metadata, ({ value }) => value) : undefined,
  };
}
