// Data that stays current: hooks that read a path again every few seconds, slower after failures, and not at all
// while the page is hidden. What has not changed keeps its identity, so that it is not drawn again.
import { call, withQuery } from './api.js';
import { useEffect, useRef, useState } from './view.js';

const EVERY_MS = 5_000;
const SLOWEST_MS = 60_000;
const PAGES_TO_FILL = 12;
const ROWS_TO_FILL = 20;

/** Calls `turn` at once and then every `every` ms (0: only once). Returns what ends that and what asks for a turn now. */
function poll(turn, every) {
  let stopped = false;
  let timer;
  let failures = 0;
  let controller;
  const now = async () => {
    clearTimeout(timer);
    controller?.abort();
    const mine = new AbortController();
    controller = mine;
    try {
      await turn(mine.signal);
      failures = 0;
    } catch (error) {
      if (error.name === 'AbortError') return;
      failures += 1;
    }
    if (!stopped && every && !document.hidden && controller === mine) {
      timer = setTimeout(now, Math.min(every * 2 ** failures, SLOWEST_MS));
    }
  };
  const shown = () => {
    if (document.hidden) clearTimeout(timer);
    else if (every) now();
  };
  document.addEventListener('visibilitychange', shown);
  addEventListener('online', now);
  now();
  const stop = () => {
    stopped = true;
    clearTimeout(timer);
    controller?.abort();
    document.removeEventListener('visibilitychange', shown);
    removeEventListener('online', now);
  };
  return { stop, now };
}

const NOTHING = { data: null, text: null, etag: null, error: null, at: null };

/** One resource. `path` may be null: then nothing is asked. */
export function useLive(path, { query, every = EVERY_MS, accept } = {}) {
  const address = path && withQuery(path, query);
  const [state, setState] = useState(NOTHING);
  const polling = useRef(null);
  useEffect(() => {
    setState(NOTHING);
    if (!address) return undefined;
    let last = null;
    polling.current = poll(async (signal) => {
      try {
        const { data, text, etag } = await call('GET', address, { signal, accept });
        const same = text === last;
        last = text;
        setState((was) => (same && !was.error ? was : { data: same ? was.data : data, text, etag, error: null, at: Date.now() }));
      } catch (error) {
        if (error.name !== 'AbortError') setState((was) => ({ ...was, error }));
        throw error;
      }
    }, every);
    return () => polling.current.stop();
  }, [address, every]);
  return { ...state, address, reload: () => polling.current?.now() };
}

/** Rows that did not change keep their object. */
function settled(was, now, keyOf) {
  const known = new Map(was.map((row) => [keyOf(row), row]));
  return now.map((row) => {
    const old = known.get(keyOf(row));
    return old && JSON.stringify(old) === JSON.stringify(row) ? old : row;
  });
}

/** A fresh first page above the rows that were loaded further down. */
function merged(was, page, keyOf) {
  const head = settled(was.rows, page.rows, keyOf);
  if (!was.more) return { ...page, rows: head, more: false };
  const fresh = new Set(head.map(keyOf));
  return { ...was, ...page, cursor: was.cursor, rows: [...head, ...was.rows.filter((row) => !fresh.has(keyOf(row)))] };
}

const EMPTY = { rows: [], cursor: null, more: false, data: null, error: null, at: null };

/**
 * A list with cursors. Its first page is read again and again; `loadMore` adds the next one. A page may be short or
 * empty and still have a cursor: then the next pages are read until there is something to show.
 */
export function usePages(path, { query = {}, pick, keyOf, every = EVERY_MS, limit = 50 }) {
  const address = path && withQuery(path, { ...query, limit });
  const [state, setState] = useState(EMPTY);
  const [loadingMore, setLoadingMore] = useState(false);
  const polling = useRef(null);
  const present = useRef(null);

  const page = async (cursor, signal) => {
    const { data } = await call('GET', withQuery(path, { ...query, limit, cursor }), { signal });
    return { rows: data[pick], cursor: data.next_cursor ?? null, data, error: null, at: Date.now() };
  };
  const fill = async (first, signal) => {
    let { rows, cursor } = first;
    for (let n = 1; cursor && rows.length < Math.min(ROWS_TO_FILL, limit) && n < PAGES_TO_FILL; n += 1) {
      const next = await page(cursor, signal);
      rows = [...rows, ...next.rows];
      cursor = next.cursor;
    }
    return { rows, cursor, more: rows !== first.rows || cursor !== first.cursor };
  };

  useEffect(() => {
    setState(EMPTY);
    present.current = address;
    if (!address) return undefined;
    let isFirst = true;
    polling.current = poll(async (signal) => {
      try {
        let first = await page(null, signal);
        if (isFirst) first = { ...first, ...(await fill(first, signal)) };
        const begins = isFirst;
        isFirst = false;
        setState((was) => (begins ? { more: false, ...first } : merged(was, first, keyOf)));
      } catch (error) {
        if (error.name !== 'AbortError') setState((was) => ({ ...was, error }));
        throw error;
      }
    }, every);
    return () => polling.current.stop();
  }, [address, every]);

  const loadMore = async () => {
    if (loadingMore) return;
    setLoadingMore(true);
    try {
      const first = await page(state.cursor);
      const added = { ...first, ...(await fill(first)) };
      if (present.current !== address) return;
      setState((was) => {
        const known = new Set(was.rows.map(keyOf));
        const rows = [...was.rows, ...added.rows.filter((row) => !known.has(keyOf(row)))];
        return { ...was, rows, cursor: added.cursor, more: true, error: null };
      });
    } catch (error) {
      setState((was) => ({ ...was, error }));
    }
    setLoadingMore(false);
  };

  /** Takes rows away at once, before the service's list does. */
  const drop = (key) => setState((was) => ({ ...was, rows: was.rows.filter((row) => keyOf(row) !== key) }));
  return { ...state, address, loadMore, loadingMore, drop, reload: () => polling.current?.now() };
}
