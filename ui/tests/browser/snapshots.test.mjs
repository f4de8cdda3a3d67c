/**
 * A machine's Timeline in a real browser, on made-up snapshots: `npm run build && npm run test:browser`. Taking, finding, restoring,
 * forking, comparing and deleting; the line by keyboard and pointer; failures where they belong.
 */
import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { chromium } from 'playwright-core';
import { commands } from '../fixture/commands.mjs';
import { error } from '../fixture/machines.mjs';
import { startFixture } from '../fixture/server.mjs';
import { work } from '../fixture/work.mjs';

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

async function open(context, index, { viewport = { width: 1280, height: 800 }, path, look } = {}) {
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
  const id = [...fixture.state.machines.keys()][index];
  const tree = () => fixture.state.snapshots.get(id).snapshots;
  const query = look ? `?snapshot=${tree().find(({ name }) => name === look).id}` : '';
  await page.goto(fixture.url + (path ?? `/machines/${id}/timeline${query}`));
  return { page, fixture, id, tree };
}

/** Watches what is asked for. */
function listen(name) {
  const asked = [];
  commands[name] = (request, state) => {
    asked.push(request);
    return own[name](request, state);
  };
  return asked;
}

const row = (page, name) => page.getByRole('treeitem', { name });
const line = (page) => page.getByRole('slider', { name: 'The past of web-01' });
const offer = (page, name) => page.getByRole('complementary').getByRole('button', { name });
const told = (page) => line(page).getAttribute('aria-valuetext');

test('a first snapshot is taken of a stopped machine, and stands in the tree', async (context) => {
  const { page, tree } = await open(context, 2);
  await page.getByText('No snapshot yet').waitFor();
  await page.getByRole('button', { name: 'Take a snapshot' }).click();
  const dialog = page.getByRole('dialog', { name: 'Snapshot of win11-lab' });
  await dialog.getByText('Nothing runs, so it is taken at once.').waitFor();
  assert.match(await dialog.getByLabel('Name').inputValue(), /^snapshot \d{4}-\d\d-\d\d \d\d:\d\d$/);
  assert.equal(await dialog.getByRole('switch').count(), 0);
  await dialog.getByLabel('Tags').fill('base, clean');
  await page.keyboard.press('Enter');
  await row(page, /^snapshot /).waitFor();
  assert.deepEqual(tree()[0].tags, ['base', 'clean']);
  assert.equal(tree()[0].memory, false);
});

test('a taken name is told while one types, and freezing only where an agent answers', async (context) => {
  const asked = listen('snapshot.create');
  const { page, id } = await open(context, 0);
  await page.getByRole('button', { name: 'Take a snapshot' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByLabel('Name').fill('updated');
  await dialog.getByText('Another snapshot of this machine has this name.').waitFor();
  await dialog.getByLabel('Name').fill('by hand');
  await dialog.getByRole('switch', { name: 'Leave the memory out' }).click();
  await dialog.getByRole('switch', { name: 'Freeze the guest’s file systems' }).click();
  await dialog.getByRole('button', { name: 'Take snapshot' }).click();
  await row(page, /^by hand/).waitFor();
  await page.getByText('The guest was held for 22 ms.').first().waitFor();
  assert.equal(asked.length, 1);
  assert.deepEqual(asked[0], {
    id,
    name: 'by hand',
    diskOnly: true,
    freeze: true,
  });

  commands['vm.guest'] = () => ({ agent: false, hostname: null, os: null, addresses: [] });
  await page.getByRole('button', { name: 'Take a snapshot' }).click();
  await dialog.getByRole('switch', { name: 'Leave the memory out' }).click();
  await dialog.getByText('The guest’s agent does not answer', { exact: false }).waitFor();
  assert.equal(await dialog.getByRole('switch').count(), 1);
});

test('a snapshot is taken from the palette and from a card', async (context) => {
  const { page } = await open(context, 0, { path: '/machines' });
  await page.locator('[data-vm]').first().waitFor();
  await page.keyboard.press('Control+k');
  await page.getByRole('combobox').fill('web snapshot');
  await page.getByRole('option', { name: 'web-01 · Take a snapshot…' }).click();
  await page.getByRole('dialog', { name: 'Snapshot of web-01' }).waitFor();
  await page.keyboard.press('Escape');
  await page.locator('[data-vm]').nth(1).hover();
  await page
    .getByRole('button', { name: /^More actions for (db|web)-01$/ })
    .first()
    .click();
  await page.getByRole('menuitem', { name: 'Take a snapshot…' }).click();
  await page.getByRole('dialog', { name: /^Snapshot of / }).waitFor();
});

test('the line is walked with the keyboard, and what stands there is shown beside the tree', async (context) => {
  const { page, id } = await open(context, 0);
  await line(page).focus();
  assert.match(await told(page), /^The present: Running/);
  await page.keyboard.press('PageUp');
  assert.match(await told(page), /^before the move/);
  await page.getByRole('complementary', { name: 'before the move' }).waitFor();
  await page.getByText('as after a power cut').waitFor();
  await page.keyboard.press('ArrowLeft');
  assert.match(await told(page), /^Reset|^Start/);
  await page.keyboard.press('Home');
  assert.match(await told(page), /^Create/);
  await page.keyboard.press('PageDown');
  await page.getByRole('complementary', { name: 'installed' }).waitFor();
  await line(page).and(page.locator(':focus')).waitFor();
  await page.keyboard.press('End');
  await page.waitForURL(`**/machines/${id}/timeline`);
  await page.getByRole('complementary').waitFor({ state: 'detached' });
});

test('the line is scrubbed with the pointer', async (context) => {
  const { page } = await open(context, 0);
  const box = await line(page).boundingBox();
  const strip = await page.locator('.strip').boundingBox();
  const y = box.y + box.height / 2;
  await page.mouse.move(strip.x + strip.width - 80, y);
  await page.mouse.down();
  const seen = new Set();
  for (let x = strip.x + strip.width - 80; x > strip.x + 10; x -= 20) {
    await page.mouse.move(x, y);
    seen.add(await told(page));
  }
  await page.mouse.up();
  assert.ok(seen.size >= 6, [...seen].join('\n'));
  // Where it was let go, it stays.
  const last = await told(page);
  await page.mouse.move(strip.x + 300, y);
  assert.equal(await told(page), last);
});

test('the tree is walked with the keyboard alone', async (context) => {
  const { page } = await open(context, 0, { look: 'web server configured' });
  await row(page, /^web server configured/).focus();
  await page.keyboard.press('ArrowRight');
  await row(page, /^before the experiment/)
    .and(page.locator(':focus'))
    .waitFor();
  await page.keyboard.press('ArrowLeft');
  await row(page, /^web server configured/)
    .and(page.locator(':focus'))
    .waitFor();
  await page.keyboard.press('End');
  await row(page, /^Present/)
    .and(page.locator(':focus'))
    .waitFor();
  await page.keyboard.press('ArrowLeft');
  await page.keyboard.press('Enter');
  await page.getByRole('complementary', { name: 'before the move' }).waitFor();
  assert.equal(await row(page, /^before the move/).getAttribute('aria-level'), '5');
});

test('name, description, tags and whether it is kept are changed in place', async (context) => {
  const { page, tree } = await open(context, 0, { look: 'updated' });
  await page.getByRole('button', { name: 'Rename updated' }).click();
  await page.keyboard.type('installed');
  await page.getByText('Another snapshot of this machine has this name.').waitFor();
  await page.keyboard.press('Control+a');
  await page.keyboard.type('security fixes');
  await page.keyboard.press('Enter');
  await row(page, /^security fixes/).waitFor();
  await page.getByRole('button', { name: 'Change description and tags' }).click();
  await page.getByLabel('Description').fill('All of November.');
  await page.getByRole('complementary').getByLabel('Tags').fill('monthly');
  await page.getByRole('button', { name: 'Save' }).click();
  await page.getByText('All of November.').waitFor();
  await page.getByRole('switch', { name: 'Keep for good' }).click();
  await row(page, /^security fixes Kept for good/).waitFor();
  const { name, description, tags, keep } = tree().find((one) => one.name === 'security fixes');
  assert.deepEqual(
    { name, description, tags, keep },
    {
      name: 'security fixes',
      description: 'All of November.',
      tags: ['monthly'],
      keep: true,
    },
  );
});

test('restoring keeps the present first, and losing it is red and says how much', async (context) => {
  const asked = listen('snapshot.restore');
  const { page, tree, fixture, id } = await open(context, 0, { look: 'web server configured' });
  await offer(page, /^Restore…/).click();
  const dialog = page.getByRole('dialog', { name: 'Restore web server configured?' });
  await dialog.getByRole('switch').click();
  await dialog.getByText(/lost for good: up to .*, written since “before the move”/).waitFor();
  const lose = dialog.getByRole('button', { name: 'Restore, and lose the present' });
  assert.match((await lose.getAttribute('class')) ?? '', /btn-danger/);
  await dialog.getByRole('switch').click();
  await dialog.getByText('The memory in it is left aside.').click();
  await dialog.getByRole('button', { name: 'Restore', exact: true }).click();
  await row(page, /^before “web server configured” .*voidVM/)
    .nth(1)
    .waitFor();
  await row(page, /^Present Stopped/).waitFor();
  assert.deepEqual(asked, [{ id, snapshot: tree().find((one) => one.current).id, to: 'stopped' }]);
  assert.equal(fixture.state.machines.get(id).spec.cpus, 1);
  // The present stands below what was restored now.
  assert.equal(await row(page, /^Present/).getAttribute('aria-level'), '3');
});

test('a suspended machine says that its present cannot be kept', async (context) => {
  const asked = listen('snapshot.restore');
  const { page, fixture, id } = await open(context, 0, { look: 'updated' });
  const vm = { ...fixture.state.machines.get(id), state: 'suspended', run: null };
  vm.generation += 1;
  fixture.state.machines.set(id, vm);
  fixture.state.emit({ type: 'vm_changed', vm });
  await row(page, /^Present Suspended/).waitFor();
  await offer(page, /^Restore…/).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByText('The memory it was suspended with is lost too.').waitFor();
  assert.equal(await dialog.getByRole('switch').isDisabled(), true);
  await dialog.getByRole('button', { name: 'Restore, and lose the present' }).click();
  await dialog.waitFor({ state: 'detached' });
  assert.equal(asked[0].discardPresent, true);
});

test('forks are numbered, checked and started', async (context) => {
  const asked = listen('snapshot.fork');
  const { page, fixture } = await open(context, 0, { look: 'web server configured' });
  await offer(page, /^Fork…/).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByLabel('Name').fill('db-01');
  await dialog.getByText('Another machine has this name.').waitFor();
  await dialog.getByLabel('Name').fill('worker');
  await dialog.getByLabel('How many').fill('51');
  await dialog.getByText('Choose 1 to 50.').waitFor();
  await dialog.getByLabel('How many').fill('3');
  await dialog.getByText('They are called worker-1 to worker-3.').waitFor();
  await dialog.getByRole('button', { name: 'Fork', exact: true }).click();
  await dialog.waitFor({ state: 'detached' });
  await page.getByText('web-01: Fork snapshot done.').waitFor({ state: 'attached' });
  assert.equal(asked[0].count, 3);
  assert.equal(asked[0].start, true);
  assert.equal([...fixture.state.machines.values()].filter(({ name }) => /^worker-/.test(name)).length, 3);
});

test('two snapshots are compared side by side', async (context) => {
  const { page } = await open(context, 0, { look: 'web server configured' });
  await offer(page, /^Compare…/).click();
  const dialog = page.getByRole('dialog', { name: 'Compare web server configured' });
  await dialog.getByRole('row', { name: 'Memory 512 MB 1024 MB' }).waitFor();
  await dialog.getByRole('columnheader', { name: 'The present' }).waitFor();
  await dialog.getByLabel('With').selectOption({ label: 'installed' });
  await dialog.getByText('The hardware is the same.').waitFor();
  await dialog.getByRole('row', { name: /^disk0 .* MB$/ }).waitFor();
});

test('deleting names what is freed; what is kept for good wants its name', async (context) => {
  const { page, tree } = await open(context, 0, { look: 'auto_2026-11-22' });
  await offer(page, /^Delete…/).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByText('This frees 96 MB.').waitFor();
  await dialog.getByRole('button', { name: 'Delete snapshot' }).click();
  await row(page, /^auto_2026-11-22/).waitFor({ state: 'detached' });
  await page.getByRole('complementary').waitFor({ state: 'detached' });
  assert.equal(tree().length, 7);
  await page.getByRole('button', { name: 'More actions for installed' }).click();
  await page.getByRole('menuitem', { name: 'Delete…' }).click();
  assert.equal(await dialog.getByRole('button', { name: 'Delete snapshot' }).isDisabled(), true);
  await dialog.getByLabel('Type installed to confirm').fill('installed');
  await dialog.getByRole('button', { name: 'Delete snapshot' }).click();
  await row(page, /^installed/).waitFor({ state: 'detached' });
  assert.equal(await row(page, /^web server configured/).getAttribute('aria-level'), '1');
});

test('what is in trouble says why and is not restored', async (context) => {
  const { page } = await open(context, 0, { look: 'new kernel' });
  await page.getByText('2 of 512 blocks differ', { exact: false }).first().waitFor();
  assert.equal(await offer(page, /^Restore…/).isDisabled(), true);
  assert.equal(await offer(page, /^Fork…/).isDisabled(), true);
  assert.equal(await offer(page, /^Delete…/).isEnabled(), true);
});

test('a failure stands above the line, and is tried again from there', async (context) => {
  const { page } = await open(context, 0, { look: 'auto_2026-11-22' });
  let fails = true;
  commands['snapshot.delete'] = (request, state) => {
    if (!fails) return own['snapshot.delete'](request, state);
    return work(state, 'snapshot_delete', 'web-01', {
      about: { vmId: request.id },
      seconds: 0.3,
      end: () => {
        throw error('disk_full', 'The disk is full: 96 MB more are needed.', 'Free some space.');
      },
    });
  };
  await offer(page, /^Delete…/).click();
  await page.getByRole('button', { name: 'Delete snapshot' }).click();
  await page.getByText('Delete snapshot failed.').waitFor();
  await page.getByRole('alert').getByText('Free some space.').waitFor();
  fails = false;
  await page.getByRole('button', { name: 'Try again' }).click();
  await row(page, /^auto_2026-11-22/).waitFor({ state: 'detached' });
  await page.getByText('Delete snapshot failed.').waitFor({ state: 'detached' });
});

test('a list that cannot be had is asked for again', async (context) => {
  commands['snapshot.list'] = () => {
    throw error('database_failed', 'The data cannot be read.', 'Check the data folder.');
  };
  const { page } = await open(context, 0);
  await page.getByText('The data cannot be read.', { exact: true }).waitFor();
  commands['snapshot.list'] = own['snapshot.list'];
  await page.getByRole('button', { name: 'Try again' }).click();
  await row(page, /^installed/).waitFor();
});

test('on a phone the line is looked at first, and a snapshot opens in the tree’s place', async (context) => {
  const { page } = await open(context, 0, { viewport: { width: 390, height: 844 } });
  await line(page).focus();
  await page.keyboard.press('PageUp');
  assert.equal(await page.getByRole('complementary').count(), 0);
  await page.getByRole('button', { name: 'Show this snapshot' }).click();
  await page.getByRole('complementary', { name: 'before the move' }).waitFor();
  await page.getByRole('tree').waitFor({ state: 'hidden' });
  await page.getByRole('button', { name: 'Back', exact: true }).click();
  await page.getByRole('tree').waitFor();
  const wide = await page.evaluate(() => document.documentElement.scrollWidth);
  assert.ok(wide <= 390, String(wide));
});
