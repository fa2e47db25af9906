// Fields that hold lists: event types, headers, and pairs of names and values.
import { html, useRef, useState } from '../view.js';
import { Field, faultWords } from './form.js';
import { Icon } from './icons.js';
import { afterPress } from './press.js';

const SUGGESTED = 12;

/** Event types: typed with Enter or a comma, or picked from the catalogue `known`. */
export function TypesField({ value, set, known, ...field }) {
  const [typed, setTyped] = useState('');
  const input = useRef(null);
  const add = (text) => {
    const names = text.split(/[\s,]+/).filter((name) => name && !value.includes(name));
    if (names.length > 0) set([...value, ...new Set(names)]);
    setTyped('');
  };
  const remove = (name) => {
    set(value.filter((other) => other !== name));
    input.current?.querySelector('input')?.focus();
  };
  const onKeyDown = (event) => {
    if ((event.key === 'Enter' || event.key === ',') && typed.trim()) {
      event.preventDefault();
      add(typed);
    }
  };
  const free = known.filter(({ name, deprecated }) => !deprecated && !value.includes(name));
  return html`<div ref=${input}><${Field} ...${field}>
    ${(tie) => html`
      ${value.length > 0 && html`<ul class="chips" aria-label="Chosen event types">
        ${value.map((name) => html`<li key=${name} class="chip"><code>${name}</code><button type="button"
        aria-label="Remove ${name}" onClick=${() => remove(name)}><${Icon} shape="close" /></button></li>`)}</ul>`}
      <input ...${tie} value=${typed} autocomplete="off" placeholder="order.paid or order.*"
        onInput=${(event) => setTyped(event.target.value)} onKeyDown=${onKeyDown} onBlur=${() => afterPress(() => add(typed))} />
      ${free.length > 0 && html`<div class="chips" role="group" aria-label="Event types of the catalogue">
        ${free.slice(0, SUGGESTED).map(({ name, description }) => html`<button type="button" key=${name} class="chip pick"
        title=${description} onClick=${() => add(name)}><${Icon} shape="plus" />${name}</button>`)}</div>`}`}
  <//></div>`;
}

function Rows({ value, set, name, empty, word, children }) {
  const change = (n, part) => set(value.map((row, other) => (other === n ? { ...row, ...part } : row)));
  const box = useRef(null);
  const remove = (n) => {
    set(value.filter((_, other) => other !== n));
    box.current.querySelector('button[id]').focus();
  };
  return html`<div class="rows" ref=${box}>
    ${value.map((row, n) => html`<div class="row" key=${n} role="group" aria-label="${word} ${n + 1}">
      <input aria-label="Name" placeholder="name" autocomplete="off" value=${row.name} disabled=${row.kept}
        onInput=${(event) => change(n, { name: event.target.value })} />
      <input aria-label="Value" placeholder=${row.kept ? 'kept as it is' : 'value'} autocomplete="off" value=${row.value}
        onInput=${(event) => change(n, { value: event.target.value })} />
      ${children?.(row, (part) => change(n, part), n)}
      <button type="button" class="button quiet" aria-label="Remove ${row.name || word}"
        onClick=${() => remove(n)}><${Icon} shape="close" /></button>
    </div>`)}
    <button type="button" class="button" id="field-${name}" onClick=${() => set([...value, { ...empty }])}><${Icon}
      shape="plus" />Add ${word.toLowerCase()}</button>
  </div>`;
}

const Group = ({ label, hint, name, faults, children }) => html`<div class="field" role="group"
  aria-labelledby="group-${name}">
  <p class="label" id="group-${name}">${label}</p>
  ${hint && html`<p class="hint">${hint}</p>`}
  ${children}
  ${faults.length > 0 && html`<p class="fault" tabindex="-1"><${Icon} shape="warn" />${faultWords(faults)}</p>`}
</div>`;

export const HeadersField = ({ value, set, ...field }) => html`<${Group} ...${field}>
  <${Rows} value=${value} set=${set} name=${field.name} word="Header" empty=${{ name: '', value: '', sensitive: false }}>
    ${(row, change) => html`<label class="inline"><input type="checkbox" checked=${row.sensitive}
      disabled=${row.kept && !row.value} onChange=${(event) => change({ sensitive: event.target.checked })} />sensitive</label>`}
  <//>
<//>`;

export const PairsField = ({ value, set, ...field }) => html`<${Group} ...${field}>
  <${Rows} value=${value} set=${set} name=${field.name} word="Entry" empty=${{ name: '', value: '' }} />
<//>`;
