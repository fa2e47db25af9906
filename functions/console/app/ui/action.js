// One action of a screen: whether it runs, and what went wrong, said where it was asked for.
import { html, useState } from '../view.js';
import { ProblemBox } from './states.js';

/** `look` says where one sees whether it was done, if the answer was lost. */
export function useAction(work, look) {
  const [busy, setBusy] = useState(false);
  const [failed, setFailed] = useState(null);
  const run = async () => {
    if (busy) return;
    setBusy(true);
    setFailed(null);
    try {
      await work();
    } catch (error) {
      setFailed(error);
    }
    setBusy(false);
  };
  return { run, busy, problem: failed && html`<${ProblemBox} problem=${failed} look=${look} />` };
}
