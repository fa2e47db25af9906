// What screens show when something is not as usual: no connection, an error of the service, nothing there. And that they
// stay still while they are kept current.
import assert from 'node:assert/strict';
import { button, go, heading, load, settled } from './browser.mjs';
import { until } from './check.mjs';

const POLL_MS = 5_000;
const LIST = '/tenants/acme/endpoints';
const NO_ENDPOINT = 'ep_0000000000000000000000';

async function offline(t) {
  const page = await t.signIn();
  await load(page, LIST);
  const row = page.getByRole('link', { name: 'Orders of the shop' });
  await row.waitFor();
  await page.context().setOffline(true);
  const said = page.getByText('Steadhook cannot be reached. This is what was read at');
  await said.waitFor();
  assert.ok(await row.isVisible(), 'the data stays');
  await go(page, '/tenants/globex/endpoints');
  await page.getByRole('alert').getByText('Check your connection. This page tries again by itself.').waitFor();
  await page.context().setOffline(false);
  await page.getByRole('link', { name: 'Plans of Globex' }).waitFor();
  assert.equal(await page.getByRole('alert').count(), 0);
}

async function serviceFails(t) {
  const page = await t.signIn();
  let failures = 1;
  await page.route(/\/api\/tenants\/acme\/endpoints\?/, (route) => {
    failures -= 1;
    if (failures < 0) return route.continue();
    return route.fulfill({
      status: 503,
      contentType: 'application/problem+json',
      json: {
        type: 'urn:steadhook:problem:unavailable', title: 'The registry is away', status: 503,
        detail: 'Nothing was changed; try again.', correlation_id: 'corr-123',
      },
    });
  });
  await load(page, LIST);
  const alert = page.getByRole('alert');
  for (const text of ['The registry is away', 'Nothing was changed; try again.', 'corr-123']) await alert.getByText(text).waitFor();
  await button(alert, 'Try again').click();
  await page.getByRole('link', { name: 'Orders of the shop' }).waitFor();
  assert.equal(await alert.count(), 0);
}

async function actionFails(t) {
  const page = await t.signIn();
  const { orders } = t.seed.acme;
  await load(page, `${LIST}/${orders.id}`);
  await settled(page, 'Orders of the shop');
  await page.route('**/secret', (route) => route.fulfill({
    status: 503, contentType: 'application/problem+json',
    json: { type: 'urn:steadhook:problem:unavailable', title: 'The registry is away', status: 503, detail: 'Try again.', correlation_id: 'corr-456' },
  }));
  await button(page, 'Reveal secret').click();
  await page.getByRole('alert').getByText('corr-456').waitFor();
  assert.equal(await page.locator('dialog').count(), 0);
}

async function notFound(t) {
  const page = await t.signIn();
  const unknown = [
    `${LIST}/${NO_ENDPOINT}`, `${LIST}/${NO_ENDPOINT}/replays/none`, '/tenants/acme/events/none-such',
    `/tenants/acme/events/none-such/deliveries/${NO_ENDPOINT}`, '/dead-letters/none-such', '/webhooks/none-such', '/event-types/none.such',
  ];
  for (const place of unknown) {
    await load(page, place);
    await page.getByRole('alert').getByText('This does not exist').first().waitFor();
  }
  // What the service does not take for a name is no address, and does not end the session.
  for (const place of ['/nowhere', `${LIST}/not-an-id`, '/event-types/a%20b', '/tenants/a%2Fb', '/dead-letters/a%20b', '/tenants/%E0%A4']) {
    await load(page, place);
    await settled(page, 'There is no such page');
  }
  await page.getByRole('link', { name: 'Go to the overview' }).click();
  await settled(page, 'Overview');
}

async function nothingThere(t) {
  const page = await t.signIn();
  const empty = [
    ['/tenants/nobody', 'There is no such tenant yet'],
    ['/tenants/nobody/endpoints', 'There is no endpoint yet'],
    ['/tenants/nobody/events', /There was no event|There is no event|No event/],
    [`${LIST}?uid=none-such`, 'No endpoint has this uid'],
    ['/dead-letters?reason=malformed', 'No dead letter matches'],
    ['/breakers?state=half_open', 'No circuit breaker'],
    ['/tokens?scope=tenant:nobody', 'There is no such token'],
  ];
  for (const [place, text] of empty) {
    await load(page, place);
    await page.locator('main').getByText(text).first().waitFor().catch((error) => {
      throw new Error(`${place}: ${error.message}`);
    });
  }
  const portal = await t.signIn({ scope: 'tenant:nobody' });
  for (const text of ['There is no endpoint yet', 'There was no event yet']) await portal.getByText(text).waitFor();
}

/** A page whose clock the test turns, so that it need not wait for the next poll. Counts the reads of the list. */
async function withClock(t, place) {
  const page = await t.signIn({ height: 500 });
  await page.clock.install();
  await load(page, place);
  await settled(page, 'Endpoints');
  await page.getByRole('table', { name: 'Endpoints' }).getByRole('row').nth(4).waitFor();
  const reads = { begun: 0, done: 0 };
  const isList = (request) => request.url().includes('/endpoints?');
  page.on('request', (request) => (reads.begun += isList(request)));
  page.on('requestfinished', (request) => (reads.done += isList(request)));
  const poll = async () => {
    const before = reads.done;
    await page.clock.runFor(POLL_MS + 100);
    await until('the list is read again', () => reads.done > before);
  };
  return { page, reads, poll };
}

async function hidden(t) {
  const { page, reads, poll } = await withClock(t, LIST);
  const hide = (isHidden) => page.evaluate((value) => {
    Object.defineProperty(document, 'hidden', { configurable: true, get: () => value });
    document.dispatchEvent(new Event('visibilitychange'));
  }, isHidden);
  await poll();
  await hide(true);
  const before = reads.begun;
  await page.clock.runFor(POLL_MS * 12);
  assert.equal(reads.begun, before, 'a hidden page asks for nothing');
  await hide(false);
  await until('it asks at once when it is seen again', () => reads.begun > before);
}

async function stays(t) {
  await t.seed.many;
  const { page, poll } = await withClock(t, '/tenants/megacorp/endpoints');
  const link = page.getByRole('table', { name: 'Endpoints' }).getByRole('row').nth(20).getByRole('link');
  await link.scrollIntoViewIfNeeded();
  await link.focus();
  // The health of the rows in view comes later than the rows.
  await until('the rows are complete', async () => (await page.getByRole('row').nth(20).innerText()).includes('No delivery yet'));
  const now = async () => ({
    box: await link.boundingBox(),
    scroll: await page.evaluate(() => scrollY),
    focus: await page.evaluate(() => document.activeElement.href),
  });
  const before = await now();
  assert.ok(before.scroll > 0 && before.focus.includes('/endpoints/ep_'));
  for (let n = 0; n < 2; n += 1) {
    await poll();
    assert.deepEqual(await now(), before);
  }
  await heading(page, 'Endpoints').waitFor();
}

export const tests = [
  ['without a connection, data stays and the page says so, and it recovers by itself', offline],
  ['an error of the service is shown with its title, detail and correlation id, and trying again works', serviceFails],
  ['an action that fails says so where it was asked for', actionFails],
  ['what does not exist is called so', notFound],
  ['a screen without data says what would be there', nothingThere],
  ['a hidden page asks for nothing, and one that is seen again asks at once', hidden],
  ['nothing moves while a list is kept current', stays],
];
