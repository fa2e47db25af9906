// Times and durations. A time is shown in the reader's zone, with UTC in its title; a relative one is kept current.
import { now } from '../clock.js';
import { html } from '../view.js';

const TICK_MS = 15_000;
const UNITS = [['day', 86_400], ['hour', 3_600], ['minute', 60]];
const relative = new Intl.RelativeTimeFormat('en', { style: 'short', numeric: 'always' });
const clock = new Intl.DateTimeFormat('en', { dateStyle: 'medium', timeStyle: 'medium', hourCycle: 'h23' });
const hour = new Intl.DateTimeFormat('en', { timeStyle: 'medium', hourCycle: 'h23' });
const day = new Intl.DateTimeFormat('en', { dateStyle: 'medium' });

function ago(at) {
  const seconds = (Date.parse(at) - now()) / 1000;
  for (const [unit, size] of UNITS) {
    if (Math.abs(seconds) >= size) return relative.format(Math.trunc(seconds / size), unit).replace('.', '');
  }
  return seconds > 5 ? 'in under 1 min' : 'just now';
}

export const local = (at) => clock.format(new Date(at));
export const localHour = (at) => hour.format(new Date(at));
const utc = (at) => new Date(at).toISOString().replace('T', ' ').replace('Z', ' UTC');

// One timer writes all relative times, so that a list of a thousand rows draws nothing again.
setInterval(() => {
  if (document.hidden) return;
  for (const time of document.querySelectorAll('time[data-ago]')) {
    const text = ago(time.dateTime);
    if (time.firstChild && time.firstChild.data !== text) time.firstChild.data = text;
  }
}, TICK_MS);

export const Ago = ({ at }) =>
  at
    ? html`<time class="nowrap" datetime=${at} data-ago="" title=${`${local(at)} · ${utc(at)}`}>${ago(at)}</time>`
    : html`<span class="muted">never</span>`;

export const At = ({ at, only }) =>
  html`<time datetime=${at} title=${utc(at)}>
    ${only === 'hour' ? localHour(at) : only === 'day' ? day.format(new Date(at)) : local(at)}</time>`;

/** `41 ms`, `5.2 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`. */
export function duration(ms) {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const s = ms / 1000;
  if (s < 10) return `${Number(s.toFixed(1))} s`;
  const whole = Math.round(s);
  if (whole < 60) return `${whole} s`;
  const two = (big, bigName, small, smallName) => `${big} ${bigName}${small ? ` ${small} ${smallName}` : ''}`;
  if (whole < 3600) return two(Math.floor(whole / 60), 'min', whole % 60, 's');
  if (whole < 86_400) return two(Math.floor(whole / 3600), 'h', Math.round((whole % 3600) / 60), 'min');
  return two(Math.floor(whole / 86_400), 'd', Math.round((whole % 86_400) / 3600), 'h');
}

/** Between the value of a `datetime-local` field, in the reader's zone, and a time of the API. */
export function fromField(value) {
  const at = new Date(value);
  return Number.isNaN(at.getTime()) ? '' : at.toISOString();
}

export function toField(at) {
  if (!at || Number.isNaN(Date.parse(at))) return '';
  const date = new Date(at);
  return new Date(date.getTime() - date.getTimezoneOffset() * 60_000).toISOString().slice(0, -1).replace(/(:00)?\.000$/, '');
}
