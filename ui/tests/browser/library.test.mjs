/**
 * Images and storage in a real browser, on made-up ones: `npm run build && npm run test:browser`. A download from the first press to
 * the machine's wizard; refusals that name who; a thousand volumes; the keyboard alone.
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

async function open(context, path, options = {}) {
  const fixture = await startFixture({ machines: 3, ...options });
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
  await page.goto(fixture.url + (typeof path === 'function' ? path(fixture.state) : path));
  return { page, fixture };
}

const poolPath = (name) => (state) =>
  `/storage?pool=${state.storage.pools.find((one) => one.name === name).id}`;

test('an empty library leads to the catalogue, a download, and a machine of it', async (context) => {
  const { page, fixture } = await open(context, '/images', { machines: 0 });
  await page.getByRole('link', { name: 'Look at the catalogue' }).click();
  await page.getByRole('searchbox').waitFor();
  await page.keyboard.press('/');
  await page.keyboard.type('ubuntu');
  await page.getByRole('button', { name: 'Download Ubuntu 24.04 LTS, cloud image' }).click();
  await page.getByRole('meter', { name: 'Ubuntu 24.04 LTS, cloud image' }).waitFor();
  const use = page.getByRole('link', { name: 'Create a machine from Ubuntu 24.04 LTS, cloud image' });
  await use.waitFor();
  await use.click();
  await page.waitForURL(`**/machines/new?image=${fixture.state.images[0].id}`);
});

test('a download is given up, and one that broke off goes on', async (context) => {
  const { page, fixture } = await open(context, '/images');
  await page.getByRole('button', { name: 'Add image' }).click();
  await page.getByRole('menuitem', { name: 'Download from an address…' }).click();
  const address = page.getByLabel('Address');
  await address.fill('example.org/base.qcow2');
  await page.getByRole('button', { name: 'Download' }).click();
  await page.getByText('Give an address that begins with https:// or http://.').waitFor();
  await address.fill('https://example.org/base.qcow2');
  await page.getByRole('button', { name: 'Download' }).click();
  await page.getByRole('meter', { name: 'base' }).first().waitFor();
  await page
    .getByRole('region', { name: 'On their way' })
    .getByRole('button', { name: 'Cancel base' })
    .click();
  await page.getByRole('region', { name: 'On their way' }).waitFor({ state: 'detached' });
  assert.equal(fixture.state.operations[0].status, 'cancelled');

  await page.getByRole('button', { name: 'Add image' }).click();
  await page.getByRole('menuitem', { name: 'Download from an address…' }).click();
  await page.getByLabel('Address').fill('https://example.org/base.qcow2');
  await page.keyboard.press('Enter');
  await page.getByRole('meter', { name: 'base' }).first().waitFor();
  const broken = { ...fixture.state.operations[0], status: 'interrupted', cancellable: false };
  fixture.state.works.get(broken.id)();
  fixture.state.operations[0] = broken;
  fixture.state.emit({ type: 'operation_changed', operation: broken });
  await page.getByText('What has arrived is kept.').waitFor();
  await page.getByRole('button', { name: 'Continue' }).click();
  await page.getByRole('row', { name: /^base, / }).waitFor();
});

test('an image that machines read is not deleted, and says who', async (context) => {
  const { page, fixture } = await open(context, '/images');
  await page.getByRole('row', { name: /^Debian 12 cloud/ }).click();
  await page.getByRole('button', { name: 'Delete…' }).click();
  const dialog = page.getByRole('dialog', { name: 'Debian 12 cloud is in use' });
  await dialog.getByRole('link', { name: 'web-01' }).waitFor();
  await page.keyboard.press('Escape');
  await page.getByRole('row', { name: /^debian-12\.8/ }).click();
  await page.getByRole('button', { name: 'Delete…' }).click();
  await page.getByText('This frees 633 MB.').waitFor();
  await page.getByRole('button', { name: 'Delete image' }).click();
  await page.getByRole('row', { name: /^debian-12\.8/ }).waitFor({ state: 'detached' });
  assert.equal(fixture.state.images.length, 3);
});

test('a file is looked at while it is chosen, and joins the library', async (context) => {
  const { page, fixture } = await open(context, '/images?file=/home/ada/images/broken.qcow2');
  await page.getByText('/home/ada/images/broken.qcow2 is no disk image.').waitFor();
  await page.getByLabel('File', { exact: true }).fill('/home/ada/images/new.iso');
  await page.getByText('CD or DVD (ISO), 1.8 GB').waitFor();
  await page.getByText('Use it where it is').click();
  await page.getByRole('button', { name: 'Import' }).click();
  await page.getByRole('row', { name: /^new, CD or DVD/ }).waitFor();
  assert.equal(fixture.state.images.at(-1).owned, false);
});

test('the notes of an image are changed in place', async (context) => {
  const { page, fixture } = await open(context, '/images');
  await page.getByRole('row', { name: /^old-server/ }).click();
  await page.getByRole('button', { name: 'Edit the notes' }).click();
  await page.getByLabel('Notes').fill('Before the move.');
  await page.getByLabel('Name', { exact: true }).fill('Debian 12 cloud');
  await page.getByRole('button', { name: 'Save' }).click();
  await page.getByText('An image is called “Debian 12 cloud” already.').waitFor();
  await page.getByLabel('Name', { exact: true }).fill('Old server');
  await page.getByRole('button', { name: 'Save' }).click();
  await page.getByRole('heading', { name: 'Old server' }).waitFor();
  assert.equal(fixture.state.images.find((one) => one.name === 'Old server').description, 'Before the move.');
});

test('a thousand volumes are a page like any other, by keyboard', async (context) => {
  const { page } = await open(context, poolPath('fast'), { volumes: 1_000 });
  await page.getByRole('row', { name: /^data-0001/ }).waitFor();
  const nodes = await page.evaluate(() => document.querySelectorAll('*').length);
  assert.ok(nodes < 2_000, `${String(nodes)} elements for what a screen shows`);
  await page.keyboard.press('/');
  await page.keyboard.press('ArrowDown');
  await page
    .getByRole('row', { name: /^data-0001/ })
    .and(page.locator(':focus'))
    .waitFor();
  for (let at = 0; at < 40; at += 1) await page.keyboard.press('ArrowDown');
  await page
    .getByRole('row', { name: /^data-0041/ })
    .and(page.locator(':focus'))
    .waitFor();
  await page.keyboard.press('End');
  await page
    .getByRole('row', { name: /^notes\.img/ })
    .and(page.locator(':focus'))
    .waitFor();
  await page.keyboard.press('Home');
  await page
    .getByRole('row', { name: /^data-0001/ })
    .and(page.locator(':focus'))
    .waitFor();
  await page.keyboard.press('Enter');
  await page.getByRole('complementary', { name: 'data-0001.qcow2' }).waitFor();
  // What was looked at has the focus still: the list goes on from there.
  await page.keyboard.press('ArrowDown');
  await page
    .getByRole('row', { name: /^data-0002/ })
    .and(page.locator(':focus'))
    .waitFor();
  await page.keyboard.press('/');
  await page.keyboard.type('0777');
  await page.getByRole('row', { name: /^data-0777/ }).waitFor();
  assert.equal(await page.getByRole('row').count(), 1);
});

test('a pool is added, a volume made in it, grown, and deleted with its name typed', async (context) => {
  const { page, fixture } = await open(context, '/storage');
  await page.getByRole('button', { name: 'Add pool' }).click();
  const dialog = page.getByRole('dialog', { name: 'Add a pool' });
  await dialog.getByLabel('Folder').fill('/mnt/big');
  await dialog.getByLabel('Name').fill('fast');
  await dialog.getByRole('button', { name: 'Add' }).click();
  await dialog.getByText('A pool is called “fast” already.').waitFor();
  await dialog.getByLabel('Name').fill('big');
  await dialog.getByRole('button', { name: 'Add' }).click();
  await page.getByRole('heading', { name: 'Volumes of big' }).waitFor();
  await page.getByText('No volumes yet').waitFor();

  await page.getByRole('button', { name: 'New volume' }).click();
  await page.getByText('Plain bytes, for other programs').click();
  assert.equal(await page.getByLabel('File name').inputValue(), 'disk.raw');
  await page.getByRole('button', { name: 'Create', exact: true }).click();
  await page.getByRole('row', { name: /^disk\.raw/ }).click();
  const side = page.getByRole('complementary', { name: 'disk.raw' });
  assert.equal(await side.getByRole('button', { name: /Check and mend/ }).isDisabled(), true);
  await side.getByText('A raw disk has no structure to check.').waitFor();

  await side.getByRole('button', { name: /Change size/ }).click();
  const size = page.getByRole('dialog').getByRole('spinbutton');
  await size.fill('10');
  await page.getByText('The guest loses the last 10 GB.').waitFor();
  await page.getByRole('button', { name: 'Shrink' }).waitFor();
  await size.fill('30');
  await page.getByText('The guest sees 10 GB more.').waitFor();
  await page.getByRole('button', { name: 'Grow' }).click();
  await page.getByRole('row', { name: /^disk\.raw, .* of 30 GB$/ }).waitFor();

  await side.getByRole('button', { name: /Delete/ }).click();
  const remove = page.getByRole('button', { name: 'Delete volume' });
  assert.equal(await remove.isDisabled(), true);
  await page.getByLabel('Type disk.raw to confirm').fill('disk.raw');
  await remove.click();
  await page.getByText('No volumes yet').waitFor();
  assert.equal(
    fixture.state.storage.volumes.some((one) => one.name === 'disk.raw'),
    false,
  );
});

test('what belongs to nobody is shown, counted and cleaned up', async (context) => {
  const { page, fixture } = await open(context, '/storage');
  await page.getByText('2 files belong to no machine').waitFor();
  await page.getByRole('button', { name: 'Clean up…' }).click();
  await page.getByText('This frees 2.6 GB.').waitFor();
  await page.getByRole('button', { name: 'Delete files' }).click();
  await page.getByText('2 files belong to no machine').waitFor({ state: 'detached' });
  assert.equal(
    fixture.state.storage.volumes.some((one) => one.orphaned),
    false,
  );
});

test('space given back is told in bytes', async (context) => {
  const { page } = await open(context, poolPath('fast'));
  await page.getByRole('button', { name: 'More actions for data-0002.qcow2' }).click();
  await page.getByRole('menuitem', { name: 'Give back free space…' }).click();
  await page.getByRole('button', { name: 'Give back', exact: true }).click();
  await page.getByText('369 MB given back: 922 MB before, 553 MB now.', { exact: true }).waitFor();
});

test('a pool without room warns on the overview', async (context) => {
  const { page } = await open(context, '/');
  const attention = page.locator('.panel').filter({ hasText: 'Needs attention' });
  await attention.getByText('Almost full').waitFor();
  await attention.getByRole('link', { name: 'fast' }).click();
  await page.getByRole('heading', { name: 'Volumes of fast' }).waitFor();
});
