// Every screen as it looks: opened by its address, with its data, in both themes and two widths; what axe says of it, and
// a picture of it.
import assert from 'node:assert/strict';
import { mkdirSync, statSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import axe from 'axe-core';
import { button, load, openLink, settled } from './browser.mjs';
import { until } from './check.mjs';
import { makeLink } from './stack.mjs';
import { operatorForms, operatorScreens, overview, portalForms, portalScreens } from './screens.mjs';

const PICTURES = fileURLToPath(new URL('../../.local/screenshots/', import.meta.url));
const README_BYTES = 300_000;
const WIDE = { width: 1280, height: 800 };
const NARROW = { width: 390, height: 844 };
// Themes differ in their colours alone, and widths in what is shown. So two looks show every fault, and axe is asked about
// different rules in each. With PICTURES=all, there is a picture of the other two as well.
const ALL_LOOKS = [['light', WIDE, 'all'], ['dark', WIDE], ['dark', NARROW, 'colours'], ['light', NARROW]];
const LOOKS = process.env.PICTURES === 'all' ? ALL_LOOKS : ALL_LOOKS.filter(([, , rules]) => rules);
const RULES = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];
const COLOUR_RULES = ['color-contrast', 'link-in-text-block'];
const GRAVE = ['serious', 'critical'];

mkdirSync(PICTURES, { recursive: true });

async function violations(page, rules) {
  const runOnly = rules === 'colours' ? { type: 'rule', values: COLOUR_RULES } : { type: 'tag', values: RULES };
  const asked = { runOnly, resultTypes: ['violations'], preload: false, iframes: false };
  const found = await page.evaluate((options) => window.axe.run(document, options).then((result) => result.violations), asked);
  return found.map(({ id, impact, nodes }) => ({ id, impact, where: nodes.map(({ html, failureSummary }) => `${html.slice(0, 200)} ${failureSummary}`) }));
}

/** Shows a page that is open in every look. Gives what axe found, with the look. */
async function eachLook(page, name, counted) {
  await page.evaluate(axe.source);
  const protocol = await page.context().newCDPSession(page);
  const found = [];
  for (const [theme, size, rules] of LOOKS) {
    await page.setViewportSize(size);
    await page.emulateMedia({ colorScheme: theme });
    const faults = rules ? await violations(page, rules) : [];
    found.push(...faults.map((fault) => ({ look: `${name}, ${theme}, ${size.width}`, ...fault })));
    const beyond = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(beyond <= 0, `${name} is ${beyond} px wider than the window of ${size.width}`);
    const { data } = await protocol.send('Page.captureScreenshot', { optimizeForSpeed: true });
    writeFileSync(`${PICTURES}${theme}-${size.width}-${name}.png`, data, 'base64');
    counted.pictures += 1;
    counted.checks += rules ? 1 : 0;
  }
  await protocol.detach();
  await page.setViewportSize(WIDE);
  await page.emulateMedia({ colorScheme: 'light' });
  return found;
}

async function shows(page, { name, title, shows: texts, first }) {
  await settled(page, title);
  if (first) await first(page);
  const main = page.locator('main, dialog');
  for (const text of texts) {
    await main.getByText(text).filter({ visible: true }).first().waitFor().catch((error) => {
      throw new Error(`${name} does not show "${text}": ${error.message}`);
    });
  }
}

function tell(t, found, counted) {
  const lesser = found.filter(({ impact }) => !GRAVE.includes(impact)).map(({ look, id, impact }) => `${look}: ${id} (${impact})`);
  t.figures.push(`${counted.screens} screens, ${counted.checks} checks, ${counted.pictures} pictures`, ...lesser);
  assert.deepEqual(found.filter(({ impact }) => GRAVE.includes(impact)), []);
}

const lookAt = (session, prefix, screensOf) => async (t) => {
  const page = await t.signIn(session);
  const counted = { screens: 0, checks: 0, pictures: 0 };
  const found = [];
  for (const screen of screensOf(t.seed)) {
    await load(page, screen.path);
    await shows(page, screen);
    found.push(...(await eachLook(page, `${prefix}${screen.name}`, counted)));
    counted.screens += 1;
  }
  tell(t, found, counted);
};

async function outside(t) {
  const counted = { screens: 0, checks: 0, pictures: 0 };
  const found = [];
  const page = await t.visitor();
  const link = await makeLink({ scope: 'tenant:acme', readOnly: true });
  const show = async (name, title, go) => {
    await go();
    await settled(page, title);
    found.push(...(await eachLook(page, name, counted)));
    counted.screens += 1;
  };
  await show('no-session', 'You need a link to open the console', () => page.goto(link.split('#')[0]));
  await show('link', 'Open the console', () => page.goto(link));
  await openLink(page, await makeLink());
  await show('signed-out', 'You are signed out', () => button(page, 'Sign out').click());
  await show('link-used', 'This link does not work any more', () => page.goto(`${link.split('#')[0]}#code=unknown`));
  tell(t, found, counted);
}

async function forTheReadme(t) {
  const page = await t.signIn(WIDE);
  await shows(page, overview);
  const breakers = page.getByRole('table', { name: 'Open circuit breakers' });
  await breakers.getByText(t.seed.acme.warehouse.id).waitFor();
  await until('the charts have the deliveries', async () =>
    (await page.getByRole('img', { name: /^Deliveries, last hour: Delivered [1-9]/ }).count()) === 1, 30_000);
  await page.mouse.move(0, 0);
  const file = `${PICTURES}readme.png`;
  await page.screenshot({ path: file });
  const { size } = statSync(file);
  t.figures.push(`${Math.round(size / 1000)} kB`);
  assert.ok(size < README_BYTES, `${size} bytes`);
}

const half = (screens, n) => (seed) => screens(seed).filter((_, at) => at % 2 === n);
const acme = { scope: 'tenant:acme' };

export const tests = [
  ['the overview makes a picture for the README', forTheReadme],
  ['each screen of the operator opens by its address, reads well and has no grave fault for axe (1 of 2)', lookAt({}, '', half(operatorScreens, 0))],
  ['each screen of the operator opens by its address, reads well and has no grave fault for axe (2 of 2)', lookAt({}, '', half(operatorScreens, 1))],
  ['each form and dialog of the operator opens by its address and has no grave fault for axe', lookAt({}, '', operatorForms)],
  ['each screen of a portal opens by its address, reads well and has no grave fault for axe', lookAt(acme, 'portal-', portalScreens)],
  ['each form and dialog of a portal opens by its address and has no grave fault for axe', lookAt(acme, 'portal-', portalForms)],
  ['the pages outside of a session have no grave fault for axe', outside],
];
