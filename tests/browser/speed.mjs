// How much the console costs: the script time of a long list, and the bytes and requests of the first view.
import assert from 'node:assert/strict';
import { go, settled } from './browser.mjs';
import { until } from './check.mjs';
import { read } from './stack.mjs';

const ROWS = 200;
const RUNS = 5;
const SCRIPT_MS = 100;
const FIRST_VIEW_BYTES = 60 * 1024;
const FIRST_VIEW_REQUESTS = 5;

async function longList(t) {
  await t.seed.many;
  const page = await t.signIn();
  // The rows are real ones, and answered from here: what is measured is the console and not the service.
  const { endpoints } = await read(`/tenants/megacorp/endpoints?limit=${ROWS}`);
  const card = await read(`/tenants/megacorp/endpoints/${endpoints[0].id}`);
  assert.equal(endpoints.length, ROWS);
  await page.route(/\/api\/tenants\/megacorp\/endpoints\?/, (route) => route.fulfill({ json: { endpoints, next_cursor: null } }));
  await page.route(/\/api\/tenants\/megacorp\/endpoints\/ep_/, (route) => route.fulfill({ json: card }));
  const protocol = await page.context().newCDPSession(page);
  await protocol.send('Performance.enable', { timeDomain: 'threadTicks' });
  const scriptMs = async () => {
    const { metrics } = await protocol.send('Performance.getMetrics');
    return metrics.find(({ name }) => name === 'ScriptDuration').value * 1000;
  };
  const rows = page.getByRole('table', { name: 'Endpoints' }).locator('tbody tr');
  const taken = [];
  for (let n = 0; n < RUNS; n += 1) {
    await go(page, '/event-types');
    await settled(page, 'Event types');
    const before = await scriptMs();
    await go(page, '/tenants/megacorp/endpoints');
    await rows.nth(ROWS - 1).waitFor();
    taken.push((await scriptMs()) - before);
  }
  taken.sort((a, b) => a - b);
  const median = taken[Math.floor(RUNS / 2)];
  t.figures.push(`${Math.round(median)} ms (${taken.map(Math.round).join(', ')})`);
  assert.ok(median <= SCRIPT_MS, `${median} ms`);
}

async function firstView(t) {
  const page = await t.signIn();
  const protocol = await page.context().newCDPSession(page);
  await protocol.send('Network.enable');
  await protocol.send('Network.setCacheDisabled', { cacheDisabled: true });
  const files = new Map();
  protocol.on('Network.responseReceived', ({ requestId, response }) => {
    if (new URL(response.url).pathname.startsWith('/console/')) files.set(requestId, { url: response.url, bytes: null });
  });
  protocol.on('Network.loadingFinished', ({ requestId, encodedDataLength }) => {
    if (files.has(requestId)) files.get(requestId).bytes = encodedDataLength;
  });
  await page.reload();
  await settled(page, 'Overview');
  await until('all files are there', () => files.size > 2 && [...files.values()].every(({ bytes }) => bytes !== null));
  const bytes = [...files.values()].reduce((sum, file) => sum + file.bytes, 0);
  t.figures.push(`${files.size} requests, ${(bytes / 1024).toFixed(1)} KiB`);
  assert.ok(files.size <= FIRST_VIEW_REQUESTS, [...files.values()].map(({ url }) => url).join('\n'));
  assert.ok(bytes > 10_000 && bytes <= FIRST_VIEW_BYTES, `${bytes} bytes`);
}

export const tests = [
  ['the first view is small, and has few files', firstView],
];
export const alone = [
  [`a list of ${ROWS} endpoints is drawn within ${SCRIPT_MS} ms of script`, longList],
];
