// A list with cursors that stays current.
import { call, withQuery } from './api.js';
import { EVERY_MS } from './live.js';
import { poll } from './poll.js';
import { useEffect, useRef, useState } from './view.js';

const PAGES_TO_FILL = 12;
const ROWS_TO_FILL = 20;

/** Rows that did not change keep their object. */
function settled(was, now, keyOf) {
  const known = new Map(was.map((row) => [keyOf(row), row]));
  return now.map((row) => {
    const old = known.get(keyOf(row));
    return old && JSON.stringify(old) === JSON.stringify(row) ? old : row;
  });
}

/** A fresh first page above the rows that were loaded further down. `full` is how many rows a whole page has at least. */
function merged(was, page, keyOf, full) {
  const head = settled(was.rows, page.rows, keyOf);
  const fresh = new Set(head.map(keyOf));
  const lastKnown = was.rows.findLastIndex((row) => fresh.has(keyOf(row)));
  // So much came that there are rows between the page and what is below it, which nobody has read.
  const isTorn = lastKnown < 0 && head.length >= full;
  if (!was.more || !page.cursor || isTorn) return { ...page, rows: head, more: false };
  // What the page skips is gone. What stands below it is of later pages.
  return { ...was, ...page, cursor: was.cursor, rows: [...head, ...was.rows.slice(lastKnown + 1)] };
}

const EMPTY = { rows: [], cursor: null, more: false, data: null, error: null, at: null };

/**
 * The first page is read again and again; `loadMore` adds the next one. A page may be short or empty and still have a
 * cursor: then the next pages are read until there is something to show.
 */
export function usePages(path, { query = {}, pick, keyOf, every = EVERY_MS, limit = 50 }) {
  const address = path && withQuery(path, { ...query, limit });
  const full = Math.min(ROWS_TO_FILL, limit);
  const [state, setState] = useState(EMPTY);
  const [loadingMore, setLoadingMore] = useState(false);
  const polling = useRef(null);
  // What is shown: an object for each time that an address is opened. Answers for another one come too late.
  const present = useRef(null);

  const page = async (cursor, signal) => {
    const { data } = await call('GET', withQuery(path, { ...query, limit, cursor }), { signal });
    return { rows: data[pick], cursor: data.next_cursor ?? null, data, error: null, at: Date.now() };
  };
  const fill = async (first, signal) => {
    let { rows, cursor } = first;
    for (let n = 1; cursor && rows.length < full && n < PAGES_TO_FILL; n += 1) {
      const next = await page(cursor, signal);
      rows = [...rows, ...next.rows];
      cursor = next.cursor;
    }
    return { rows, cursor, more: rows !== first.rows || cursor !== first.cursor };
  };

  useEffect(() => {
    setState(EMPTY);
    setLoadingMore(false);
    present.current = {};
    if (!address) return undefined;
    let isFirst = true;
    polling.current = poll(async (signal) => {
      try {
        let first = await page(null, signal);
        if (isFirst) first = { ...first, ...(await fill(first, signal)) };
        const begins = isFirst;
        isFirst = false;
        setState((was) => (begins ? { more: false, ...first } : merged(was, first, keyOf, full)));
      } catch (error) {
        if (error.name !== 'AbortError') setState((was) => ({ ...was, error }));
        throw error;
      }
    }, every);
    return () => polling.current.stop();
  }, [address, every]);

  const loadMore = async () => {
    if (loadingMore) return;
    const mine = present.current;
    const change = (next) => present.current === mine && setState(next);
    setLoadingMore(true);
    try {
      const first = await page(state.cursor);
      const added = { ...first, ...(await fill(first)) };
      change((was) => {
        const known = new Set(was.rows.map(keyOf));
        const rows = [...was.rows, ...added.rows.filter((row) => !known.has(keyOf(row)))];
        return { ...was, rows, cursor: added.cursor, more: true, error: null };
      });
    } catch (error) {
      change((was) => ({ ...was, error }));
    } finally {
      if (present.current === mine) setLoadingMore(false);
    }
  };

  /** Takes rows away at once, before the service's list does. */
  const drop = (key) => setState((was) => ({ ...was, rows: was.rows.filter((row) => keyOf(row) !== key) }));
  return { ...state, address, loadMore, loadingMore, drop, reload: () => polling.current?.now() };
}
