// The address of a screen: a path and a query in the fragment. Filters live in the query, so that links keep them.
import { useEffect, useState } from './view.js';

const listeners = new Set();
let moves = 0;

function place() {
  const [path, query = ''] = location.hash.slice(1).split('?');
  return { path: path || '/', query: Object.fromEntries(new URLSearchParams(query)), moves };
}

function tell() {
  for (const listener of listeners) listener(place());
}

addEventListener('hashchange', () => {
  moves += 1;
  tell();
});

export function usePlace() {
  const [now, setNow] = useState(place);
  useEffect(() => {
    listeners.add(setNow);
    return () => listeners.delete(setNow);
  }, []);
  return now;
}

/** Whether the reader has moved to another screen since the page was loaded. Only then does the focus move. */
export const hasMoved = () => moves > 0;

export function go(path) {
  location.hash = path;
}

/** To be called before something that takes a while. Says after it whether the reader is still where they were. */
export function staying() {
  const before = moves;
  return () => moves === before;
}

/** The same, and goes to a path unless the reader has left. Says whether. */
export function goUnlessLeft() {
  const isHere = staying();
  return (path) => {
    const goes = isHere();
    if (goes) go(path);
    return goes;
  };
}

/** Goes to another path in the place of the present entry of the history. */
export function replace(path) {
  history.replaceState(null, '', `#${path}`);
  tell();
}

/** Changes the filters of the screen without a new entry in the history. Empty values are left out. */
export function setQuery(changes) {
  const { path, query } = place();
  const next = Object.entries({ ...query, ...changes }).filter(([, value]) => value !== '' && value != null);
  const text = new URLSearchParams(next).toString();
  replace(`${path}${text ? `?${text}` : ''}`);
}

/** Matches `/tenants/:tenant` against a path. Returns the decoded parts, or null. */
export function match(pattern, path) {
  const wanted = pattern.split('/');
  const given = path.split('/');
  if (wanted.length !== given.length) return null;
  const parts = {};
  for (const [n, word] of wanted.entries()) {
    if (word.startsWith(':')) {
      if (!given[n]) return null;
      try {
        parts[word.slice(1)] = decodeURIComponent(given[n]);
      } catch {
        return null;
      }
    } else if (word !== given[n]) return null;
  }
  return parts;
}
