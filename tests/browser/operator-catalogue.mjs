// What an operator keeps in order: event types, tokens, links, and tenants.
import assert from 'node:assert/strict';
import { button, dialog, dialogClosed, load, notice, openLink, settled } from './browser.mjs';
import { until } from './check.mjs';
import { endpoint, event } from './seed.mjs';
import { ask, read } from './stack.mjs';

async function eventTypes(t) {
  const page = await t.signIn();
  await load(page, '/event-types');
  await settled(page, 'Event types');
  await page.getByRole('link', { name: 'New event type' }).click();
  await settled(page, 'New event type');
  await page.getByLabel('Name').fill('made by hand');
  await page.getByLabel('Schema (optional)').fill('{"type": ');
  await button(page, 'Save event type').click();
  await page.locator('.fault', { hasText: 'has words of letters' }).waitFor();
  await page.locator('.fault', { hasText: 'JSON' }).waitFor();
  await page.getByLabel('Name').fill('made.by_hand');
  await page.getByLabel('Description').fill('Made by hand.');
  await page.getByLabel('Schema (optional)').fill('{"type": "object", "required": ["n"]}');
  await page.getByLabel('Example (optional)').fill('{"m": 1}');
  await button(page, 'Save event type').click();
  await page.locator('.fault').first().waitFor();
  await page.getByLabel('Example (optional)').fill('{"n": 12345678901234567890123}');
  await button(page, 'Save event type').click();
  await settled(page, 'made.by_hand');
  await page.getByRole('group', { name: 'Example', exact: true }).getByText('12345678901234567890123').waitFor();
  assert.equal((await read('/event-types/made.by_hand')).description, 'Made by hand.');
  await page.getByRole('link', { name: 'Edit', exact: true }).click();
  await settled(page, 'Edit made.by_hand');
  await page.getByLabel('Description').fill('Changed by hand.');
  await page.getByLabel('Deprecated').check();
  await button(page, 'Save event type').click();
  await page.getByText('Changed by hand.').waitFor();
  const { deprecated, schema } = await read('/event-types/made.by_hand');
  assert.deepEqual([deprecated, schema], [true, { type: 'object', required: ['n'] }]);
  await button(page, 'Delete').click();
  await button(dialog(page, 'Delete the event type?'), 'Delete event type').click();
  await notice(page, 'The event type is deleted');
  await settled(page, 'Event types');
  assert.equal((await ask('GET', '/event-types/made.by_hand')).status, 404);
}

/** Makes a token on the screen "Tokens" and revokes it there. A portal does it for its own scope alone. */
export const tokens = (session, title, scope, place) => async (t) => {
  const description = `Made for ${scope}`;
  const page = await t.signIn(session);
  await load(page, session.scope ? '/tokens' : `/tokens?scope=${scope}`);
  await settled(page, title);
  await button(page, 'New token').click();
  const asked = dialog(page, 'New token');
  if (!session.scope) {
    await asked.getByLabel('Scope').fill('nobody');
    await button(asked, 'Make token').click();
    await asked.locator('.fault').waitFor();
    await asked.getByLabel('Scope').fill(scope);
  }
  await asked.getByLabel('Description').fill(description);
  await button(asked, 'Make token').click();
  await asked.getByText('it is shown only this once').waitFor();
  const token = await asked.getByText(/^sht_/).innerText();
  await button(asked, 'Copy token').click();
  assert.equal(await page.evaluate(() => window.copied), token);
  await button(asked, 'Done').click();
  await dialogClosed(page);
  assert.ok(!(await page.content()).includes(token));
  assert.equal((await ask('GET', place, { token })).status, 200);
  assert.equal((await read(`/tokens?scope=${scope}&limit=200`)).tokens.find((one) => one.description === description).scope, scope);
  await button(page, `Revoke ${description}`).click();
  await button(dialog(page, 'Revoke the token?'), 'Revoke token').click();
  await button(page, `Revoke ${description}`).waitFor({ state: 'detached' });
  await until('the token is refused', async () => (await ask('GET', place, { token })).status === 403, 30_000);
};

async function links(t) {
  const page = await t.signIn();
  await load(page, '/tenants/acme');
  await settled(page, 'acme');
  await button(page, 'Link to its portal').click();
  const asked = dialog(page, 'Link to the console');
  await asked.getByLabel('Read only').check();
  await button(asked, 'Make link').click();
  await asked.getByText('The link works once').waitFor();
  const url = await asked.locator('code').innerText();
  await button(asked, 'Copy link').click();
  assert.equal(await page.evaluate(() => window.copied), url);
  const customer = await t.visitor();
  await openLink(customer, url);
  await settled(customer, 'Overview');
  await customer.getByText('Tenant acme').waitFor();
  await customer.getByText('read only', { exact: true }).waitFor();
}

async function endAll(t) {
  const { token } = (await ask('POST', '/tokens', { body: { scope: 'tenant:ended', ttl_s: 600 } })).data;
  const page = await t.signIn();
  await load(page, '/tokens?scope=tenant:ended');
  await settled(page, 'Tokens');
  await page.getByText('1 shown, that is all').waitFor();
  await button(page, 'End all of tenant:ended').click();
  const asked = dialog(page, 'End all tokens?');
  await asked.getByText('1 token').waitFor();
  await asked.getByLabel('Type tenant:ended to confirm').fill('tenant:ended');
  await button(asked, 'End all tokens').click();
  await notice(page, 'All tokens of the scope end');
  await until('the token is refused', async () => (await ask('GET', '/tenants/ended/endpoints', { token })).status === 403, 30_000);
}

async function eraseTenant(t) {
  await endpoint('leaving', { url: t.seed.receiver.url('/leaving'), description: 'Leaving' });
  await event('leaving', 'order.paid', 'leaving-1', { order: 1 });
  await t.seed.receiver.called('/leaving');
  const page = await t.signIn();
  await load(page, '/tenants');
  await settled(page, 'Tenants');
  await page.getByLabel('Name').fill('no/such');
  await button(page, 'Open').click();
  await page.locator('.fault').waitFor();
  await page.getByLabel('Name').fill('leaving');
  await button(page, 'Open').click();
  await settled(page, 'leaving');
  await button(page, 'Erase tenant').click();
  const asked = dialog(page, 'Erase the tenant leaving?');
  await asked.getByText('1 endpoint').waitFor();
  await asked.getByLabel('Type leaving to confirm').fill('leavin');
  assert.ok(await button(asked, 'Erase tenant').isDisabled());
  await asked.getByLabel('Type leaving to confirm').fill('leaving');
  await button(asked, 'Erase tenant').click();
  await notice(page, 'The tenant is being erased');
  await until('its endpoints are gone', async () => {
    const { status, data } = await ask('GET', '/tenants/leaving/endpoints');
    return status === 404 || data.endpoints?.length === 0;
  }, 30_000);
}

async function manyEndpoints(t) {
  await t.seed.many;
  const page = await t.signIn();
  await load(page, '/tenants/megacorp/endpoints');
  const rows = page.getByRole('table', { name: 'Endpoints' }).getByRole('row');
  const shown = (count) => until(`${count} rows`, async () => (await rows.count()) === count + 1);
  await shown(50);
  for (const count of [100, 150, 200, 205]) {
    await button(page, 'Load more').click();
    await shown(count);
  }
  await page.getByText('205 shown, that is all').waitFor();
  assert.equal(await button(page, 'Load more').count(), 0);
}

export const tests = [
  ['an event type is described, changed and deleted', eventTypes],
  ['the operator makes a token for a tenant and revokes it', tokens({}, 'Tokens', 'tenant:acme', '/tenants/acme/endpoints')],
  ['the operator makes a link to a portal', links],
  ['all tokens of a scope are ended after its name was typed', endAll],
  ['a tenant is erased after its name was typed', eraseTenant],
  ['a long list is shown page by page', manyEndpoints],
];
