// Sends matching dead letters again: one call after the other until the service says that it has done all.
import { call } from '../api.js';

const CALL = 100;
const IDLE_MS = 2_000;
const IDLE_CALLS = 3;

/** Waits, unless `signal` ends that before. */
const pause = (ms, signal) =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener('abort', () => {
      clearTimeout(timer);
      resolve();
    }, { once: true });
  });

/**
 * Adds to `sum` what each call came to, and calls `tell` after it. The service spreads only the deliveries of one call, so
 * the next one waits until those are due. Returns `done`, `stopped` by `signal`, or `idle`: what is left cannot be sent now.
 */
export async function redriveAll({ filter, perSecond, sum, tell, signal }) {
  let idle = 0;
  while (!signal.aborted) {
    const began = Date.now();
    const { data } = await call('POST', 'dead-letters/redrive', { body: { filter, limit: CALL, per_second: perSecond } });
    sum.redriven += data.redriven;
    sum.skipped += data.skipped ?? 0;
    tell();
    if (data.complete || (data.matched === 0 && !data.skipped)) return 'done';
    idle = data.redriven === 0 ? idle + 1 : 0;
    if (idle === IDLE_CALLS) return 'idle';
    const due = began + (data.redriven / perSecond) * 1000;
    await pause(data.redriven === 0 ? IDLE_MS : Math.max(due - Date.now(), 0), signal);
  }
  return 'stopped';
}
