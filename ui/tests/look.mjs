/**
 * Pictures of the pages in every look, to be looked at, and axe on each: `npm run build && npm run look -- [out-dir] [page…]`.
 * Fails when axe finds a serious issue or the page reports an error (a breach of the content policy is one).
 */
import { mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { startFixture } from './fixture/server.mjs';

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
  { name: 'table', path: '/machines', prepare: (page) => page.keyboard.press('v') },
  {
    name: 'palette',
    path: '/machines',
    prepare: async (page) => {
      await page.keyboard.press('Control+k');
      await page.keyboard.type('we');
    },
  },
  { name: 'shortcuts', path: '/', prepare: (page) => page.keyboard.press('?') },
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
      for (const { name, path, prepare } of PAGES) {
        if (only.length > 0 && !only.includes(name)) continue;
        if (machines !== 40 && ['palette', 'shortcuts', 'table'].includes(name)) continue;
        const page = await context.newPage();
        const label = `${name}-${machines}-${theme}-${language}-${size}`;
        page.on('console', (message) => {
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
        await page.goto(fixture.url + path);
        await page.locator('#page-title').waitFor();
        await page.waitForLoadState('networkidle');
        if (name !== 'table')
          await page.evaluate(() => {
            localStorage.removeItem('voidvm.machines.layout');
          });
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
      }
      await context.close();
    }
    await fixture.close();
  }
}
await browser.close();
console.log(problems === 0 ? 'no problem found' : `${problems} problems`);
process.exitCode = problems === 0 ? 0 : 1;
