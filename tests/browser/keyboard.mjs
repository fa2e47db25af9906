// One whole task without a mouse: from the link to a new endpoint and its test.
import assert from 'node:assert/strict';
import { dialog, dialogClosed, focused, heading, settled } from './browser.mjs';
import { until } from './check.mjs';
import { endpoint } from './seed.mjs';
import { makeLink, read } from './stack.mjs';

const MOST_STEPS = 60;

/** What has the focus: its name, and whether one sees that it has it. */
const focus = (page) => page.evaluate(() => {
  const here = document.activeElement;
  const { outlineStyle, outlineWidth } = getComputedStyle(here);
  const name = here.getAttribute('aria-label') ?? here.labels?.[0]?.innerText ?? here.innerText ?? '';
  return { name: name.trim(), isSeen: outlineStyle !== 'none' && parseFloat(outlineWidth) >= 1, tag: here.tagName };
});

/** Presses Tab until something with this name has the focus, and checks that its focus can be seen. */
async function tabTo(page, name, key = 'Tab') {
  const passed = [];
  for (let n = 0; n < MOST_STEPS; n += 1) {
    await page.keyboard.press(key);
    const now = await focus(page);
    if (now.name === name) {
      assert.ok(now.isSeen, `the focus on "${name}" cannot be seen`);
      return;
    }
    passed.push(now.name);
  }
  throw new Error(`Tab does not reach "${name}" but ${passed.join(' | ')}`);
}

const press = (page, key) => page.keyboard.press(key);

async function wholeTask(t) {
  const { receiver } = t.seed;
  await endpoint('keys', { url: receiver.url('/keys'), description: 'First' });
  const page = await t.visitor();
  await page.goto(await makeLink());
  await page.getByText('Operator of this stack').waitFor();
  await tabTo(page, 'Open');
  await press(page, 'Enter');
  await settled(page, 'Overview');
  await press(page, 'Tab');
  assert.equal((await focus(page)).name, 'Skip to the content', 'the first stop leads past the navigation');
  await tabTo(page, 'Tenants');
  await press(page, 'Enter');
  await settled(page, 'Tenants');
  assert.equal((await focus(page)).tag, 'H1', 'a new screen begins at its title');
  await page.getByRole('link', { name: 'Endpoints of keys' }).waitFor();
  await tabTo(page, 'Endpoints of keys');
  await press(page, 'Enter');
  await settled(page, 'Endpoints');
  await tabTo(page, 'New endpoint');
  await press(page, 'Enter');
  await settled(page, 'New endpoint');
  await tabTo(page, 'Create endpoint');
  await press(page, 'Enter');
  await until('the focus is at the fault', async () => (await focus(page)).name === 'URL');
  await page.getByText('is needed').first().waitFor();
  await page.keyboard.type(receiver.url('/by-keys'));
  await tabTo(page, 'Description');
  await page.keyboard.type('Made with keys');
  await tabTo(page, 'Create endpoint');
  await press(page, 'Enter');
  const shown = dialog(page, 'The endpoint is created');
  await shown.waitFor();
  assert.equal((await focus(page)).name, 'Done');
  await tabTo(page, 'Copy secret', 'Shift+Tab');
  await press(page, 'Enter');
  await until('the secret is copied', () => page.evaluate(() => window.copied?.startsWith('whsec_')));
  await press(page, 'Escape');
  await dialogClosed(page);
  await heading(page, 'Made with keys').waitFor();
  assert.equal((await focused(page)).tag, 'H1');
  await tabTo(page, 'Send test');
  await press(page, 'Enter');
  await dialog(page, 'Send a test').waitFor();
  await tabTo(page, 'Send test');
  await press(page, 'Enter');
  await dialog(page, 'Send a test').getByText('The receiver took it').waitFor();
  await receiver.called('/by-keys');
  await press(page, 'Escape');
  await dialogClosed(page);
  assert.equal((await focus(page)).name, 'Send test', 'the focus returns to the button');
  await tabTo(page, 'Endpoints', 'Shift+Tab');
  await press(page, 'Enter');
  await settled(page, 'Endpoints');
  const { endpoints } = await read('/tenants/keys/endpoints');
  assert.deepEqual(endpoints.map(({ description }) => description).sort(), ['First', 'Made with keys']);
}

async function menu(t) {
  const page = await t.signIn({ width: 390, height: 844 });
  await settled(page, 'Overview');
  const navigation = page.getByRole('navigation', { name: 'Main' });
  assert.equal(await navigation.isVisible(), false);
  await tabTo(page, 'Menu');
  await press(page, 'Enter');
  await navigation.waitFor();
  await tabTo(page, 'Dead letters');
  await press(page, 'Enter');
  await settled(page, 'Dead letters');
  assert.equal(await navigation.isVisible(), false, 'it closes behind the reader');
}

export const tests = [
  ['a whole task is done with the keyboard alone, with a focus that is seen', wholeTask],
  ['on a narrow screen, the navigation opens with the keyboard and closes behind the reader', menu],
];
