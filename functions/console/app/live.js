// One resource that stays current. What has not changed keeps its identity, so that it is not drawn again.
import { call, withQuery } from './api.js';
import { poll } from './poll.js';
import { useEffect, useRef, useState } from './view.js';

export const EVERY_MS = 5_000;

const NOTHING = { data: null, text: null, etag: null, error: null, at: null };

/**
 * `path` may be null: then nothing is asked. With `every` 0, it is read once. `ended` says of data that it will not
 * change any more.
 */
export function useLive(path, { query, every = EVERY_MS, accept, ended } = {}) {
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
        return Boolean(ended?.(data));
      } catch (error) {
        if (error.name !== 'AbortError') setState((was) => ({ ...was, error }));
        throw error;
      }
    }, every);
    return () => polling.current.stop();
  }, [address, every]);
  return { ...state, address, reload: () => polling.current?.now() };
}
