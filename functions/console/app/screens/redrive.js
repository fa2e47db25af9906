// Redrives all dead letters that match a filter: first a dry run, then call after call until all are sent.
import { html, useRef, useState } from '../view.js';
import { call } from '../api.js';
import { useAction } from '../ui/action.js';
import { Form, SelectField, TextField, useForm } from '../ui/form.js';
import { Facts, Page, Section } from '../ui/page.js';
import { State } from '../ui/icons.js';
import { fromField, toField } from '../ui/time.js';
import { REASONS, count, nameOf, number } from '../ui/words.js';

const LIMIT = 1_000;
const CALL = 100;
const redrivable = REASONS.filter((reason) => reason !== 'malformed');

const filterOf = ({ reason, destination, since, until }) => ({
  reason: reason || undefined,
  destination: destination.trim() || undefined,
  since: fromField(since) || undefined,
  until: fromField(until) || undefined,
});

export default function Redrive({ query }) {
  const form = useForm({
    reason: query.reason ?? '',
    destination: query.destination ?? '',
    since: toField(query.since),
    until: toField(query.until),
    per_second: '10',
  });
  const [tried, setTried] = useState(null);
  const [sent, setSent] = useState(null);
  const stopping = useRef(false);
  const dryRun = async (values) => {
    const filter = filterOf(values);
    const { data } = await call('POST', 'dead-letters/redrive', { body: { filter, dry_run: true, limit: LIMIT } });
    setSent(null);
    setTried({ filter, perSecond: Number(values.per_second) || undefined, ...data });
  };
  const start = useAction(async () => {
    stopping.current = false;
    const sum = { redriven: 0, skipped: 0, state: 'running' };
    setSent({ ...sum });
    try {
      while (sum.state === 'running') {
        const { data } = await call('POST', 'dead-letters/redrive', { body: { filter: tried.filter, limit: CALL, per_second: tried.perSecond } });
        sum.redriven += data.redriven;
        sum.skipped += data.skipped ?? 0;
        if (data.complete || (data.matched === 0 && !data.skipped)) sum.state = 'done';
        else if (stopping.current) sum.state = 'stopped';
        setSent({ ...sum });
      }
    } catch (error) {
      setSent({ ...sum, state: 'failed' });
      throw error;
    }
  });
  const words = tried && count(tried.matched, 'dead letter', 'dead letters', !tried.complete);
  return html`<${Page} title="Redrive dead letters" crumbs=${[{ href: '#/dead-letters', text: 'Dead letters' }]}>
    <p class="lead">Sends every matching dead letter again, with a new retry budget. A dry run counts them first and sends nothing.</p>
    <${Form} form=${form} work=${dryRun} label="Redrive" action="Dry run" cancel="#/dead-letters">
      <${SelectField} ...${form.bind('reason')} label="Reason"
        options=${[['', 'All'], ...redrivable.map((value) => [value, nameOf(value)])]} />
      <${TextField} ...${form.bind('destination')} label="Receiver (optional)" placeholder="https://receiver.example"
        autocomplete="off" />
      <div class="pair">
        <${TextField} ...${form.bind('since')} label="Given up since (optional)" type="datetime-local" />
        <${TextField} ...${form.bind('until')} label="Given up until (optional)" type="datetime-local" />
      </div>
      <${TextField} ...${form.bind('per_second')} label="Deliveries per second" type="number" min="1" max="1000" />
    <//>
    ${tried && html`<${Section} title="Dry run"><div aria-live="polite">
      <p>${tried.matched > 0 ? html`The filter matches <b>
        ${words}</b>. Starting will send them to their receivers${tried.perSecond ? `, ${number(tried.perSecond)} a second` : ''}.`
          : 'Nothing matches, so there is nothing to send.'}
        ${tried.skipped && html` ${count(tried.skipped, 'other one')} cannot be sent again.`}</p>
      ${start.problem}
      ${sent
        ? html`<${Facts} label="Progress"
          of=${[
            ['State', html`<${State} of=${sent.state} />`],
            ['Sent again', number(sent.redriven)],
            ['Skipped', sent.skipped > 0 && number(sent.skipped)],
          ]} />
          ${sent.state === 'running' && html`<p class="buttons"><button type="button" class="button"
            onClick=${() => (stopping.current = true)}>Stop</button></p>`}`
        : html`<p class="buttons"><button type="button" class="button danger" disabled=${tried.matched === 0 || start.busy}
          onClick=${start.run}>Redrive ${words}</button></p>`}
    </div><//>`}
  <//>`;
}
