// The columns of circuit breakers, with the button that closes one by hand.
import { html } from '../view.js';
import { call, withQuery } from '../api.js';
import { mayWrite } from '../session.js';
import { confirm } from '../ui/dialog.js';
import { State } from '../ui/icons.js';
import { Ago } from '../ui/time.js';
import { toast } from '../ui/toast.js';
import { count, number } from '../ui/words.js';

export const breakerKey = (row) => row.destination;

function reset(destination, reload) {
  confirm({
    title: 'Reset the circuit breaker?',
    action: 'Reset',
    facts: async () => {
      const { data } = await call('GET', withQuery('circuit-breakers'));
      const now = data.circuit_breakers.find((breaker) => breaker.destination === destination);
      return html`<p><code>${destination}</code> ${now ? html`has failed <b>
        ${count(now.failures, 'time')}</b> in a row and is ${now.state.replace('_', ' ')}.` : 'has not changed within the last day.'}
        ${' '}After a reset, everything that waits for it is attempted when it is due, even if the receiver still fails.</p>`;
    },
    run: async () => {
      await call('POST', 'circuit-breakers/reset', { body: { destination } });
      toast('The circuit breaker is closed');
      reload();
    },
  });
}

export const breakerColumns = (reload) => [
  { label: 'Watches over', kind: 'main', cell: (row) => html`<code>${row.destination}</code>` },
  { label: 'State', cell: (row) => html`<${State} of=${row.state} />` },
  { label: 'Failures', kind: 'num', cell: (row) => number(row.failures) },
  { label: 'Opened', kind: 'num', cell: (row) => row.opened_at && html`<${Ago} at=${row.opened_at} />` },
  { label: 'Next probe', kind: 'num', cell: (row) => row.retry_at && html`<${Ago} at=${row.retry_at} />` },
  ...(mayWrite() ? [{ label: 'Action', kind: 'num', cell: (row) => row.state !== 'closed' && html`<button type="button"
    class="button" aria-label="Reset ${row.destination}"
    onClick=${() => reset(row.destination, reload)}>Reset</button>` }] : []),
];
