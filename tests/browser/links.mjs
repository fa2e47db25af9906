// One-time links and the sessions that they open: what a link says, who may use it, and how a session ends.
import assert from 'node:assert/strict';
import { button, go, heading, load, openLink, sessionOf, settled } from './browser.mjs';
import { until } from './check.mjs';
import { ask, consoleUrl, makeLink, origin, remove, request } from './stack.mjs';

const LINK_WORKS_MS = 60_000;
const REVOKED_WITHIN_MS = 30_000;
const POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
  "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

async function isRefused(page, link) {
  await page.goto('about:blank');
  await page.goto(link);
  await settled(page, 'This link does not work any more');
  await page.getByText('ask for a new one').waitFor();
  assert.equal(await button(page, 'Open').count(), 0);
  assert.ok(!page.url().includes('code'), page.url());
}

async function saysForWhom(page, link, words) {
  await page.goto('about:blank');
  await page.goto(link);
  await settled(page, 'Open the console');
  for (const word of words) await page.getByText(word, { exact: true }).waitFor();
  assert.ok(!page.url().includes('code'), page.url());
}

async function looking(t) {
  const link = await makeLink({ scope: 'tenant:acme', readOnly: true });
  const [reader, other] = [await t.visitor(), await t.visitor()];
  await saysForWhom(reader, link, ['Tenant acme', 'read only']);
  await saysForWhom(other, link, ['Tenant acme', 'read only']);
  await saysForWhom(reader, link, ['Tenant acme', 'read only']);
  assert.equal(await reader.evaluate(() => sessionStorage.length), 0, 'looking opens nothing');
  await button(reader, 'Open').click();
  await heading(reader, 'Overview').waitFor();
  await isRefused(other, link);
}

async function oneOfTwo(t) {
  const link = await makeLink();
  const pages = [await t.visitor(), await t.visitor()];
  for (const page of pages) await saysForWhom(page, link, ['Operator of this stack']);
  await Promise.all(pages.map((page) => button(page, 'Open').click()));
  const opened = async (page) => (await sessionOf(page)) !== null;
  await until('each of them knows', async () => {
    const told = await Promise.all(pages.map(async (page) => (await opened(page)) || heading(page, 'This link does not work any more').isVisible()));
    return told.every(Boolean);
  });
  assert.deepEqual((await Promise.all(pages.map(opened))).sort(), [false, true]);
}

async function madeUp(t) {
  const link = await makeLink();
  const last = link.at(-1);
  const tampered = `${link.slice(0, -1)}${last === 'x' ? 'y' : 'x'}`;
  const page = await t.visitor();
  await isRefused(page, tampered);
  await isRefused(page, `${consoleUrl}#code=made-up`);
  await isRefused(page, link.slice(0, -5));
  await saysForWhom(page, link, ['Operator of this stack']);
}

async function expired(t) {
  const made = Date.now();
  const link = await makeLink();
  const page = await t.visitor();
  await saysForWhom(page, link, ['Operator of this stack']);
  // The page is open already, and its button must not work either.
  await until('60 s have passed', () => Date.now() > made + LINK_WORKS_MS + 500, LINK_WORKS_MS + 5_000);
  await button(page, 'Open').click();
  await settled(page, 'This link does not work any more');
  await isRefused(page, link);
}

async function tokenStaysHidden(t) {
  const page = await t.signIn();
  const { token } = await sessionOf(page);
  assert.match(token, /^sht_/);
  for (const [place, title] of [['/', 'Overview'], ['/tenants/acme/endpoints', 'Endpoints'], ['/tokens', 'Tokens']]) {
    await go(page, place);
    await settled(page, title);
    assert.ok(!(await page.content()).includes(token), `${place} has the token`);
    assert.ok(!page.url().includes(token));
  }
  assert.equal(await page.evaluate(() => JSON.stringify({ ...localStorage }) + document.cookie), '{}');
  const calls = page.seen.urls.filter((url) => url.includes('/api/'));
  assert.ok(calls.length > 5 && calls.every((url) => !url.includes('sht_')), 'no address has the token');
  const stranger = await page.context().newPage();
  await stranger.goto(consoleUrl);
  await settled(stranger, 'You need a link to open the console');
}

async function signingOut(t) {
  const page = await t.signIn({ scope: 'tenant:acme' });
  const { token } = await sessionOf(page);
  assert.equal((await ask('GET', '/tenants/acme/endpoints', { token })).status, 200);
  await button(page, 'Sign out').click();
  await settled(page, 'You are signed out');
  await page.getByText('You need a link to open the console again').waitFor();
  assert.equal(await sessionOf(page), null);
  await page.reload();
  await settled(page, 'You need a link to open the console');
  const began = Date.now();
  await until('the token is refused', async () => (await ask('GET', '/tenants/acme/endpoints', { token })).status === 403, REVOKED_WITHIN_MS);
  t.figures.push(`refused after ${((Date.now() - began) / 1000).toFixed(1)} s`);
}

async function revokedMeanwhile(t) {
  const page = await t.signIn();
  await load(page, '/tenants/acme/endpoints');
  await settled(page, 'Endpoints');
  await remove(`/tokens/${(await sessionOf(page)).id}`);
  const began = Date.now();
  await heading(page, 'Your session has ended').waitFor({ timeout: REVOKED_WITHIN_MS });
  t.figures.push(`told after ${((Date.now() - began) / 1000).toFixed(1)} s`);
  await page.getByText('You need a link to open the console again').waitFor();
  assert.equal(await sessionOf(page), null);
  assert.ok(!(await page.locator('body').innerText()).includes('Orders of the shop'), 'nothing is left to see');
  await openLink(page, await makeLink());
  await page.getByRole('heading', { level: 1 }).waitFor();
}

async function inTheOpenTab(t) {
  const page = await t.signIn();
  await settled(page, 'Overview');
  const link = await makeLink({ scope: 'tenant:acme' });
  await page.evaluate((url) => { location.href = url; }, link);
  await page.getByText('Tenant acme').waitFor();
  await button(page, 'Open').click();
  await page.getByRole('link', { name: 'API tokens' }).waitFor();
  await isRefusedHere(page, link);
  await button(page, 'Go on with the open session').click();
  await settled(page, 'Overview');
}

async function isRefusedHere(page, link) {
  await page.evaluate((url) => { location.href = url; }, link);
  await settled(page, 'This link does not work any more');
}

async function headers() {
  const page = await request('GET', '/console/app');
  assert.deepEqual([page.headers['content-security-policy'], page.headers['cache-control']], [POLICY, 'no-cache']);
  assert.deepEqual([page.headers['x-content-type-options'], page.headers['referrer-policy']], ['nosniff', 'no-referrer']);
  for (const path of ['/tenants', '/tenants/acme/endpoints', '/tokens', '/health', '/dead-letters', '/tenants/acme/events/none', '/deliveries/recent']) {
    const answer = await ask('GET', path);
    assert.equal(answer.headers['cache-control'], 'no-store', `${path}: ${answer.status}`);
  }
  const link = await request('GET', `/console/links/${'0'.repeat(64)}`);
  assert.equal(link.headers['cache-control'], 'no-store');
}

async function framed(t) {
  const page = await t.visitor();
  // Another page of the same origin, so that nothing but the policy of the console can keep it out of a frame.
  await page.route(`${origin}/shop`, (route) => route.fulfill({ contentType: 'text/html', body: `<iframe src="${consoleUrl}"></iframe>` }));
  await page.goto(`${origin}/shop`);
  await until('the frame is refused', () => page.seen.errors.some((error) => error.includes('frame-ancestors')));
  const inside = await page.frames()[1].locator('body').innerText().catch(() => '');
  assert.ok(!inside.includes('You need a link'), inside);
  page.seen.errors.length = 0;
}

export const waiting = [
  ['a link that is older than a minute is refused with a page that says what to do', expired],
  ['after signing out, the token is refused within 30 s', signingOut],
  ['when a session is revoked, its page says within 30 s that it has ended, and what to do', revokedMeanwhile],
];

export const tests = [
  ['a link says for whom it is, and looking at it does not use it', looking],
  ['of two who open a link at once, one gets a session', oneOfTwo],
  ['a link that was changed, cut or made up is refused with a page that says what to do', madeUp],
  ['a link that is opened in the tab of a session takes its place, and a used one offers to go on', inTheOpenTab],
  ['the token of a session stands in no address, no document and no other tab', tokenStaysHidden],
  ['no other page can show the console in a frame', framed],
  ['data is never stored, and the page has its policy', headers],
];
