// The session: a token, its scope and its end, kept in sessionStorage. What may be done with it is asked here.
import { useEffect, useState } from './view.js';

const KEY = 'steadhook.session';
const listeners = new Set();
let state = { session: read(), ended: null };

function read() {
  try {
    const session = JSON.parse(sessionStorage.getItem(KEY));
    return session?.token ? session : null;
  } catch {
    return null;
  }
}

function change(next) {
  state = next;
  // A frame may be refused any storage. Then the session lasts as long as the page.
  try {
    if (next.session) sessionStorage.setItem(KEY, JSON.stringify(next.session));
    else sessionStorage.removeItem(KEY);
  } catch {}
  for (const listener of listeners) listener(state);
}

export const session = () => state.session;
export const openSession = (opened) => change({ session: opened, ended: null });

/** Forgets the token. `why` is `ended` (refused or past its end) or `signed-out`. Returns what the session was. */
export function endSession(why) {
  const was = state.session;
  if (was) change({ session: null, ended: { why, scope: was.scope, until: null } });
  return was;
}

/** Remembers for the last page that the token which this tab has forgotten works until then. */
export function worksOn(until) {
  if (state.ended) change({ ...state, ended: { ...state.ended, until } });
}

/** Calls `listener` with each change. Returns what ends that. */
export function whenSessionChanges(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function useSession() {
  const [now, setNow] = useState(state);
  useEffect(() => whenSessionChanges(setNow), []);
  return now;
}

/** The tenant of a portal, or null for the operator. */
export function ownTenant() {
  const scope = state.session?.scope ?? '';
  return scope.startsWith('tenant:') ? scope.slice('tenant:'.length) : null;
}

export const isOperator = () => state.session?.scope === 'operator';
export const mayWrite = () => Boolean(state.session) && !state.session.read_only;

/** The fragment of a screen of a tenant. A portal leaves its own tenant out. */
export function tenantHref(tenant, path = '') {
  return ownTenant() === tenant ? `#${path || '/'}` : `#/tenants/${encodeURIComponent(tenant)}${path}`;
}

export function scopeName(scope) {
  if (scope === 'operator') return 'Operator of this stack';
  return `Tenant ${scope.replace(/^tenant:/, '')}`;
}
