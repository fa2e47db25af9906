// Runs tests: some side by side, one line for each in the end. `until` waits for a condition, so that no test sleeps.

const PATIENCE_MS = 30_000;
const PROBE_EVERY_MS = 100;

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Asks `probe` again and again until its answer is true. Gives that answer. */
export async function until(what, probe, ms = PATIENCE_MS) {
  const end = Date.now() + ms;
  for (;;) {
    let failure = null;
    try {
      const found = await probe();
      if (found) return found;
    } catch (error) {
      failure = error;
    }
    if (Date.now() > end) throw new Error(`${what}: not within ${ms / 1000} s${failure ? `: ${failure.message}` : ''}`);
    await pause(PROBE_EVERY_MS);
  }
}

const seconds = (began) => `${((Date.now() - began) / 1000).toFixed(1)} s`;

function within(ms, work) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`took longer than ${ms / 1000} s`)), ms);
  });
  return Promise.race([work, late]).finally(() => clearTimeout(timer));
}

/** Runs one test and prints its line. `begin` makes what the test gets, and `end` puts it away. */
async function runOne([claim, body], { begin, end, longestMs }) {
  const began = Date.now();
  const t = begin();
  let failure = null;
  try {
    await within(longestMs, body(t));
  } catch (error) {
    failure = error;
    failure.seen = await t.look().catch(() => '');
  }
  await end(t, failure).catch((error) => (failure ??= error));
  const figure = t.figures.length > 0 ? `: ${t.figures.join(', ')}` : '';
  console.log(`${failure ? 'FAIL' : 'ok  '} ${claim}${figure} (${seconds(began)})`);
  if (failure) console.log(`     ${String(failure.stack ?? failure).replaceAll('\n', '\n     ')}\n     ${failure.seen ?? ''}`);
  return !failure;
}

/**
 * Runs the tests of `waiting` at once, because they mostly wait, and those of `queue` by some workers beside them. Those
 * of `alone` come last, when nothing else needs the processor. Gives the number of failures.
 */
export async function runAll({ waiting, queue, alone, workers, ...frame }) {
  let failures = 0;
  const run = async (test) => {
    if (!(await runOne(test, frame))) failures += 1;
  };
  const rest = [...queue];
  const worker = async () => {
    while (rest.length > 0) await run(rest.shift());
  };
  const waits = waiting.map(run);
  await Promise.all(Array.from({ length: workers }, worker));
  for (const test of alone) await run(test);
  await Promise.all(waits);
  return failures;
}
