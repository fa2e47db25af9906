// What surrounds every screen: the header, the navigation, the notice of a session that ends soon, dialogs and toasts.
import { html, useEffect, useRef, useState } from '../view.js';
import { revoke } from '../api.js';
import { isPast, now } from '../clock.js';
import { endSession, ownTenant, scopeName, worksOn } from '../session.js';
import { DialogHost } from './dialog.js';
import { Icon } from './icons.js';
import { ThemeButton } from './theme.js';
import { At } from './time.js';

const NOTICE_MS = 10 * 60_000;
const LOOK_MS = 5_000;

const OPERATOR = [
  ['/', 'Overview'], ['/tenants', 'Tenants'], ['/dead-letters', 'Dead letters'], ['/event-types', 'Event types'],
  ['/webhooks', 'Direct webhooks'], ['/breakers', 'Circuit breakers'], ['/tokens', 'Tokens'],
];
const PORTAL = [
  ['/', 'Overview'], ['/endpoints', 'Endpoints'], ['/events', 'Events'], ['/event-types', 'Event types'], ['/tokens', 'API tokens'],
];

export const Brand = () => html`<span class="brand">
  <svg viewBox="0 0 16 16" aria-hidden="true"><path d="M5 2.5v5.6a3 3 0 0 0 6 0V6.2M8.7 8 11 5.7 13.3 8" /></svg>Steadhook
</span>`;

/** Forgets first: whatever becomes of the call, nobody can go on in this tab. A read-only session may not revoke its token. */
function signOut() {
  const was = endSession('signed-out');
  const isRevoked = was.read_only ? Promise.reject() : revoke(was);
  isRevoked.catch(() => worksOn(was.expires_at));
}

function useEnding(session) {
  const [soon, setSoon] = useState(false);
  useEffect(() => {
    // A timer of hours sleeps with the computer, and the clock may be corrected meanwhile. So it is looked at often.
    const look = () => {
      if (isPast(session.expires_at)) endSession('ended');
      else setSoon(Date.parse(session.expires_at) - now() < NOTICE_MS);
    };
    look();
    const timer = setInterval(look, LOOK_MS);
    return () => clearInterval(timer);
  }, [session]);
  return soon;
}

export function Shell({ session, path, children }) {
  const [open, setOpen] = useState(false);
  const soon = useEnding(session);
  const menu = useRef(null);
  useEffect(() => setOpen(false), [path]);
  const onKeyDown = (event) => {
    if (event.key !== 'Escape' || !open) return;
    setOpen(false);
    menu.current.focus();
  };
  const links = ownTenant() ? PORTAL : OPERATOR;
  const isHere = (target) => (target === '/' ? path === '/' : path === target || path.startsWith(`${target}/`));
  const skip = (event) => {
    event.preventDefault();
    document.querySelector('h1')?.focus();
  };
  return html`
    <a class="skip" href="#main" onClick=${skip}>Skip to the content</a>
    <header class="top">
      <button type="button" class="button quiet menu" aria-expanded=${String(open)} aria-controls="nav"
        ref=${menu} onKeyDown=${onKeyDown} onClick=${() => setOpen(!open)}><${Icon} shape="menu" />Menu</button>
      <${Brand} />
      <span class="scope">${scopeName(session.scope)}</span>
      ${session.read_only && html`<span class="badge">read only</span>`}
      <span class="grow" />
      <${ThemeButton} />
      <button type="button" class="button quiet" onClick=${signOut}>Sign out</button>
    </header>
    <div class="below">
      <nav id="nav" class=${open ? 'nav open' : 'nav'} aria-label="Main" onKeyDown=${onKeyDown}><ul>
        ${links.map(([target, word]) => html`<li key=${target}><a href="#${target}"
          aria-current=${isHere(target) ? 'page' : undefined}>${word}</a></li>`)}
      </ul></nav>
      <main id="main">
        ${soon && html`<p class="notice" role="status"><${Icon} shape="wait" /><span>Your session ends at <${At}
          at=${session.expires_at} only="hour" />. Ask for a new link to go on after that.</span></p>`}
        ${children}
      </main>
    </div>
    <${DialogHost} />`;
}
