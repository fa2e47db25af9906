// A payload: with line breaks to read it, or as it was sent. Always as text, so that its numbers and tags stay what they are.
import { html, useState } from '../view.js';
import { pretty } from '../rawjson.js';
import { Copy } from './copy.js';

const SHOWN_CHARACTERS = 50_000;

export function Payload({ text, label = 'Payload' }) {
  const [raw, setRaw] = useState(false);
  const [whole, setWhole] = useState(false);
  const full = raw ? text : pretty(text);
  const shown = whole ? full : full.slice(0, SHOWN_CHARACTERS);
  return html`<div class="payload">
    <div class="payload-bar">
      <div class="tabs" role="group" aria-label="How ${label.toLowerCase()} is shown">
        <button type="button" aria-pressed=${String(!raw)} onClick=${() => setRaw(false)}>Pretty</button>
        <button type="button" aria-pressed=${String(raw)} onClick=${() => setRaw(true)}>As sent</button>
      </div>
      <${Copy} text=${text} what=${label.toLowerCase()} />
    </div>
    <pre class="code" tabindex="0" role="group" aria-label=${label}>${shown}</pre>
    ${shown.length < full.length && html`<button type="button" class="button"
      onClick=${() => setWhole(true)}>Show all ${Math.round(full.length / 1024)} KiB</button>`}
  </div>`;
}
