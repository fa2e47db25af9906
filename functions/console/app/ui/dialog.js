// Dialogs. `openDialog` shows one; `confirm` asks before something that cannot be undone and says in numbers what it does.
import { Boundary } from './boundary.js';
import { ProblemBox, Skeleton } from './states.js';
import { Toasts } from './toast.js';
import { html, useEffect, useRef, useState } from '../view.js';

let show = () => {};

/**
 * Shows `content(close)` in a dialog, in the place of one that is open. The focus returns to where it was when the dialog
 * closes.
 */
export const openDialog = (title, content) => show({ title, content });

/** Where dialogs are shown, and what is told beside them. */
export function DialogHost() {
  const [open, setOpen] = useState(null);
  useEffect(() => {
    show = setOpen;
  }, []);
  if (!open) return html`<${Toasts} />`;
  return html`<${Dialog} key=${open.title} title=${open.title} closed=${() => setOpen(null)}>${open.content}<//>`;
}

function Dialog({ title, closed, children }) {
  const box = useRef(null);
  useEffect(() => {
    const before = document.activeElement;
    const away = () => box.current?.close();
    box.current.showModal();
    addEventListener('hashchange', away);
    return () => {
      removeEventListener('hashchange', away);
      const back = before?.isConnected && before !== document.body ? before : document.querySelector('h1');
      back?.focus({ preventScroll: true });
    };
  }, []);
  const close = () => box.current?.close();
  return html`<dialog ref=${box} aria-labelledby="dialog-title" onClose=${closed}>
    <h2 id="dialog-title">${title}</h2>
    <${Boundary}>${children(close)}<//>
    <${Toasts} />
  </dialog>`;
}

/**
 * Asks before a dangerous action. `facts` may be a promise of what will happen; nothing can be confirmed before it is
 * there. With `typed`, the reader must type that word. `run` does it; what fails is shown in the dialog.
 */
export function confirm({ title, facts, action, typed, run }) {
  openDialog(title, (close) => html`<${Confirmation} facts=${facts} action=${action} typed=${typed} run=${run}
    close=${close} />`);
}

function Confirmation({ facts, action, typed, run, close }) {
  const [known, setKnown] = useState(null);
  const [problem, setProblem] = useState(null);
  const [busy, setBusy] = useState(false);
  const [word, setWord] = useState('');
  const ask = () => {
    setProblem(null);
    Promise.resolve(facts()).then(setKnown, setProblem);
  };
  useEffect(ask, []);
  const submit = async (event) => {
    event.preventDefault();
    if (busy) return;
    setBusy(true);
    setProblem(null);
    try {
      await run();
      close();
    } catch (error) {
      setProblem(error);
      // What is about to be confirmed is not what it was.
      if (error.status === 412) await facts().then(setKnown, () => {});
    }
    setBusy(false);
  };
  return html`<form onSubmit=${submit}>
    ${known ?? (!problem && html`<${Skeleton} lines=${2} />`)}
    ${problem && html`<${ProblemBox} problem=${problem} retry=${known ? null : ask} />`}
    ${typed && html`<div class="field">
      <label for="confirm-word">Type <b>${typed}</b> to confirm</label>
      <input id="confirm-word" autocomplete="off" value=${word} onInput=${(event) => setWord(event.target.value)} />
    </div>`}
    <p class="buttons">
      <button type="button" class="button" autofocus onClick=${close}>Cancel</button>
      <button class="button danger" aria-disabled=${busy} disabled=${!known || (typed && word !== typed)}>
        ${busy ? 'Working …' : action}</button>
    </p>
  </form>`;
}
