/**
 * Backups in a real browser, on made-up folders: `npm run build && npm run test:browser`. A folder begun and opened, passwords that stay
 * nowhere, a machine backed up and restored, what is removed named with its bytes.
 */
import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { chromium } from 'playwright-core';
import { FOLDERS, PASSWORD } from '../fixture/backups.mjs';
import { commands } from '../fixture/commands.mjs';
import { startFixture } from '../fixture/server.mjs';

let browser;
const own = { ...commands };

before(async () => {
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox'],
  });
});
after(() => browser.close());
afterEach(() => Object.assign(commands, own));

async function open(context, path, { known = [], viewport = { width: 1280, height: 800 } } = {}) {
  const fixture = await startFixture({ machines: 3 });
  const page = await browser.newPage({ viewport, locale: 'en', reducedMotion: 'reduce' });
  page.setDefaultTimeout(15_000);
  const thrown = [];
  page.on('pageerror', (cause) => thrown.push(cause.message));
  context.after(async () => {
    await page.close();
    await fixture.close();
    assert.deepEqual(thrown, []);
  });
  await page.addInitScript((list) => {
    if (list.length) localStorage.setItem('voidvm.backups.folders', JSON.stringify(list));
  }, known);
  await page.goto(fixture.url + (typeof path === 'function' ? path(fixture.state) : path));
  return { page, state: fixture.state };
}

function listen(name) {
  const asked = [];
  commands[name] = (request, state) => {
    asked.push(request);
    return own[name](request, state);
  };
  return asked;
}

const row = (page, name) => page.getByRole('row', { name });
const stored = (page) => page.evaluate(() => JSON.stringify({ ...localStorage, ...sessionStorage }));

test('a first folder is begun; its password is shown once and stays nowhere', async (context) => {
  const asked = listen('backup.init');
  const { page } = await open(context, '/backups');
  await page.getByText('No folder for backups yet').waitFor();
  await page.getByRole('button', { name: 'Add a folder' }).last().click();
  const dialog = page.getByRole('dialog', { name: 'Folder for backups' });
  await dialog.getByLabel('Folder', { exact: true }).fill('backups');
  await dialog.getByRole('button', { name: 'Begin' }).click();
  await dialog.getByText('Write an absolute path', { exact: false }).waitFor();
  await dialog.getByLabel('Folder', { exact: true }).fill('/media/ada/new/');
  await dialog.getByRole('button', { name: 'Begin' }).click();
  const secret = page.getByRole('dialog', { name: 'Write this password down' });
  await secret.getByText('kite-orbit-velvet-mango-7731').waitFor();
  // Nothing but saying so leads on.
  await page.keyboard.press('Escape');
  assert.equal(await secret.locator('.btn-primary').isDisabled(), true);
  await secret.getByRole('switch').click();
  await secret.locator('.btn-primary').click();
  await page.getByText('No backup in this folder yet').waitFor();
  assert.deepEqual(asked, [{ directory: '/media/ada/new', encrypt: true }]);
  assert.match(await stored(page), /\/media\/ada\/new/);
  assert.doesNotMatch(await stored(page), /kite/);
  assert.doesNotMatch(page.url(), /kite/);
});

test('a machine is backed up, with its progress, and what came of it stands in the list', async (context) => {
  const asked = listen('backup.run');
  const { page } = await open(context, `/backups?folder=${encodeURIComponent(FOLDERS.empty)}`, {
    known: [FOLDERS.empty],
  });
  await page.getByText('No backup in this folder yet').waitFor();
  await page.getByRole('button', { name: 'Back up a machine…' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByRole('button', { name: 'Back up', exact: true }).click();
  await dialog.getByText('Choose a machine.').waitFor();
  await dialog.getByLabel('Machine').selectOption({ label: 'db-01' });
  await dialog.getByRole('button', { name: 'Back up', exact: true }).click();
  await page.locator('.work').getByRole('meter', { name: 'Back up' }).waitFor();
  await row(page, /^db-01/).waitFor();
  await page.locator('.work').getByText('added to the folder', { exact: false }).waitFor();
  assert.equal(asked[0].directory, FOLDERS.empty);
  assert.ok(!('password' in asked[0]));
});

test('encrypted backups ask for their password, which goes with each request and with the page', async (context) => {
  const listed = listen('backup.list');
  const verified = listen('backup.verify');
  const { page } = await open(context, `/backups?folder=${encodeURIComponent(FOLDERS.locked)}`, {
    known: [FOLDERS.open, FOLDERS.locked],
  });
  await page.getByText('These backups are encrypted').waitFor();
  await page.getByLabel('Password').fill('wrong');
  await page.getByRole('button', { name: 'Open', exact: true }).click();
  await page.getByText('That is not the password.').waitFor();
  await page.getByLabel('Password').fill(PASSWORD);
  await page.keyboard.press('Enter');
  await row(page, /^web-01/).waitFor();
  await page.getByRole('button', { name: 'Verify…' }).click();
  await page.getByText('Finds a single changed bit', { exact: false }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Verify', exact: true }).click();
  await page.getByText('The one backup is what was written: 3 GB.').first().waitFor();
  assert.deepEqual(verified, [{ directory: FOLDERS.locked, password: PASSWORD, data: true }]);
  assert.doesNotMatch(await stored(page), /horse/);
  await page.getByRole('link', { name: 'Machines' }).click();
  await page
    .getByRole('heading', { name: 'Machines' })
    .or(page.locator('[data-vm]').first())
    .first()
    .waitFor();
  await page.goBack();
  await page.getByText('These backups are encrypted').waitFor();
  assert.ok(!('password' in listed.at(-1)));
});

test('a backup becomes a new machine, with a name that is free', async (context) => {
  const asked = listen('backup.restore');
  const { page, state } = await open(context, '/backups', { known: [FOLDERS.open] });
  await row(page, /^web-01, db-01/).click();
  const detail = page.getByRole('complementary', { name: 'web-01, db-01' });
  await detail.getByRole('button', { name: /^Restore…/ }).click();
  const dialog = page.getByRole('dialog', { name: 'Restore a machine' });
  assert.equal(await dialog.getByLabel('Name of the new machine').inputValue(), 'web-01 2');
  await dialog.getByLabel('Machine in the backup').selectOption({ label: 'db-01' });
  assert.equal(await dialog.getByLabel('Name of the new machine').inputValue(), 'db-01 2');
  await dialog.getByLabel('Name of the new machine').fill('web-01');
  await dialog.getByText('Another machine has this name.').waitFor();
  await dialog.getByLabel('Name of the new machine').fill('db-again');
  await dialog.getByRole('switch').click();
  await dialog.getByRole('button', { name: 'Restore', exact: true }).click();
  await dialog.waitFor({ state: 'detached' });
  await page.locator('.work').getByRole('link', { name: 'db-again' }).waitFor();
  const [, db] = [...state.machines.values()];
  assert.equal(asked[0].machine, `/${db.id}`);
  assert.equal(asked[0].start, true);
});

test('what is removed is named with its bytes; the last of a machine wants its name', async (context) => {
  const { page, state } = await open(context, '/backups', { known: [FOLDERS.open] });
  await page.getByText('1 backup cannot be read').waitFor();
  const before = state.backups.get(FOLDERS.open).list.length;
  const picks = page.locator('[data-row] input[type=checkbox]');
  await picks.nth(1).check();
  await picks.nth(3).check();
  await page.getByRole('button', { name: 'Remove 2 backups…' }).click();
  const dialog = page.getByRole('dialog', { name: 'Remove 2 backups?' });
  assert.equal(await dialog.locator('.losses li').count(), 2);
  await dialog.getByRole('button', { name: 'Remove 2 backups' }).click();
  await page.getByText('48 MB', { exact: false }).first().waitFor();
  await page.waitForFunction(
    (count) => document.querySelector('[role=grid]')?.getAttribute('aria-rowcount') === String(count),
    before - 2,
  );
  await page.getByLabel('Of which machine').selectOption({ label: 'old-server' });
  await row(page, /^old-server/)
    .getByRole('button')
    .click();
  await page.getByRole('menuitem', { name: 'Remove…' }).click();
  const last = page.getByRole('dialog', { name: 'Remove this backup?' });
  await last.getByText('No backup of old-server is left then.', { exact: false }).waitFor();
  assert.equal(await last.locator('.btn-danger').isDisabled(), true);
  await last.getByLabel('Type old-server to confirm').fill('old-server');
  await last.locator('.btn-danger').click();
  await page.waitForFunction(
    (count) => document.querySelector('[role=grid]')?.getAttribute('aria-rowcount') === String(count),
    before - 3,
  );
});

test('a folder that is gone says so, is asked for again, and leaves the list alone', async (context) => {
  const { page } = await open(context, '/backups', { known: ['/media/ada/gone', FOLDERS.open] });
  await page.getByText('There are no backups in /media/ada/gone.', { exact: true }).waitFor();
  await page.getByRole('button', { name: 'Try again' }).waitFor();
  await page.getByRole('button', { name: 'More actions for gone' }).click();
  await page.getByRole('menuitem', { name: 'Take off this list' }).click();
  await page.getByRole('link', { name: 'gone' }).waitFor({ state: 'detached' });
  await row(page, /^web-01, db-01/).waitFor();
});

test('a machine is backed up from its timeline; without a folder that leads to one', async (context) => {
  const asked = listen('backup.run');
  const timeline = (state) => `/machines/${[...state.machines.keys()][0]}/timeline`;
  const { page } = await open(context, timeline);
  await page.getByRole('button', { name: 'Back up…' }).click();
  await page.getByRole('button', { name: 'Choose a folder' }).click();
  await page.waitForURL('**/backups');
  await page.evaluate(
    (list) => localStorage.setItem('voidvm.backups.folders', JSON.stringify(list)),
    [FOLDERS.locked],
  );
  await page.goBack();
  await page.reload();
  await page.getByRole('button', { name: 'Back up…' }).click();
  const dialog = page.getByRole('dialog', { name: 'Back up web-01' });
  await dialog.getByRole('button', { name: 'Back up', exact: true }).click();
  await dialog.getByText('These backups are encrypted.').waitFor();
  await dialog.getByLabel('Password').fill(PASSWORD);
  await dialog.getByRole('button', { name: 'Back up', exact: true }).click();
  await dialog.waitFor({ state: 'detached' });
  await page.getByText('web-01: Back up done.').first().waitFor();
  assert.equal(asked.at(-1).password, PASSWORD);
});

test('on a phone nothing is wider than the screen', async (context) => {
  const { page } = await open(context, '/backups', {
    known: [FOLDERS.open, FOLDERS.locked],
    viewport: { width: 390, height: 844 },
  });
  await row(page, /^web-01, db-01/).click();
  await page.getByRole('complementary', { name: 'web-01, db-01' }).waitFor();
  const wide = await page.evaluate(() => document.documentElement.scrollWidth);
  assert.ok(wide <= 390, String(wide));
});
