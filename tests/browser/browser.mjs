// The browser: visitors of the console, each with a context of its own, and what is watched of all of them.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { chromium } from 'playwright-core';
import { makeLink, origin } from './stack.mjs';

const STEP_MS = 20_000;
// Nothing but this machine can be reached, whatever a page asks for.
const ONLY_LOOPBACK = 'MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE *.localhost, EXCLUDE 127.0.0.1';

function onPath(name) {
  const found = process.env.PATH.split(path.delimiter).map((folder) => path.join(folder, name)).find(existsSync);
  if (!found) throw new Error(`${name} is not on the PATH`);
  return found;
}

export const launch = () =>
  chromium.launch({
    executablePath: onPath('chromium'),
    args: ['--no-sandbox', `--host-resolver-rules=${ONLY_LOOPBACK}`],
  });

/** Runs in every page: tells what must never happen, and remembers what was copied, because tests share a clipboard. */
function watch() {
  addEventListener('securitypolicyviolation', (event) => {
    console.error(`The policy was violated: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`);
  });
  Object.defineProperty(window, '__hit', { set: () => console.error('A canary ran') });
  window.copied = null;
  const write = navigator.clipboard?.writeText;
  if (write) {
    navigator.clipboard.writeText = (text) => {
      window.copied = text;
      return Promise.resolve();
    };
  }
}

const isAnswer = (text) => text.startsWith('Failed to load resource');

/** A new visitor with one page. `page.seen` has its requests, its errors, and the calls that were refused. */
export async function visitor(browser, { width = 1280, height = 800, dark = false } = {}) {
  const context = await browser.newContext({
    viewport: { width, height },
    colorScheme: dark ? 'dark' : 'light',
    reducedMotion: 'reduce',
    locale: 'en-GB',
    timezoneId: 'UTC',
  });
  context.setDefaultTimeout(STEP_MS);
  const seen = { urls: [], errors: [], refusals: [] };
  context.on('request', (request) => seen.urls.push(request.url()));
  await context.addInitScript(watch);
  const page = await context.newPage();
  page.seen = seen;
  page.on('console', (message) => {
    if (message.type() === 'error') (isAnswer(message.text()) ? seen.refusals : seen.errors).push(message.text());
  });
  page.on('pageerror', (error) => seen.errors.push(error.stack));
  return page;
}

/** Opens a link as a person does. */
export async function openLink(page, link) {
  await page.goto(link);
  await page.getByRole('button', { name: 'Open', exact: true }).click();
  await page.getByRole('button', { name: 'Sign out' }).waitFor();
}

export async function signIn(browser, { scope, readOnly, ...looks } = {}) {
  const page = await visitor(browser, looks);
  await openLink(page, await makeLink({ scope, readOnly }));
  return page;
}

/** What must be true of every visitor, whatever the test was about. */
export function assertClean({ seen }) {
  assert.deepEqual(seen.errors, [], 'errors in the page');
  assert.deepEqual(seen.urls.filter((url) => url.includes('sht_')), [], 'addresses with a token');
  const elsewhere = seen.urls.filter((url) => !url.startsWith(`${origin}/`) && !url.startsWith('data:') && !url.startsWith('about:'));
  assert.deepEqual(elsewhere, [], 'requests to other origins');
}

export const sessionOf = (page) => page.evaluate(() => JSON.parse(sessionStorage.getItem('steadhook.session')));

/** Goes to a screen as a link inside the page does. */
export const go = (page, place) => page.evaluate((hash) => { location.hash = hash; }, place);

/** Loads the page anew at a screen, as a link from elsewhere does. The session stays, because the tab does. */
export async function load(page, place) {
  await go(page, place);
  await page.reload();
}

export const dialog = (page, name) => page.getByRole('dialog', { name });
export const dialogClosed = (page) => page.locator('dialog').waitFor({ state: 'detached' });
export const notice = (page, text) => page.getByRole('status', { name: 'Notifications' }).getByText(text).waitFor();
export const button = (scope, name) => scope.getByRole('button', { name, exact: true });
export const heading = (page, name) => page.getByRole('heading', { name, exact: true, level: 1 });
export const focused = (page) => page.evaluate(() => {
  const { tagName, innerText, name, id } = document.activeElement;
  return { tag: tagName, text: innerText?.trim(), name, id };
});
/** Waits for a screen: its title, and no part of it that still loads. */
export async function settled(page, title) {
  await (title instanceof RegExp ? page.getByRole('heading', { level: 1, name: title }) : heading(page, title)).waitFor();
  await page.getByRole('status', { name: 'Loading' }).first().waitFor({ state: 'detached' });
}
