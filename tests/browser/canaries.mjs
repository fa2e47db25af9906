// Texts that would run as a script if any screen took them for more than texts. They stand in every field that a caller or a
// receiver fills. `watch` in browser.mjs tells when one runs, and when the policy had to stop one.
import assert from 'node:assert/strict';
import { button, dialog, dialogClosed, load, settled } from './browser.mjs';
import { until } from './check.mjs';
import { endpoint, event } from './seed.mjs';
import { ask, consoleUrl, post, put, read } from './stack.mjs';

const TENANT = 'mallory';
const TOKENS = `/tokens?scope=tenant:${TENANT}`;
const ASCII = [
  '<script>window.__hit=1</script>', '<img src=x onerror=window.__hit=1>', 'javascript:window.__hit=1',
  '"><svg onload=window.__hit=1>', '</script><script>window.__hit=1//', '${window.__hit=1}`', `'};window.__hit=1;//`,
].join(' ');
// A line separator ends a line in old JavaScript, and an override turns the text that follows around.
const CANARY = `${ASCII} \u2028window.__hit=1 \u202Egnp.exe`;
const SHORT = '<img src=x onerror=window.__hit=1>';
// What a description of a token holds at most is one line of 128 characters.
const LINE = `${SHORT} "><svg onload=window.__hit=1> javascript:window.__hit=1`;
// Of an answer, only the beginning is kept: it has the first of these, so screens of answers are asked for ASCII.
const asJson = (text) => JSON.stringify(text).slice(1, -1);

async function fill({ receiver, refusing }) {
  const path = `/canary?${encodeURIComponent(SHORT)}`;
  receiver.answers(path, { status: 500, body: CANARY, type: 'text/html' });
  refusing.answers('/canary', { status: 404, body: CANARY, type: 'text/html' });
  await put('/event-types/canary.type', { description: CANARY, example: { [CANARY]: CANARY }, schema: { type: 'object', description: CANARY } });
  const card = {
    url: receiver.url(path), description: CANARY, event_types: ['canary.type'], retry_schedule_s: [],
    metadata: { [SHORT]: ASCII }, headers: { 'x-canary': ASCII }, filter: { payload: { [SHORT]: [{ exists: false }, CANARY] } },
  };
  const { id } = await endpoint(TENANT, card);
  await event(TENANT, 'canary.type', 'canary-1', { [CANARY]: CANARY });
  await post('/webhooks', {
    reference_id: 'canary-2', webhook_url: refusing.url('/canary'), event_type: 'canary/type', headers: { 'x-canary': ASCII }, payload: { [CANARY]: CANARY },
  });
  const letter = `canary-1.${id}`;
  await until('both were given up', async () => {
    const found = await Promise.all([letter, 'canary-2'].map((one) => ask('GET', `/dead-letters/${one}`)));
    return found.every(({ status }) => status === 200);
  });
  return { id, letter };
}

async function namesAreNames() {
  const refused = [
    ['POST', `/tenants/${encodeURIComponent(SHORT)}/endpoints`, { url: 'http://127.0.0.1:9/' }],
    ['POST', `/tenants/${TENANT}/endpoints`, { url: 'http://127.0.0.1:9/', uid: SHORT }],
    ['POST', `/tenants/${TENANT}/endpoints`, { url: 'javascript:window.__hit=1' }],
    ['POST', `/tenants/${TENANT}/endpoints`, { url: 'http://127.0.0.1:9/', event_types: [SHORT] }],
    ['POST', `/tenants/${TENANT}/events`, { event_type: SHORT, payload: {} }],
    ['POST', `/tenants/${TENANT}/events`, { event_type: 'canary', event_id: SHORT, payload: {} }],
    ['POST', '/webhooks', { webhook_url: 'javascript:window.__hit=1', payload: {} }],
    ['POST', '/webhooks', { webhook_url: 'http://127.0.0.1:9/', event_type: SHORT, payload: {} }],
    ['POST', '/webhooks', { webhook_url: 'http://127.0.0.1:9/', reference_id: SHORT, payload: {} }],
    ['POST', '/tokens', { scope: `tenant:${SHORT}`, ttl_s: 60 }],
    ['PUT', `/event-types/${encodeURIComponent(SHORT)}`, { description: '' }],
  ];
  for (const [method, path, body] of refused) {
    const { status } = await ask(method, path, { body });
    assert.ok(status >= 400 && status < 500, `${method} ${path}: ${status}`);
  }
}

/** The text of the screen has all of `texts`, as they were given, and none of them became an element. */
async function isText(page, place, texts) {
  for (const text of texts) {
    await until(`${place} shows ${text}`, () => page.evaluate((wanted) =>
      [...document.querySelectorAll('main, dialog')].some((part) => part.textContent.includes(wanted)
        || [...part.querySelectorAll('input, textarea')].some(({ value }) => value.includes(wanted))), text));
  }
  const elements = await page.evaluate(() => document.querySelectorAll(
    '#app script, #app img, #app iframe, #app [onload], #app [onerror], #app [href^="javascript:" i], #app [src]').length);
  assert.equal(elements, 0, `${place} has an element of a text`);
}

const screensOf = (base, { id }) => [
  [`${base}/endpoints`, 'Endpoints', [CANARY]],
  [`${base}/endpoints/${id}`, CANARY, [CANARY, ASCII, SHORT, asJson(CANARY)]],
  [`${base}/endpoints/${id}/edit`, 'Edit endpoint', [CANARY, ASCII, SHORT]],
  [`${base}/events`, 'Events', ['canary.type']],
  [`${base}/events/canary-1`, 'canary-1', [`"${asJson(CANARY)}": "${asJson(CANARY)}"`]],
  [`${base}/events/canary-1/deliveries/${id}`, 'Delivery', [ASCII]],
  ['/event-types', 'Event types', [CANARY]],
  ['/event-types/canary.type', 'canary.type', [CANARY, asJson(CANARY)]],
  [base ? TOKENS : '/tokens', base ? 'Tokens' : 'API tokens', [LINE]],
];

const ofTheOperator = ({ letter }) => [
  ['/', 'Overview', []],
  ['/tenants', 'Tenants', [TENANT]],
  [`/tenants/${TENANT}`, TENANT, []],
  ['/dead-letters', 'Dead letters', [letter]],
  [`/dead-letters/${letter}`, 'Dead letter', [asJson(CANARY), ASCII]],
  ['/dead-letters/canary-2', 'Dead letter', [asJson(CANARY), ASCII]],
  ['/webhooks', 'Direct webhooks', ['canary-2']],
  ['/webhooks/canary-2', 'Direct webhook', ['canary/type']],
  ['/breakers', 'Circuit breakers', []],
  ['/event-types/canary.type/edit', 'Edit canary.type', [CANARY, asJson(CANARY)]],
];

async function visit(page, screens) {
  for (const [place, title, texts] of screens) {
    await load(page, place);
    await page.getByRole('heading', { level: 1 }).first().waitFor();
    await until(`the title of ${place}`, async () => (await page.locator('h1').textContent()) === title);
    await isText(page, place, texts);
  }
}

/** Texts in the address are the reader's own, or of somebody who sent a link. */
async function addresses(page) {
  const word = encodeURIComponent(SHORT);
  const paths = ['/tenants', '/event-types', '/dead-letters', '/webhooks', '/tenants/acme/events', ''].map((above) => `${above}/${word}`);
  for (const place of paths) {
    await load(page, place);
    await settled(page, 'There is no such page');
  }
  const filters = [
    '/tokens?scope', '/dead-letters?destination', '/dead-letters?since', '/tenants/acme/endpoints?uid', '/breakers?state',
    '/webhooks?status', '/tenants/acme/events?event_type',
  ];
  for (const place of filters.map((filter) => `${filter}=${word}`)) {
    await load(page, place);
    await settled(page, /./);
    await isText(page, place, []);
  }
}

async function operatorReads(t) {
  const made = await fill(t.seed);
  await post('/tokens', { scope: `tenant:${TENANT}`, ttl_s: 600, description: LINE });
  const page = await t.signIn();
  await visit(page, [...screensOf(`/tenants/${TENANT}`, made), ...ofTheOperator(made)]);
  assert.deepEqual(page.seen.refusals, [], 'no call of a screen failed');
  await load(page, TOKENS);
  await page.getByRole('row').filter({ hasText: SHORT }).getByRole('button', { name: /^Revoke/ }).first().click();
  await isText(page, 'the dialog', [LINE]);
  await button(dialog(page, 'Revoke the token?'), 'Cancel').click();
  await dialogClosed(page);
  const customer = await t.signIn({ scope: `tenant:${TENANT}` });
  await post('/tokens', { scope: `tenant:${TENANT}`, ttl_s: 600, description: LINE });
  await visit(customer, [['/', 'Overview', [CANARY]], ...screensOf('', made)]);
  assert.deepEqual(customer.seen.refusals, []);
  assert.equal((await read(`/tenants/${TENANT}/endpoints/${made.id}`)).description, CANARY);
  await addresses(page);
  await page.goto('about:blank');
  await page.goto(`${consoleUrl}#code=${encodeURIComponent(SHORT)}`);
  await settled(page, 'This link does not work any more');
}

export const tests = [
  ['what has the grammar of a name cannot be a script', namesAreNames],
  ['no text of a caller or a receiver runs or becomes an element, on any screen', operatorReads],
];
