// What surrounds every screen: the header, the navigation, the notice of a session that ends soon, dialogs and toasts.
import { html, useEffect, useState } from '../view.js';
import { call, part } from '../api.js';
import { endSession, mayWrite, ownTenant, scopeName } from '../session.js';
import { DialogHost } from './dialog.js';
import { Icon } from './icons.js';
import { ThemeButton } from './theme.js';
import { At } from './time.js';
import { Toasts } from './toast.js';

const NOTICE_MS = 10 * 60_000;
const LONGEST_TIMER_MS = 2 ** 31 - 1;

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

async function signOut(session) {
  // A read-only session may not revoke its token. It ends by itself.
  if (mayWrite()) await call('DELETE', `tokens/${part(session.id)}`).catch(() => {});
  endSession('signed-out');
}

function useEnding(session) {
  const [soon, setSoon] = useState(false);
  useEffect(() => {
    const left = Date.parse(session.expires_at) - Date.now();
    const timers = [
      setTimeout(setSoon, Math.min(Math.max(left - NOTICE_MS, 0), LONGEST_TIMER_MS), true),
      setTimeout(endSession, Math.min(Math.max(left, 0), LONGEST_TIMER_MS), 'ended'),
    ];
    return () => timers.forEach(clearTimeout);
  }, [session]);
  return soon;
}

export function Shell({ session, path, children }) {
  const [open, setOpen] = useState(false);
  const soon = useEnding(session);
  useEffect(() => setOpen(false), [path]);
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
        onClick=${() => setOpen(!open)}><${Icon} shape="menu" />Menu</button>
      <${Brand} />
      <span class="scope">${scopeName(session.scope)}</span>
      ${session.read_only && html`<span class="badge">read only</span>`}
      <span class="grow" />
      <${ThemeButton} />
      <button type="button" class="button quiet" onClick=${() => signOut(session)}>Sign out</button>
    </header>
    <div class="below">
      <nav id="nav" class=${open ? 'nav open' : 'nav'} aria-label="Main"><ul>
        ${links.map(([target, word]) => html`<li key=${target}><a href="#${target}"
          aria-current=${isHere(target) ? 'page' : undefined}>${word}</a></li>`)}
      </ul></nav>
      <main id="main">
        ${soon && html`<p class="notice" role="status"><${Icon} shape="wait" /><span>Your session ends at <${At}
          at=${session.expires_at} only="hour" />. Ask for a new link to go on after that.</span></p>`}
        ${children}
      </main>
    </div>
    <${Toasts} />
    <${DialogHost} />`;
}
