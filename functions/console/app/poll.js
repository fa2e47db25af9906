// Turns that come again every few seconds: slower after failures, and not at all while the page is hidden.
const SLOWEST_MS = 60_000;
const RETRY_MS = 5_000;
const SPREAD = 0.2;

/** Readers who opened a screen at the same moment must not ask at the same moments for ever. */
const spread = (ms) => ms * (1 - SPREAD + Math.random() * 2 * SPREAD);

/** How long to wait after `failures` in a row, the last of which was `error`. */
export function waitAfter(every, failures, error) {
  const wait = Math.min(every * 2 ** failures, SLOWEST_MS);
  return spread(Math.max(wait, every)) + (error?.retryAfterMs ?? 0);
}

/**
 * Calls `turn` at once and then every `every` ms, until it returns true: then it has seen the end. With 0, the first
 * success is the end. Returns what ends that and what asks for a turn now.
 */
export function poll(turn, every) {
  let stopped = false;
  let over = false;
  let timer;
  let failures = 0;
  let controller;
  const now = async () => {
    clearTimeout(timer);
    controller?.abort();
    const mine = new AbortController();
    controller = mine;
    let failed;
    try {
      const ended = await turn(mine.signal);
      failures = 0;
      if (controller === mine) over = ended || every === 0;
    } catch (error) {
      if (error.name === 'AbortError') return;
      failures += 1;
      failed = error;
    }
    if (stopped || over || document.hidden || controller !== mine) return;
    timer = setTimeout(now, waitAfter(every || RETRY_MS, failures, failed));
  };
  const again = () => {
    clearTimeout(timer);
    if (!document.hidden && !over) now();
  };
  document.addEventListener('visibilitychange', again);
  addEventListener('online', again);
  now();
  const stop = () => {
    stopped = true;
    clearTimeout(timer);
    controller?.abort();
    document.removeEventListener('visibilitychange', again);
    removeEventListener('online', again);
  };
  return { stop, now };
}
