// Charts of the last hour, drawn as SVG: one bar a minute. The words beside them say the same in numbers.
import { html } from '../view.js';
import { localHour } from './time.js';
import { number } from './words.js';

const WIDTH = 300;
const HEIGHT = 64;

/**
 * `series`: `[{ name, kind, of(minute) }]`, stacked from below. `total` says a number in words for a sum of a series.
 */
export function Bars({ title, minutes, series, unit = '', total = (sum) => number(sum) }) {
  const sums = minutes.map((minute) => series.reduce((sum, { of }) => sum + of(minute), 0));
  const top = Math.max(...sums, 1);
  if (minutes.length === 0) return null;
  const step = WIDTH / minutes.length;
  const said = series.map(({ name, of }) => [name, total(minutes.reduce((sum, minute) => sum + of(minute), 0), minutes)]);
  return html`<figure class="chart">
    <figcaption><h3>${title}</h3>
      <ul class="legend">${said.map(([name, value], n) => html`<li key=${name}><i class="swatch ${series[n].kind}" />
        ${name} <b>${value}</b></li>`)}</ul>
    </figcaption>
    <svg viewBox="0 0 ${WIDTH} ${HEIGHT + 14}" role="img"
      aria-label=${`${title}, last hour: ${said.map((pair) => pair.join(' ')).join(', ')}`}>
      <line class="axis" x1="0" x2=${WIDTH} y1=${HEIGHT + 0.5} y2=${HEIGHT + 0.5} />
      ${minutes.map((minute, n) => html`<${Bar} key=${minute.at} minute=${minute} x=${n * step} step=${step} top=${top}
        series=${series} unit=${unit} />`)}
      <text x="0" y=${HEIGHT + 12}>${localHour(minutes[0].at).replace(/:\d\d(?=\D*$)/, '')}</text>
      <text x=${WIDTH} y=${HEIGHT + 12} text-anchor="end">now</text>
      <text class="top" x=${WIDTH} y="8" text-anchor="end">${number(Math.round(top))}${unit && ` ${unit}`}</text>
    </svg>
  </figure>`;
}

function Bar({ minute, x, step, top, series, unit }) {
  let base = HEIGHT;
  const parts = series.map(({ name, kind, of }) => {
    const value = of(minute);
    const height = value && Math.max((value / top) * (HEIGHT - 12), 1.5);
    base -= height;
    return height > 0 && html`<rect key=${name} class=${kind} x=${x + 0.5} width=${Math.max(step - 1, 1)} y=${base}
      height=${height} />`;
  });
  const words = series.map(({ name, of }) => `${name.toLowerCase()} ${number(Math.round(of(minute)))}${unit && ` ${unit}`}`).join(', ');
  return html`<g><title>${`${localHour(minute.at)}: ${words}`}</title><rect class="hit" x=${x} width=${step} y="0"
    height=${HEIGHT} />${parts}</g>`;
}
