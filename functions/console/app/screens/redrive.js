// Redrives all dead letters that match a filter: first a dry run, then call after call until all are sent.
import { html, useEffect, useRef, useState } from '../view.js';
import { call, faults } from '../api.js';
import { now } from '../clock.js';
import { useAction } from '../ui/action.js';
import { Form, SelectField, TextField, useForm } from '../ui/form.js';
import { Facts, Page, Section } from '../ui/page.js';
import { State } from '../ui/icons.js';
import { fromField, toField } from '../ui/time.js';
import { REASONS, count, nameOf, number } from '../ui/words.js';
import { redriveAll } from './redrive-run.js';

const LIMIT = 1_000;
const FASTEST = 1_000;
const redrivable = REASONS.filter((reason) => reason !== 'malformed');

/** What fails again while this runs must not be sent once more, so the filter always has an end. */
const filterOf = ({ reason, destination, since, until }) => ({
  reason: reason || undefined,
  destination: destination.trim() || undefined,
  since: fromField(since) || undefined,
  until: fromField(until) || new Date(now()).toISOString(),
});

function rateOf(text) {
  const rate = Number(text);
  if (Number.isInteger(rate) && rate >= 1 && rate <= FASTEST) return rate;
  throw faults({ per_second: `must be a whole number from 1 to ${number(FASTEST)}` });
}

const IDLE = 'What is left cannot be sent at the moment. Somebody else may be sending it. Make a dry run later.';

/** What was sent so far, and how to end it or go on. */
function Progress({ sent, stop, start }) {
  return html`<${Facts} label="Progress" of=${[
    ['State', html`<${State} of=${sent.state === 'idle' ? 'stopped' : sent.state} />`],
    ['Sent again', number(sent.redriven)],
    ['Skipped', sent.skipped > 0 && number(sent.skipped)],
  ]} />
  ${sent.state === 'idle' && html`<p>${IDLE}</p>`}
  ${sent.state === 'running'
    ? html`<p class="buttons"><button type="button" class="button" onClick=${stop}>Stop</button></p>`
    : ['failed', 'stopped'].includes(sent.state) && html`<p class="buttons"><button type="button" class="button"
      onClick=${start}>Continue</button></p>`}`;
}

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
  const running = useRef(null);
  const stop = () => running.current?.abort();
  useEffect(() => {
    addEventListener('hashchange', stop);
    return () => {
      removeEventListener('hashchange', stop);
      stop();
    };
  }, []);
  const dryRun = async (values) => {
    const perSecond = rateOf(values.per_second);
    const filter = filterOf(values);
    const { data } = await call('POST', 'dead-letters/redrive', { body: { filter, dry_run: true, limit: LIMIT } });
    stop();
    running.current = null;
    setSent(null);
    setTried({ filter, perSecond, ...data });
  };
  const start = useAction(async () => {
    running.current = new AbortController();
    const { signal } = running.current;
    const sum = { redriven: sent?.redriven ?? 0, skipped: sent?.skipped ?? 0 };
    const tell = (state = 'running') => running.current?.signal === signal && setSent({ ...sum, state });
    tell();
    try {
      tell(await redriveAll({ ...tried, sum, tell, signal }));
    } catch (error) {
      tell('failed');
      throw error;
    }
  }, 'To go on is safe: what was sent is not sent twice.');
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
      <${TextField} ...${form.bind('per_second')} label="Deliveries per second" type="number" min="1" max=${FASTEST} />
    <//>
    ${tried && html`<${Section} title="Dry run"><div aria-live="polite">
      <p>${tried.matched > 0 ? html`The filter matches <b>
        ${words}</b>. Starting will send them to their receivers, ${number(tried.perSecond)} a second.`
          : 'Nothing matches, so there is nothing to send.'}
        ${tried.skipped && html` ${count(tried.skipped, 'other one')} cannot be sent again.`}</p>
      ${start.problem}
      ${tried.matched > 0 && (!sent || sent.state === 'running') && html`<p class="notice"><span>Stay on this page: leaving stops it.</span></p>`}
      ${sent
        ? html`<${Progress} sent=${sent} stop=${stop} start=${start.run} />`
        : html`<p class="buttons"><button type="button" class="button danger" disabled=${tried.matched === 0 || start.busy}
          onClick=${start.run}>Redrive ${words}</button></p>`}
    </div><//>`}
  <//>`;
}
