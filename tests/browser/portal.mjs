// The portal of a tenant: all of its own, nothing of anybody else, and with a read-only session nothing to press.
import assert from 'node:assert/strict';
import { button, go, sessionOf, settled } from './browser.mjs';
import { tokens } from './operator-catalogue.mjs';
import { ways } from './operator-endpoints.mjs';
import { operatorForms, operatorScreens, portalForms, portalScreens } from './screens.mjs';
import { ask } from './stack.mjs';

const shopper = { scope: 'tenant:customer' };
const customer = ways(shopper, 'customer', '');
// Words that stand only in what belongs to others.
const OF_OTHERS = ['globex', 'Globex', 'report-', 'megacorp'];

async function onlyItsOwn(t) {
  const { globex } = t.seed;
  const page = await t.signIn({ scope: 'tenant:acme' });
  const foreign = ['/tenants/globex', '/tenants/globex/endpoints', `/tenants/globex/endpoints/${globex.id}`, '/tenants/globex/events/globex-1'];
  const places = [...operatorScreens(t.seed), ...operatorForms(t.seed)].map(({ path }) => path.split('?')[0])
    .filter((path) => !path.startsWith('/tenants/acme') && !['/', '/event-types', '/event-types/order.paid', '/tokens'].includes(path));
  for (const place of [...foreign, ...new Set(places)]) {
    await go(page, place);
    await settled(page, 'There is no such page');
  }
  // An id of another tenant, asked for as its own.
  for (const place of [`/endpoints/${globex.id}`, '/events/globex-1']) {
    await go(page, place);
    await page.getByRole('alert').getByText('This does not exist').first().waitFor();
  }
  for (const { path, title } of portalScreens(t.seed)) {
    await go(page, path);
    await settled(page, title);
    const text = await page.locator('main').innerText();
    for (const word of OF_OTHERS) assert.ok(!text.includes(word), `${path} shows ${word}`);
  }
  const links = await page.getByRole('navigation', { name: 'Main' }).getByRole('link').allInnerTexts();
  assert.deepEqual(links, ['Overview', 'Endpoints', 'Events', 'Event types', 'API tokens']);
  const asked = page.seen.urls.filter((url) => /\/api\/(health|dead-letters|circuit-breakers|webhook-statuses|metrics|deliveries|tenants\/globex)/.test(url));
  assert.deepEqual(asked, [], 'nothing of others is even asked for');
}

async function readOnly(t) {
  const page = await t.signIn({ scope: 'tenant:acme', readOnly: true });
  // What may stand on a screen that changes nothing.
  const harmless = /^(Copy |Copied |Use the |Sign out$|Menu$|Load more$|Pretty$|As sent$|Ended$|Delivered$|Failed$|Waiting$)/;
  for (const { path, title } of portalScreens(t.seed)) {
    await go(page, path);
    await settled(page, title);
    const names = await page.getByRole('button').evaluateAll((all) => all.map((one) => one.getAttribute('aria-label') ?? one.innerText.trim()));
    assert.deepEqual(names.filter((name) => !harmless.test(name)), [], `${path} has buttons`);
    for (const word of ['New', 'Create', 'Edit', 'Replay', 'Send']) {
      assert.equal(await page.locator('main').getByRole('link', { name: new RegExp(`^${word}\\b`) }).count(), 0, `${path} offers ${word}`);
    }
  }
  for (const { path } of portalForms(t.seed).filter(({ path, first }) => !first && path !== '/nowhere')) {
    await go(page, path);
    await settled(page, 'This session is read only');
  }
  const { token } = await sessionOf(page);
  assert.equal((await ask('GET', `/tenants/acme/endpoints/${t.seed.acme.orders.id}/secret`, { token })).status, 403);
  assert.equal((await ask('POST', '/tenants/acme/events', { token, body: {} })).status, 403);
}

async function showsItsDeliveries(t) {
  const { acme, retried } = t.seed;
  const page = await t.signIn({ scope: 'tenant:acme' });
  await settled(page, 'Overview');
  await page.getByRole('table', { name: 'Latest events' }).getByRole('link', { name: retried }).click();
  await settled(page, retried);
  await page.getByRole('table', { name: 'Deliveries' }).getByRole('link', { name: acme.analytics.id }).click();
  await settled(page, 'Delivery');
  const attempts = page.getByRole('list', { name: 'Attempts' }).getByRole('listitem');
  assert.match((await attempts.allInnerTexts()).join('\n'), /HTTP 503[^]*busy[^]*waited[^]*HTTP 200[^]*thank you/);
  await page.getByRole('navigation', { name: 'Breadcrumb' }).getByRole('link', { name: 'Events' }).click();
  await settled(page, 'Events');
  assert.equal(await button(page, 'Erase tenant').count(), 0);
}

export const tests = [
  ['a customer makes an endpoint', customer.create],
  ['a customer pauses an endpoint, and resumes it knowing what it is owed', customer.pauseAndResume],
  ['a customer sends a test and sees the answer', customer.test],
  ['a customer rotates a secret and reveals both', customer.secrets],
  ['a customer deletes an endpoint', customer.remove],
  ['a customer sends an event and sends it again', customer.send],
  ['a customer follows an event to each attempt of its delivery', showsItsDeliveries],
  ['a customer makes a token of the own scope and revokes it', tokens(shopper, 'API tokens', 'tenant:customer', '/tenants/customer/endpoints')],
  ['a portal opens no screen of the operator and shows nothing of another tenant', onlyItsOwn],
  ['a read-only portal has nothing that changes something, and no way to a secret', readOnly],
];
