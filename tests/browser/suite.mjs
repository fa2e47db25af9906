// The browser suite of the console. It needs a stack that nobody else uses: the lines of its stack.env and STEADHOOK_TOKEN, a
// token of the operator. Words after the name of this file choose the tests whose claims have one of them.
import { assertClean, launch, signIn, visitor } from './browser.mjs';
import { runAll } from './check.mjs';
import { sow } from './seed.mjs';
import { hangUp } from './stack.mjs';

const WORKERS = 4;
const LONGEST_MS = 240_000;

// What takes long comes first, so that no worker has a long test when the others are done.
const TOPICS = [
  'canaries', 'looks', 'portal', 'operator-endpoints', 'operator-repair', 'operator-catalogue', 'links', 'keyboard', 'states', 'speed',
];
// Each topic has tests for the workers. It may have some that mostly wait, and some that must run when nothing else does.

const began = Date.now();
const since = () => `${((Date.now() - began) / 1000).toFixed(1)} s`;
const words = process.argv.slice(2);

const topics = await Promise.all(TOPICS.map((name) => import(`./${name}.mjs`)));
const chosen = (kind) => topics.flatMap((topic) => topic[kind] ?? [])
  .filter(([claim]) => words.length === 0 || words.some((word) => claim.includes(word)));

/** What a test gets: the seed, visitors that are put away after it, and a place for figures that its line shows. */
function frame(browser, seed) {
  return {
    begin() {
      const pages = [];
      const kept = async (coming) => {
        const page = await coming;
        pages.push(page);
        return page;
      };
      return {
        seed,
        browser,
        pages,
        figures: [],
        visitor: (options) => kept(visitor(browser, options)),
        signIn: (options) => kept(signIn(browser, options)),
        look: async () => (await Promise.all(pages.map(async (page) =>
          `${page.url()}\n${await page.locator('body').innerText()}`))).join('\n\n').slice(0, 2_000),
      };
    },
    async end({ pages }, failure) {
      await Promise.all(pages.map((page) => page.context().close()));
      if (!failure) pages.forEach(assertClean);
    },
  };
}

const browser = await launch();
let failures = 1;
let seed;
try {
  const [waiting, queue, alone] = ['waiting', 'tests', 'alone'].map(chosen);
  seed = await sow();
  console.log(`the seed is there (${since()})`);
  failures = await runAll({ waiting, queue, alone, workers: WORKERS, longestMs: LONGEST_MS, ...frame(browser, seed) });
  console.log(`${waiting.length + queue.length + alone.length} tests, ${failures} failed (${since()})`);
} finally {
  await browser.close();
  await seed?.close();
  hangUp();
}
process.exitCode = failures > 0 ? 1 : 0;
