/**
 * The surface in a real browser on made-up machines: `npm run build && npm run test:browser`. Keyboard alone, all the way; signing
 * in; language and look; a thousand machines; an engine that goes away. Needs Chromium and no engine.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { chromium } from 'playwright-core';
import { startFixture } from '../fixture/server.mjs';

let browser;

before(async () => {
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox'],
  });
});
after(() => browser.close());

/** A page on `machines` machines; what the page throws fails the test. */
async function open(context, { path = '/machines', ...options }) {
  const fixture = await startFixture(options);
  const page = await browser.newPage({
    viewport: { width: 1280, height: 800 },
    locale: 'en',
    reducedMotion: 'reduce',
  });
  page.setDefaultTimeout(15_000);
  const thrown = [];
  page.on('pageerror', (cause) => thrown.push(cause.message));
  context.after(async () => {
    await page.close();
    await fixture.close();
    assert.deepEqual(thrown, []);
  });
  await page.goto(fixture.url + path);
  return { page, fixture };
}

const card = (page, name, state) => page.getByRole('group', { name: `${name}: ${state}`, exact: true });
const focused = (page, label) =>
  page.waitForFunction((text) => document.activeElement?.getAttribute('aria-label') === text, label);

test('a stranger is asked for the token, and a wrong one is told', async (context) => {
  const { page } = await open(context, { machines: 3, token: 'open-sesame' });
  const field = page.getByLabel('Token');
  await field.fill('guess');
  await field.press('Enter');
  await page.getByText('That is not the token.').waitFor();
  await field.fill('open-sesame');
  await field.press('Enter');
  await card(page, 'web-01', 'Running').waitFor();
});

test('everything can be done without the mouse', async (context) => {
  const { page } = await open(context, { machines: 12 });
  await card(page, 'web-01', 'Running').waitFor();
  await page.keyboard.press('/');
  await page.keyboard.type('win11');
  await card(page, 'web-01', 'Running').waitFor({ state: 'detached' });
  await page.keyboard.press('ArrowDown');
  await focused(page, 'win11-lab: Stopped');
  await page.keyboard.press('s');
  await focused(page, 'win11-lab: Running');
  await page.keyboard.press('Shift+S');
  await focused(page, 'win11-lab: Stopped');
  assert.match(await page.locator('[aria-live=polite]').innerText(), /win11-lab: Shut down done\./);

  const menu = page.getByRole('button', { name: 'More actions for win11-lab' });
  await menu.focus();
  await page.keyboard.press('ArrowUp');
  await page.getByRole('menuitem', { name: 'Delete…' }).and(page.locator(':focus')).waitFor();
  await page.keyboard.press('Escape');
  await menu.and(page.locator(':focus')).waitFor();
  await page.keyboard.press('ArrowUp');
  await page.getByRole('menuitem', { name: 'Delete…' }).and(page.locator(':focus')).waitFor();
  await page.keyboard.press('Enter');
  const remove = page.getByRole('button', { name: 'Delete machine' });
  await page.getByRole('switch', { name: 'Move the files to the trash' }).press('Space');
  await page.getByLabel('Type win11-lab to confirm').focus();
  assert.equal(await remove.isDisabled(), true);
  await page.getByText('This frees 3.4 GB.').waitFor();
  await page.keyboard.type('win11-lab');
  await page.keyboard.press('Enter');
  await page.getByText('No machine matches').waitFor();
});

test('a quick hand selects what it moved to', async (context) => {
  const { page } = await open(context, { machines: 40 });
  await page.locator('[data-vm]').first().focus();
  for (const key of ['Space', 'ArrowRight', 'Space', 'ArrowDown', 'Space', 'End', 'Space'])
    await page.keyboard.press(key);
  await page.getByText('4 selected').waitFor();
});

test('a selection is acted on as a whole', async (context) => {
  const { page, fixture } = await open(context, { machines: 12 });
  await page.locator('[data-vm]').first().focus();
  await page.keyboard.press('Control+a');
  await page.getByText('12 selected').waitFor();
  await page.keyboard.press('s');
  await page.getByRole('region', { name: 'Operations' }).waitFor();
  await page.getByRole('button', { name: /^Running 11$/ }).waitFor();
  assert.equal([...fixture.state.machines.values()].filter((vm) => vm.state === 'stopped').length, 0);
  await page.keyboard.press('Escape');
  await page.getByText('12 selected').waitFor({ state: 'detached' });
});

test('the palette finds machines, what can be done with them, and the look', async (context) => {
  const { page } = await open(context, { machines: 12 });
  await card(page, 'web-01', 'Running').waitFor();
  const ask = async (words, answer) => {
    await page.keyboard.press('Control+k');
    await page.getByRole('combobox').fill(words);
    await page.getByRole('option', { name: answer, selected: true }).waitFor();
    await page.keyboard.press('Enter');
  };
  await ask('web pause', 'web-01 · Pause');
  await card(page, 'web-01', 'Paused').waitFor();
  await ask('简体', /简体中文/);
  await page.getByRole('heading', { name: '虚拟机', exact: true }).waitFor();
  await ask('深色', /深色/);
  await page.waitForFunction(() => document.documentElement.dataset.bsTheme === 'dark');
  await page.reload();
  await page.getByRole('heading', { name: '虚拟机', exact: true }).waitFor();
  assert.equal(await page.evaluate(() => document.documentElement.dataset.bsTheme), 'dark');
});

for (const layout of ['cards', 'table']) {
  test(`a thousand machines are a page like any other (${layout})`, async (context) => {
    const { page } = await open(context, { machines: 1_000 });
    await page.locator('[data-vm]').first().waitFor();
    if (layout === 'table') await page.keyboard.press('v');
    await page.locator('[data-vm]').first().focus();
    const last = await page.evaluate(() => document.activeElement?.getAttribute('aria-label'));
    await page.keyboard.press('End');
    await page.waitForFunction((before) => {
      const label = document.activeElement?.getAttribute('aria-label');
      return document.activeElement?.hasAttribute('data-vm') && label !== before;
    }, last);
    await page.getByRole('button', { name: /^All 1,?000$/ }).waitFor();
    const nodes = await page.evaluate(() => document.querySelectorAll('*').length);
    assert.ok(nodes < 2_000, `${String(nodes)} elements for what a screen shows`);
    await page.keyboard.press('Home');
    await focused(page, last);
  });
}

test('an engine that goes away is told', async (context) => {
  const { page, fixture } = await open(context, { machines: 3 });
  await card(page, 'web-01', 'Running').waitFor();
  await fixture.close();
  await page.locator('.connection-banner').getByText('The engine does not answer.').waitFor();
});
