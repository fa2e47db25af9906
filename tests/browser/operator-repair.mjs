// How an operator repairs what failed: replays, redrives, circuit breakers, and payloads that must be erased.
import assert from 'node:assert/strict';
import { button, dialog, dialogClosed, load, notice, settled } from './browser.mjs';
import { until } from './check.mjs';
import { endpoint, event } from './seed.mjs';
import { ask, post, read } from './stack.mjs';
import { startReceiver } from './receiver.mjs';

const FAILURES_TO_OPEN = 5;
const NO_RETRY = [];
const BROKEN = { status: 500, body: 'broken' };

/** An endpoint whose receiver fails, and `count` events that were given up because of that. */
async function failed(t, tenant, path, count) {
  const { receiver } = t.seed;
  receiver.answers(path, BROKEN);
  const target = await endpoint(tenant, {
    url: receiver.url(path), description: path, event_types: [`${path.slice(1)}.now`], retry_schedule_s: NO_RETRY,
  });
  for (let n = 1; n <= count; n += 1) await event(tenant, `${path.slice(1)}.now`, `${path.slice(1)}-${n}`, { n });
  await until('all were given up', async () =>
    (await read(`/tenants/${tenant}/endpoints/${target.id}/deliveries?result=failed`)).deliveries.length >= Math.min(count, FAILURES_TO_OPEN));
  return target;
}

async function replay(t) {
  const { receiver } = t.seed;
  const target = await failed(t, 'repair', '/replayed', 3);
  receiver.answers('/replayed', { status: 200, body: 'mended' });
  const before = receiver.callsOf('/replayed').length;
  const page = await t.signIn();
  await load(page, `/tenants/repair/endpoints/${target.id}/replay`);
  await settled(page, 'Replay deliveries');
  await page.getByLabel('Deliveries per second').fill('100');
  await button(page, 'Dry run').click();
  const start = page.getByRole('button', { name: 'Send 3 deliveries again' });
  await start.waitFor();
  assert.equal(receiver.callsOf('/replayed').length, before, 'a dry run sends nothing');
  await start.click();
  await settled(page, 'Replay');
  await page.getByLabel('Progress').getByText('Done').waitFor();
  await receiver.called('/replayed', before + 3);
  const { lives } = await until('the delivery went on', async () => {
    const delivery = await read(`/tenants/repair/events/replayed-1/deliveries/${target.id}`);
    return delivery.lives.some((life) => life.life && life.status === 'delivered') && delivery;
  });
  assert.equal(lives.length, 2, 'a replay is a life of its own');
}

async function redriveOne(t) {
  const { receiver } = t.seed;
  const target = await failed(t, 'repair', '/redriven', 1);
  const id = `redriven-1.${target.id}`;
  await until('its dead letter is there', async () => (await ask('GET', `/dead-letters/${id}`)).status === 200);
  receiver.answers('/redriven', { status: 200, body: 'mended' });
  const page = await t.signIn();
  await load(page, `/dead-letters/${id}`);
  await settled(page, 'Dead letter');
  await page.getByText('The last attempt of the retry schedule failed.').waitFor();
  await button(page, 'Redrive').click();
  await notice(page, /It is queued as/);
  const calls = await receiver.called('/redriven', 2);
  assert.equal(calls[1].headers['webhook-id'], calls[0].headers['webhook-id']);
  await page.getByText('Sent again').waitFor();
  await button(page, 'Delete').click();
  await button(dialog(page, 'Delete the dead letter?'), 'Delete').click();
  await notice(page, 'The dead letter is deleted');
  await settled(page, 'Dead letters');
  assert.equal((await ask('GET', `/dead-letters/${id}`)).status, 404);
}

async function redriveByFilter(t) {
  const closing = await startReceiver();
  try {
    closing.answers('/hook', { status: 404 });
    const ids = ['filtered-1', 'filtered-2', 'filtered-3'];
    for (const id of ids) await post('/webhooks', { reference_id: id, webhook_url: closing.url('/hook'), payload: { id } });
    await until('their dead letters are there', async () =>
      (await read(`/dead-letters?destination=${encodeURIComponent(closing.origin)}`)).dead_letters.length === ids.length);
    closing.answers('/hook', { status: 200 });
    const page = await t.signIn();
    await load(page, '/dead-letters');
    await settled(page, 'Dead letters');
    const filters = page.getByRole('search', { name: 'Filters' });
    await filters.getByLabel('Receiver').fill(closing.origin);
    await filters.getByLabel('Receiver').press('Enter');
    await page.getByText('3 shown, that is all').waitFor();
    await page.getByRole('link', { name: 'Redrive by filter' }).click();
    await settled(page, 'Redrive dead letters');
    assert.equal(await page.getByLabel('Receiver (optional)').inputValue(), closing.origin, 'the filter goes along');
    await button(page, 'Dry run').click();
    await page.getByText('The filter matches').getByText('3 dead letters').waitFor();
    assert.equal(closing.callsOf('/hook').length, 3, 'a dry run sends nothing');
    await button(page, 'Redrive 3 dead letters').click();
    await page.getByLabel('Progress').getByText('Done').waitFor();
    await closing.called('/hook', 6);
    await button(page, 'Dry run').click();
    await page.getByText('Nothing matches').waitFor();
  } finally {
    await closing.close();
  }
}

async function resetBreaker(t) {
  const { receiver } = t.seed;
  const target = await failed(t, 'repair', '/tripped', FAILURES_TO_OPEN);
  const name = `endpoint:${target.id}`;
  const stateNow = async () => (await read(`/tenants/repair/endpoints/${target.id}`)).health.breaker;
  await until('its breaker opens', async () => (await stateNow()) === 'open');
  receiver.answers('/tripped', { status: 200 });
  const page = await t.signIn();
  await load(page, '/breakers?state=open');
  await settled(page, 'Circuit breakers');
  await page.getByRole('table', { name: 'Circuit breakers' }).getByText(name).waitFor();
  await button(page, `Reset ${name}`).click();
  const asked = dialog(page, 'Reset the circuit breaker?');
  await asked.getByText('5 times').waitFor();
  await button(asked, 'Reset').click();
  await notice(page, 'The circuit breaker is closed');
  await dialogClosed(page);
  await button(page, `Reset ${name}`).waitFor({ state: 'detached' });
  assert.equal(await stateNow(), 'closed');
  await event('repair', 'tripped.now', 'tripped-after', { n: 0 });
  await receiver.called('/tripped', FAILURES_TO_OPEN + 1);
}

async function erasePayload(t) {
  const { receiver } = t.seed;
  await endpoint('repair', { url: receiver.url('/erased'), description: 'Erased', event_types: ['erased.now'] });
  await event('repair', 'erased.now', 'erased-1', { secret: 'of a customer' });
  await receiver.called('/erased');
  const page = await t.signIn();
  await load(page, '/tenants/repair/events/erased-1');
  await settled(page, 'erased-1');
  await page.getByText('of a customer').waitFor();
  await page.getByRole('table', { name: 'Deliveries' }).waitFor();
  await button(page, 'Erase payload').click();
  const asked = dialog(page, 'Erase the payload?');
  await asked.getByText('1 ended delivery').waitFor();
  assert.ok(await button(asked, 'Erase payload').isDisabled(), 'the word comes first');
  await asked.getByLabel('Type erase to confirm').fill('erase');
  await button(asked, 'Erase payload').click();
  await page.getByText('The payload was erased.').waitFor();
  await dialogClosed(page);
  const { erased_at: at, payload } = await read('/tenants/repair/events/erased-1');
  assert.ok(at && payload === undefined);
  assert.ok(!(await page.locator('body').innerText()).includes('of a customer'));
}

export const tests = [
  ['what failed is counted by a dry run, and then replayed', replay],
  ['one dead letter is sent again with the same id, and deleted', redriveOne],
  ['dead letters that match a filter are counted by a dry run, and then sent again', redriveByFilter],
  ['an open circuit breaker is reset after its failures were told', resetBreaker],
  ['a payload is erased after its word was typed', erasePayload],
];
