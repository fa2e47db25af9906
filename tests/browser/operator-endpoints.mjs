// What an operator does to the endpoints of a tenant. Each effect is looked for at the API or at the receiver.
import assert from 'node:assert/strict';
import { button, dialog, dialogClosed, focused, go, heading, load, notice, settled } from './browser.mjs';
import { until } from './check.mjs';
import { endpoint, event } from './seed.mjs';
import { ask, patch, read } from './stack.mjs';


/** The form of an endpoint is complete when the event types are there to pick. */
const catalogue = (page) => page.getByRole('group', { name: 'Event types of the catalogue' }).waitFor();

/** What can be done with endpoints in a portal as well. `session` is whose, `base` what stands before its addresses. */
export function ways(session, tenant, base) {
  // Each endpoint wants events of a type of its own, because all tests share the tenant.
  const typeOf = (path) => `${path.slice(1)}.now`;
  const made = (seed, path, more) =>
    endpoint(tenant, { url: seed.receiver.url(path), description: path.slice(1), event_types: [typeOf(path)], ...more });
  const card = (id) => read(`/tenants/${tenant}/endpoints/${id}`);
  const opened = async (t, { id, description }) => {
    const page = await t.signIn(session);
    await load(page, `${base}/endpoints/${id}`);
    await settled(page, description);
    return page;
  };

  async function create(t) {
    const { receiver } = t.seed;
    const path = `/created-${tenant}`;
    const page = await t.signIn(session);
    await load(page, `${base}/endpoints/+new`);
    await settled(page, 'New endpoint');
    await catalogue(page);
    const url = page.getByLabel('URL', { exact: true });
    const types = page.getByLabel('Event types', { exact: true });
    await button(page, 'Create endpoint').click();
    await page.getByText('is needed').first().waitFor();
    await until('the first field with a fault has the focus', async () => (await focused(page)).name === 'url');
    // Faults that the service finds stand at their fields as well.
    await url.fill('nonsense');
    await types.fill('order.*');
    await types.press('Enter');
    // What was typed counts as well if it was left with a click.
    await types.fill('refund.*');
    await button(page, 'Add header').click();
    const header = page.getByRole('group', { name: 'Header 1' });
    await header.getByLabel('Name').fill('content-length');
    await header.getByLabel('Value').fill('3');
    await button(page, 'Create endpoint').click();
    await page.locator('.fault', { hasText: 'this header cannot be set' }).waitFor();
    await page.locator('.fault', { hasText: 'not an absolute URL' }).waitFor();
    assert.equal(await url.getAttribute('aria-invalid'), 'true');
    await url.fill(receiver.url(path));
    await header.getByLabel('Name').fill('x-team');
    await header.getByLabel('Value').fill('blue');
    await page.getByLabel('Description', { exact: true }).fill('Made by hand');
    await button(page, 'Create endpoint').click();
    const shown = dialog(page, 'The endpoint is created');
    const secret = await shown.getByText(/^whsec_/).innerText();
    await button(shown, 'Copy secret').click();
    assert.equal(await page.evaluate(() => window.copied), secret);
    await button(shown, 'Done').click();
    await dialogClosed(page);
    await heading(page, 'Made by hand').waitFor();
    assert.ok(!(await page.content()).includes(secret), 'the secret was shown once');
    const { endpoints } = await read(`/tenants/${tenant}/endpoints?limit=200`);
    const found = endpoints.filter((one) => one.description === 'Made by hand');
    assert.equal(found.length, 1, 'faults made nothing');
    assert.deepEqual([found[0].url, found[0].event_types, found[0].headers], [receiver.url(path), ['order.*', 'refund.*'], { 'x-team': 'blue' }]);
    assert.equal((await read(`/tenants/${tenant}/endpoints/${found[0].id}/secret`)).secrets[0].secret, secret);
  }

  async function test(t) {
    const { receiver } = t.seed;
    const path = `/tested-${tenant}`;
    receiver.answers(path, { status: 200, body: 'I have it' }, { status: 500, body: 'not today' });
    const page = await opened(t, await made(t.seed, path));
    await button(page, 'Send test').click();
    const asked = dialog(page, 'Send a test');
    await asked.getByLabel('Payload (optional)').fill('{"big": 12345678901234567890123}');
    await button(asked, 'Send test').click();
    await asked.getByText('The receiver took it').waitFor();
    await asked.getByText('I have it').waitFor();
    assert.equal(receiver.callsOf(path)[0].body, '{"big": 12345678901234567890123}', 'it is sent as it was written');
    await button(asked, 'Send another').click();
    await button(asked, 'Send test').click();
    await asked.getByText('The test failed').waitFor();
    await asked.getByText('not today').waitFor();
    await asked.getByRole('link', { name: 'Details' }).click();
    await settled(page, 'Delivery');
    await page.getByRole('list', { name: 'Attempts' }).getByText('HTTP 500').waitFor();
    assert.equal(receiver.callsOf(path).length, 2, 'a test is not tried again');
  }

  async function resumed(t, target) {
    const page = await opened(t, target);
    await button(page, 'Pause').click();
    await button(page, 'Resume').waitFor();
    assert.equal((await card(target.id)).state, 'paused');
    await event(tenant, target.event_types[0], `owed-${tenant}`, { order: 1 });
    await page.getByText('1 delivery, the oldest').waitFor();
    await button(page, 'Resume').click();
    const asked = dialog(page, 'Resume the endpoint');
    await asked.getByText('1 owed delivery').waitFor();
    await asked.getByLabel('Drop what is owed instead').check();
    await asked.getByText('will be given up and never sent').waitFor();
    await asked.getByLabel('Drop what is owed instead').uncheck();
    await button(asked, 'Resume').click();
    await button(page, 'Pause').waitFor();
    await page.getByText('Catching up').waitFor();
    const { state, catch_up: catchUp } = await card(target.id);
    assert.deepEqual([state, catchUp.state], ['enabled', 'pending']);
    return page;
  }

  const pauseAndResume = async (t) => resumed(t, await made(t.seed, `/paused-${tenant}`));

  async function secrets(t) {
    const target = await made(t.seed, `/rotated-${tenant}`);
    const page = await opened(t, target);
    await button(page, 'Rotate secret').click();
    const asked = dialog(page, 'Rotate the signing secret');
    await asked.getByLabel('Overlap').selectOption('1200');
    await asked.getByText('That is short').waitFor();
    await button(asked, 'Rotate secret').click();
    const shown = dialog(page, 'The new signing secret');
    await shown.waitFor();
    const both = await shown.getByText(/^whsec_/).allInnerTexts();
    assert.equal(both[1], target.secret, 'the old one signs beside the new one');
    await page.keyboard.press('Escape');
    await dialogClosed(page);
    await button(page, 'Reveal secret').click();
    const revealed = dialog(page, 'Signing secrets');
    await revealed.waitFor();
    assert.deepEqual(await revealed.getByText(/^whsec_/).allInnerTexts(), both);
    const { secrets: known } = await read(`/tenants/${tenant}/endpoints/${target.id}/secret`);
    assert.deepEqual(known.map(({ secret }) => secret), both);
  }

  async function edit(t) {
    const target = await made(t.seed, `/edited-${tenant}`, { headers: { authorization: { value: 'Bearer x', sensitive: true } } });
    const page = await opened(t, target);
    await page.getByRole('link', { name: 'Edit', exact: true }).click();
    await settled(page, 'Edit endpoint');
    await catalogue(page);
    await page.getByLabel('Description', { exact: true }).fill('Changed by hand');
    await patch(`/tenants/${tenant}/endpoints/${target.id}`, { rate_per_s: 5 });
    await button(page, 'Save changes').click();
    await page.getByRole('alert').getByText('The endpoint changed meanwhile').waitFor();
    assert.equal((await card(target.id)).description, target.description, 'nothing was saved');
    await page.getByText('these differ from what is below').getByText('Rate per second').waitFor();
    await button(page, "Take the service's values").click();
    await until('the new rate is in the form', async () => (await page.getByLabel('Rate per second').inputValue()) === '5');
    await page.getByLabel('Description', { exact: true }).fill('Changed by hand');
    await button(page, 'Save changes').click();
    await settled(page, 'Changed by hand');
    const { description, rate_per_s: rate, headers, version } = await card(target.id);
    assert.deepEqual([description, rate, version], ['Changed by hand', 5, 3]);
    assert.deepEqual(headers, { authorization: { sensitive: true } }, 'the value of the header is kept');
  }

  async function remove(t) {
    const target = await made(t.seed, `/deleted-${tenant}`);
    const page = await opened(t, target);
    await button(page, 'Delete').click();
    const asked = dialog(page, 'Delete the endpoint?');
    await asked.getByText('0 owed deliveries').waitFor();
    await button(asked, 'Cancel').click();
    await dialogClosed(page);
    assert.equal((await card(target.id)).state, 'enabled');
    await button(page, 'Delete').click();
    await button(asked, 'Delete endpoint').click();
    await notice(page, 'The endpoint is deleted');
    await settled(page, 'Endpoints');
    assert.equal((await ask('GET', `/tenants/${tenant}/endpoints/${target.id}`)).status, 404);
  }

  async function send(t) {
    const path = `/sent-${tenant}`;
    const target = await made(t.seed, path);
    const page = await t.signIn(session);
    await load(page, `${base}/events/+send`);
    await settled(page, 'Send an event');
    await page.getByLabel('Event type').fill('no such type');
    await page.getByLabel('Payload').fill('{"order": ');
    await button(page, 'Send event').click();
    await page.locator('.fault', { hasText: 'JSON' }).waitFor();
    await page.getByLabel('Payload').fill('{"order":17,"big":12345678901234567890123}');
    await button(page, 'Send event').click();
    await page.locator('.fault', { hasText: 'must be words' }).waitFor();
    await page.getByLabel('Event type').fill(typeOf(path));
    await button(page, 'Send event').click();
    const payload = page.getByRole('group', { name: 'Payload', exact: true });
    await payload.getByText('12345678901234567890123').waitFor();
    await button(page, 'As sent').click();
    assert.equal(await payload.innerText(), '{"order":17,"big":12345678901234567890123}');
    const [call] = await t.seed.receiver.called(path);
    assert.equal(call.body, '{"order":17,"big":12345678901234567890123}');
    await page.getByRole('table', { name: 'Deliveries' }).getByRole('link', { name: target.id }).click();
    await settled(page, 'Delivery');
    await button(page, 'Send again').click();
    const asked = dialog(page, 'Send it again?');
    await asked.getByText('The receiver has taken this event').waitFor();
    await button(asked, 'Send again').click();
    await t.seed.receiver.called(path, 2);
    await page.getByRole('heading', { name: /^Sent again/ }).waitFor();
    const again = t.seed.receiver.callsOf(path);
    assert.equal(again[1].headers['webhook-id'], again[0].headers['webhook-id'], 'the receiver can tell that it is the same');
    await go(page, `${base}/events`);
    await settled(page, 'Events');
    await page.getByRole('table', { name: 'Events' }).getByText(typeOf(path)).first().waitFor();
  }

  return { create, test, pauseAndResume, secrets, edit, remove, send };
}

const operator = ways({}, 'shop', '/tenants/shop');

export const tests = [
  ['an endpoint is made after its faults were told at their fields, and its secret is shown once', operator.create],
  ['a test shows the answer of the receiver, and is never tried again', operator.test],
  ['an endpoint is paused, and resumed knowing what it is owed: it catches up', operator.pauseAndResume],
  ['a secret is rotated with the old one beside it, and revealed', operator.secrets],
  ['a change does not overwrite what somebody else changed meanwhile', operator.edit],
  ['an endpoint is deleted after its numbers were told', operator.remove],
  ['an event is sent byte for byte, its delivery is shown, and it is sent again', operator.send],
];
