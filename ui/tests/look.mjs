/**
 * Pictures of the pages in every look, to be looked at, and axe on each: `npm run build && npm run look -- [out-dir] [page…]`.
 * Fails when axe finds a serious issue or the page reports an error (a breach of the content policy is one).
 */
import { mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { detailPages } from './detailPages.mjs';
import { startFixture } from './fixture/server.mjs';
import { historyPages } from './historyPages.mjs';
import { libraryPages } from './libraryPages.mjs';
import { schedulePages } from './schedulePages.mjs';
import { snapshotPages } from './snapshotPages.mjs';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const [, , out = '../screenshots', ...only] = process.argv;
mkdirSync(out, { recursive: true });

const SIZES = { wide: { width: 1280, height: 800 }, narrow: { width: 390, height: 844 } };
const LOOKS = [
  ['light', 'en'],
  ['dark', 'en'],
  ['light', 'zh-CN'],
  ['dark', 'zh-CN'],
];
const PAGES = [
  { name: 'overview', path: '/' },
  { name: 'machines', path: '/machines' },
  { name: 'table', path: '/machines', at: [40], prepare: (page) => page.keyboard.press('v') },
  {
    name: 'palette',
    path: '/machines',
    at: [40],
    prepare: async (page) => {
      await page.keyboard.press('Control+k');
      await page.getByRole('combobox').fill('w');
    },
  },
  {
    name: 'shortcuts',
    path: '/',
    at: [40],
    prepare: async (page) => {
      await page.keyboard.press('?');
      await page.getByRole('dialog').waitFor();
    },
  },
  {
    name: 'menu',
    path: '/machines',
    at: [3],
    prepare: async (page) => {
      await page.locator('[data-vm]').first().focus();
      await page.locator('[data-vm] [aria-haspopup=menu]').first().click();
    },
  },
  {
    name: 'selected',
    path: '/machines',
    at: [40],
    prepare: async (page) => {
      await page.locator('[data-vm]').first().focus();
      for (const key of ['Space', 'ArrowRight', 'Space', 'ArrowDown', 'Space'])
        await page.keyboard.press(key);
    },
  },
  {
    name: 'delete',
    path: '/machines?state=stopped',
    at: [3],
    prepare: async (page) => {
      await page.locator('[data-vm]').first().focus();
      await page.locator('[data-vm] [aria-haspopup=menu]').first().click();
      await page.getByRole('menuitem').last().click();
      await page.getByRole('dialog').waitFor();
    },
  },
  {
    name: 'busy',
    path: '/machines',
    at: [40],
    fresh: true,
    prepare: async (page) => {
      await page.locator('[data-vm]').first().focus();
      await page.keyboard.press('Control+a');
      await page.keyboard.press('s');
      await page.locator('.drawer').waitFor();
    },
  },
  {
    name: 'failed',
    path: '/machines',
    at: [3],
    fail: { 'vm.list': 'database_failed', 'system.stats': 'internal' },
    prepare: (page) => page.locator('.error-state summary').first().click(),
  },
  { name: 'sign-in', path: '/', at: [3], token: 'letmein' },
  { name: 'not-found', path: '/nowhere', at: [3] },
  ...detailPages,
  ...libraryPages,
  ...snapshotPages,
  ...schedulePages,
  ...historyPages,
];

const browser = await chromium.launch({
  executablePath: '/usr/bin/chromium',
  args: ['--no-sandbox', '--headless=new'],
});
let problems = 0;
for (const machines of [0, 3, 40]) {
  for (const [theme, language] of LOOKS) {
    if (machines === 0 && theme === 'dark' && language !== 'en') continue;
    const fixture = await startFixture({ machines, theme, language });
    for (const [size, viewport] of Object.entries(SIZES)) {
      const context = await browser.newContext({
        viewport,
        reducedMotion: 'reduce',
        locale: language,
        colorScheme: theme,
        hasTouch: size === 'narrow',
      });
      for (const { name, path, at, fail, token, fresh, before, prepare } of PAGES) {
        if (only.length > 0 && !only.includes(name)) continue;
        if (at && !at.includes(machines)) continue;
        const page = await context.newPage();
        page.setDefaultTimeout(20_000);
        const label = `${name}-${machines}-${theme}-${language}-${size}`;
        page.on('console', (message) => {
          if (fail || token) return; // the browser itself tells of every failed request
          if (message.type() === 'error' || message.type() === 'warning') {
            problems += 1;
            console.log(`${label}: ${message.text()}`);
          }
        });
        page.on('pageerror', (cause) => {
          problems += 1;
          console.log(`${label}: ${cause.message}`);
        });
        await page.addInitScript(axe);
        await page.addInitScript(() => {
          localStorage.removeItem('voidvm.machines.layout');
        });
        const own =
          fail || token || fresh ? await startFixture({ machines, theme, language, fail, token }) : undefined;
        before?.(own ?? fixture);
        await page.goto((own ?? fixture).url + (typeof path === 'function' ? path(own ?? fixture) : path));
        await page.locator('h1').waitFor();
        await page.waitForLoadState('networkidle');
        await prepare?.(page);
        await page.waitForTimeout(350);
        await page.screenshot({ path: join(out, `${label}.png`) });
        const found = await page.evaluate(() =>
          globalThis.axe.run(document, { resultTypes: ['violations'] }),
        );
        for (const violation of found.violations) {
          const serious = ['serious', 'critical'].includes(violation.impact ?? '');
          if (serious) problems += 1;
          console.log(
            `${label}: ${violation.impact} ${violation.id} ${violation.nodes
              .slice(0, 3)
              .map((node) => node.target.join(' '))
              .join(' | ')}`,
          );
        }
        await page.close();
        await own?.close();
      }
      await context.close();
    }
    await fixture.close();
  }
}
await browser.close();
console.log(problems === 0 ? 'no problem found' : `${problems} problems`);
process.exitCode = problems === 0 ? 0 : 1;
