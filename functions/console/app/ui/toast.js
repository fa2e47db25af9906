// Results of actions, told in a corner and to screen readers. They go away by themselves.
import { html, useEffect, useState } from '../view.js';

const SHOWN_MS = 5_000;
// A region that comes with its text already in it is not read out. It must be there for a moment before.
const SETTLED_MS = 100;
let tell = () => {};
let latest = null;

/** Tells the reader about something that succeeded. */
export function toast(text) {
  latest = { text, until: Date.now() + SHOWN_MS };
  tell(latest);
}

/** There is one at a time: inside of a dialog while one is open, because everything else is out of reach then. */
export function Toasts() {
  const [shown, setShown] = useState(null);
  useEffect(() => {
    tell = setShown;
    const timer = setTimeout(setShown, SETTLED_MS, latest);
    return () => clearTimeout(timer);
  }, []);
  useEffect(() => {
    if (!shown) return undefined;
    const timer = setTimeout(setShown, shown.until - Date.now(), null);
    return () => clearTimeout(timer);
  }, [shown]);
  return html`<div class="toasts" role="status" aria-label="Notifications">
    ${shown && html`<p class="toast" key=${shown.until}>${shown.text}</p>`}
  </div>`;
}
