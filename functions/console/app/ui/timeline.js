// The attempts of one life of a delivery: a drawn axis, and below it each attempt with its answer and the wait before it.
import { html } from '../view.js';
import { Icon, State } from './icons.js';
import { Ago, At, duration, local } from './time.js';
import { count, nameOf } from './words.js';

const WIDTH = 640;
const PAD = 12;

const kind = (attempt) => (attempt.status_code >= 200 && attempt.status_code < 300 ? 'good' : 'bad');
const word = (attempt) => (attempt.status_code ? `HTTP ${attempt.status_code}` : nameOf(attempt.error_class ?? 'network'));
const endOf = (attempt) => Date.parse(attempt.at) + attempt.duration_ms;

/**
 * Waits grow from seconds to hours, so the axis shows the square root of each: later ones do not push the first ones
 * together, and a longer wait is still longer.
 */
function positions(times) {
  const gaps = times.map((time, n) => (n ? Math.sqrt(Math.max(time - times[n - 1], 1)) : 0));
  const whole = gaps.reduce((sum, gap) => sum + gap, 0) || 1;
  let at = PAD;
  return gaps.map((gap) => (at += (gap / whole) * (WIDTH - 2 * PAD)));
}

function Axis({ attempts, acceptedAt, nextAt }) {
  const times = [Date.parse(acceptedAt), ...attempts.map(({ at }) => Date.parse(at)), ...(nextAt ? [Date.parse(nextAt)] : [])];
  const x = positions(times);
  const label = `${count(attempts.length, 'attempt')} from ${local(acceptedAt)}: ${attempts.map(word).join(', ')}`;
  return html`<svg class="axis-line" viewBox="0 0 ${WIDTH} 24" role="img" aria-label=${label}>
    <line x1=${PAD} x2=${x.at(-1)} y1="12" y2="12" />
    <path class="begin" d="M${PAD} 6v12" />
    ${attempts.map((attempt, n) => {
      const title = html`<title>${`${word(attempt)}, ${local(attempt.at)}, ${duration(attempt.duration_ms)}`}</title>`;
      return kind(attempt) === 'good'
        ? html`<circle key=${n} class="good" cx=${x[n + 1]} cy="12" r="6">${title}</circle>`
        : html`<rect key=${n} class="bad" x=${x[n + 1] - 5} y="7" width="10" height="10">${title}</rect>`;
    })}
    ${nextAt && html`<circle class="next" cx=${x.at(-1)} cy="12" r="6"><title>${`next attempt ${local(nextAt)}`}</title>
      </circle>`}
  </svg>`;
}

const Attempt = ({ attempt, n, longest }) => html`<li class="attempt ${kind(attempt)}">
  <div class="attempt-head">
    <span class="state ${kind(attempt)}"><${Icon} shape=${kind(attempt)} />${word(attempt)}</span>
    ${attempt.error_class && attempt.status_code && html`<span class="muted">${nameOf(attempt.error_class)}</span>`}
    <span class="muted">attempt ${n}, <${At} at=${attempt.at} /></span>
    <span class="took"><i class="bar" style=${{ width: `${Math.max((attempt.duration_ms / longest) * 80, 2)}px` }} />
      ${duration(attempt.duration_ms)}</span>
  </div>
  ${attempt.error && attempt.error !== word(attempt) && html`<p dir="auto">${attempt.error}</p>`}
  ${attempt.answer && html`<pre class="answer" tabindex="0" role="group" aria-label=${`Beginning of answer ${n}`}>
    ${attempt.answer}</pre>`}
</li>`;

const Wait = ({ ms, text }) => html`<li class="gap muted">${text ?? `waited ${duration(ms)}`}</li>`;

/** `total` is the number of all attempts; of many, only the first ten and the last ten are kept. */
export function Timeline({ attempts, total = attempts.length, acceptedAt, nextAt }) {
  if (attempts.length === 0) {
    return html`<p class="muted">No attempt so far.${nextAt && html` The first one is due <${Ago} at=${nextAt} />.`}</p>`;
  }
  const longest = Math.max(...attempts.map(({ duration_ms: ms }) => ms), 1);
  const hidden = total - attempts.length;
  const shownAs = (n) => (hidden > 0 && n >= attempts.length / 2 ? n + hidden + 1 : n + 1);
  return html`<div class="timeline">
    <${Axis} attempts=${attempts} acceptedAt=${acceptedAt} nextAt=${nextAt} />
    <ol aria-label="Attempts">
      ${attempts.map((attempt, n) => {
        const gap = n > 0 && Date.parse(attempt.at) - endOf(attempts[n - 1]);
        const cut = hidden > 0 && n === attempts.length / 2;
        return html`${cut
            ? html`<${Wait} text=${`${count(hidden, 'attempt')} between these are not kept`} />`
            : n > 0 && html`<${Wait} ms=${Math.max(gap, 0)} />`}
          <${Attempt} key=${attempt.at} attempt=${attempt} n=${shownAs(n)} longest=${longest} />`;
      })}
      ${nextAt && html`<li class="gap muted"><${State} of="waiting" word="Next attempt" /> <${Ago} at=${nextAt} /></li>`}
    </ol>
  </div>`;
}
