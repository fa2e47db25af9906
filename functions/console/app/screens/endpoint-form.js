// The form of an endpoint, new or changed: its fields.
import { html } from '../view.js';
import { useLive } from '../live.js';
import { Form, JsonField, SelectField, TextField } from '../ui/form.js';
import { HeadersField, PairsField, TypesField } from '../ui/list-fields.js';
import { duration } from '../ui/time.js';
import { LABELS, waits } from './endpoint-values.js';

const RETRIES = [
  ['default', 'The default: eight attempts in 27.6 hours'], ['one', 'One attempt, no retry'], ['own', 'A schedule of its own'],
];

function scheduleHint(text) {
  const schedule = waits(text);
  if (schedule.length === 0 || schedule.some(Number.isNaN)) return 'The waits between attempts in seconds.';
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
export function EndpointForm({ form, work, action, cancel, before, look }) {
  const types = useLive('event-types', { query: { limit: 200 }, every: 0 });
  const { values, bind } = form;
  const losesHeaders = before && originOf(values.url) !== originOf(before.url) && values.headers.some(({ kept, value }) => kept && !value);
  return html`<${Form} form=${form} work=${work} label=${action} action=${action} cancel=${cancel}
    look=${look}>
    <fieldset><legend>Receiver</legend>
      <${TextField} ...${bind('url')} label=${LABELS.url} type="url" inputmode="url" autocomplete="off" placeholder="https://"
        hint="Events are posted to it. It must answer with a 2xx status within some seconds."
        warning=${losesHeaders && 'With another origin, the sensitive headers are removed unless you give their values again'} />
      <${TextField} ...${bind('description')} label=${LABELS.description} autocomplete="off"
        hint="What it is for, in a few words." />
    </fieldset>
    <fieldset><legend>What it gets</legend>
      <${TypesField} ...${bind('event_types')} label=${LABELS.event_types} known=${types.data?.event_types ?? []}
        hint="Names, or all below a name as order.*. Without any, it gets all events." />
      <${JsonField} ...${bind('filter')} label="Filter (optional)"
        hint='An event pattern over {"event_type": …, "payload": …}, for example {"payload": {"total": [{"numeric": [">=", 100]}]}}.' />
    </fieldset>
    <fieldset><legend>How it is sent</legend>
      <${HeadersField} ...${bind('headers')} label=${LABELS.headers}
        hint="Sent with each webhook. The value of a sensitive header is never shown again." />
      <${SelectField} ...${bind('retries')} label=${LABELS.retries} options=${RETRIES} />
      ${values.retries === 'own' && html`<${TextField} ...${bind('retry_schedule_s')} label=${LABELS.retry_schedule_s}
        inputmode="text" autocomplete="off" placeholder="5, 300, 1800" hint=${scheduleHint(values.retry_schedule_s)} />`}
      <${TextField} ...${bind('rate_per_s')} label=${LABELS.rate_per_s} inputmode="decimal" autocomplete="off"
        placeholder="no limit" hint="The calls that the receiver takes in a second, 0.1 to 500." />
    </fieldset>
    <fieldset><legend>Yours</legend>
      <${TextField} ...${bind('uid')} label=${LABELS.uid} autocomplete="off"
        hint="Unique among the endpoints of the tenant." />
      <${PairsField} ...${bind('metadata')} label=${LABELS.metadata} hint="Short texts of your own." />
    </fieldset>
  <//>`;
}
