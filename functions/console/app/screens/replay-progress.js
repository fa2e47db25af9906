// How far a replay is, in numbers.
import { html } from '../view.js';
import { State } from '../ui/icons.js';
import { Facts } from '../ui/page.js';
import { Loaded } from '../ui/states.js';
import { Ago } from '../ui/time.js';
import { number } from '../ui/words.js';

export const Progress = ({ source }) => html`<${Loaded} source=${source} lines=${3}>${(data) => html`
  <${Facts} label="Progress" of=${[
    ['State', html`<span aria-live="polite"><${State} of=${data.state}
      word=${data.dry_run && data.state === 'running' ? 'Counting' : undefined} /></span>`],
    ['Looked at', number(data.examined)],
    ['Match', number(data.matched)],
    ['Sent again', !data.dry_run && number(data.queued)],
    ['Cannot be sent', data.unsendable > 0 && `${number(data.unsendable)}: the payload is erased or no longer kept, or the event expired`],
    ['Went on', html`<${Ago} at=${data.updated_at} />`],
  ]} />`}<//>`;
