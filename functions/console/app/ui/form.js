// Forms: values, faults at their fields, and a summary. A fault of the service names its field by a JSON pointer.
import { html, useEffect, useRef, useState } from '../view.js';
import { ProblemBox } from './states.js';
import { syntaxFault } from '../rawjson.js';
import { Icon } from './icons.js';
import { afterPress } from './press.js';

/** `/headers/x-team` belongs to the field `headers`. */
const fieldOf = (pointer) => pointer.replace(/^\//, '').split('/')[0];

/** The faults of one field in a line. Of a fault inside a list or an object, it says where that is. */
export const faultWords = (faults) =>
  faults.map(({ pointer, message }) => `${pointer.split('/').slice(2).join('/')} ${message}`.trim()).join('; ');

export function useForm(initial) {
  const [values, setValues] = useState(initial);
  const [problem, setProblem] = useState(null);
  const [busy, setBusy] = useState(false);
  const set = (name, value) => setValues((was) => ({ ...was, [name]: value }));
  const bind = (name) => ({
    name,
    value: values[name],
    set: (value) => set(name, value),
    faults: problem?.errors?.filter(({ pointer }) => fieldOf(pointer) === name) ?? [],
  });
  const submit = (work) => async (event) => {
    event.preventDefault();
    if (busy) return;
    setBusy(true);
    setProblem(null);
    try {
      await work(values);
    } catch (error) {
      setProblem(error);
    }
    setBusy(false);
  };
  return { values, set, fill: setValues, bind, submit, problem, setProblem, busy };
}

/**
 * A form with its summary of faults. After a failure, the first field with a fault gets the focus. `inline`: in one line.
 * `look` says where one sees what became of it if the answer was lost.
 */
export function Form({ form, work, action, cancel, label, inline, look, children }) {
  const box = useRef(null);
  useEffect(() => {
    if (!form.problem) return;
    const target = box.current.querySelector('[aria-invalid=true], .fault[tabindex]') ?? box.current.querySelector('.form-summary');
    target?.focus();
  }, [form.problem]);
  return html`<form class=${inline ? 'form inline' : 'form'} ref=${box} aria-label=${label} novalidate
    onSubmit=${form.submit(work)}>
    ${form.problem && html`<div class="form-summary" tabindex="-1"><${ProblemBox} problem=${form.problem} look=${look} /></div>`}
    ${children}
    <p class="buttons">
      <button class="button primary" aria-disabled=${form.busy}>${form.busy ? 'Working …' : action}</button>
      ${typeof cancel === 'string' && html`<a class="button" href=${cancel}>Cancel</a>`}
      ${typeof cancel === 'function' && html`<button type="button" class="button" onClick=${cancel}>Cancel</button>`}
    </p>
  </form>`;
}

/** The label, hint and faults around a control. `children` makes the control from the attributes that tie it to them. */
export function Field({ label, hint, name, faults = [], warning, children }) {
  const id = `field-${name}`;
  const described = [hint && `${id}-hint`, (faults.length > 0 || warning) && `${id}-fault`].filter(Boolean).join(' ');
  return html`<div class="field">
    <label for=${id}>${label}</label>
    ${hint && html`<p class="hint" id="${id}-hint">${hint}</p>`}
    ${children({ id, name, 'aria-describedby': described || undefined, 'aria-invalid': faults.length > 0 ? 'true' : undefined })}
    ${(faults.length > 0 || warning) && html`<p class="fault" id="${id}-fault">
      <${Icon} shape="warn" />${faults.length > 0 ? faultWords(faults) : warning}
    </p>`}
  </div>`;
}

export const TextField = ({ value, set, label, hint, name, faults, warning, ...rest }) =>
  html`<${Field} label=${label} hint=${hint} name=${name} faults=${faults} warning=${warning}>
    ${(tie) => html`<input ...${tie} ...${rest} value=${value} onInput=${(event) => set(event.target.value)} />`}
  <//>`;

export const SelectField = ({ value, set, label, hint, name, faults, options }) =>
  html`<${Field} label=${label} hint=${hint} name=${name} faults=${faults}>
    ${(tie) => html`<select ...${tie} value=${value} onChange=${(event) => set(event.target.value)}>
      ${options.map(([key, word]) => html`<option key=${key} value=${key}>${word}</option>`)}
    </select>`}
  <//>`;

export const CheckField = ({ value, set, label, hint, name }) => html`<div class="field check">
  <input type="checkbox" id="field-${name}" checked=${value} aria-describedby=${hint ? `field-${name}-hint` : undefined}
    onChange=${(event) => set(event.target.checked)} />
  <div><label for="field-${name}">${label}</label>${hint && html`<p class="hint" id="field-${name}-hint">${hint}</p>`}</div>
</div>`;

/** JSON as text. Its syntax is checked once the reader leaves the field, and then with every key. */
export function JsonField({ value, set, label, hint, name, faults = [], rows = 6 }) {
  const [checked, setChecked] = useState(false);
  const fault = checked && value.trim() ? syntaxFault(value) : null;
  return html`<${Field} label=${label} hint=${hint} name=${name} faults=${faults} warning=${fault && `This ${fault}`}>
    ${(tie) => html`<textarea ...${tie} class="code" rows=${rows} spellcheck=${false} autocomplete="off" value=${value}
      onInput=${(event) => set(event.target.value)} onBlur=${() => afterPress(() => setChecked(true))} />`}
  <//>`;
}
