/**
 * Making, changing and stopping one machine in a real browser, on made-up machines: `npm run build && npm run test:browser`. What
 * the engine refuses stands at its field; what waits for a restart is told; what would be lost is asked about.
 */
import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { chromium } from 'playwright-core';
import { commands } from '../fixture/commands.mjs';
import { error, makeOperation } from '../fixture/machines.mjs';
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

async function open(context, path, { prepare, machines = 3 } = {}) {
  const fixture = await startFixture({ machines });
  prepare?.(fixture.state);
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

/** The page of the `index`th machine. */
const machine =
  (index, tab = '') =>
  (state) =>
    `/machines/${[...state.machines.keys()][index]}${tab}`;
const next = (page) => page.getByRole('button', { name: 'Next' }).click();
const tab = (page, name) =>
  page.getByRole('navigation', { name: 'Parts of this machine' }).getByRole('link', { name });

test('a machine is made from a disk image, with what was chosen', async (context) => {
  const { page, fixture } = await open(context, '/machines/new');
  let asked;
  commands['vm.create'] = (request, state) => own['vm.create']((asked = request), state);
  await page.getByText('Use a disk image').click();
  await page.getByLabel('Disk image', { exact: true }).fill('/home/ada/images/old server.qcow2');
  await page.getByText('Disk image (qcow2)').waitFor();
  await next(page);
  assert.equal(await page.getByLabel('Name').inputValue(), 'old server');
  await page.getByRole('spinbutton', { name: 'Memory' }).fill('2');
  await page.getByText('Make it larger').click();
  await page.getByLabel('Disk size').fill('10');
  await page.getByRole('group', { name: 'Resources' }).getByLabel('Name').click();
  await page.getByText('Choose 20 GB to 64 TB.').waitFor();
  assert.equal(await page.getByRole('button', { name: 'Create and start' }).count(), 0);
  await page.getByLabel('Disk size').fill('40');
  await next(page);
  await page.getByText('UEFI', { exact: true }).click();
  await page.getByRole('button', { name: '+ SSH 22' }).click();
  await next(page);
  await page.getByText('Copy, up to 40 GB').waitFor();
  await page.getByRole('switch', { name: 'Start when made' }).click();
  await page.getByRole('button', { name: 'Create', exact: true }).click();
  await page.waitForURL(/\/machines\/[0-9a-f-]{36}$/);
  assert.deepEqual(asked, {
    name: 'old server',
    source: { kind: 'image_copy', path: '/home/ada/images/old server.qcow2', diskSize: 40 * 2 ** 30 },
    cpus: 1,
    memory: 2048,
    firmware: 'uefi',
    accel: 'auto',
    forwards: [{ protocol: 'tcp', hostAddress: '127.0.0.1', hostPort: 2222, guestPort: 22 }],
    start: false,
  });
  assert.equal(fixture.state.machines.size, 4);
});

test('what the engine refuses stands at its field, on its step', async (context) => {
  const { page } = await open(context, '/machines/new?source=demo');
  commands['vm.create'] = () => {
    throw { ...error('not_enough_memory', 'This computer has only 512 MB.'), field: 'spec.memory' };
  };
  for (let step = 0; step < 3; step += 1) await next(page);
  await page.getByRole('button', { name: 'Create and start' }).click();
  await page.getByText('This computer has only 512 MB.').waitFor();
  const memory = page.getByRole('spinbutton', { name: 'Memory' });
  assert.equal(await memory.getAttribute('aria-invalid'), 'true');
  await memory.fill('0.5');
  await page.getByText('This computer has only 512 MB.').waitFor({ state: 'detached' });
});

test('a creation that fails midway comes back to the form', async (context) => {
  const { page } = await open(context, '/machines/new?source=demo');
  commands['vm.create'] = (_, state) => {
    const operation = makeOperation([...state.machines.values()][0], 'create', 'failed');
    operation.error = error('disk_full', 'The disk is full.', 'Free some space.');
    return operation;
  };
  await page.getByRole('button', { name: 'Create and start' }).click();
  await page.getByText('The disk is full.', { exact: true }).waitFor();
  await page.getByRole('button', { name: 'Create and start' }).waitFor();
});

test('two forwards of one port are refused before anything is sent', async (context) => {
  const { page } = await open(context, '/machines/new?source=demo');
  await next(page);
  await next(page);
  await page.getByRole('button', { name: '+ SSH 22' }).click();
  await page.getByRole('button', { name: '+ HTTP 80' }).click();
  const second = page.getByRole('group', { name: 'Port forward 2' });
  await second.getByLabel('Host port').fill('2222');
  await second.getByLabel('Guest port').focus();
  await page.getByText('Port forward 1 already uses this port.').waitFor();
  await second.getByLabel('Host port').fill('2201');
  await page.getByText('db-01 also uses port 2201.').waitFor();
  await page.getByRole('button', { name: 'Create and start' }).waitFor();
});

test('edits of a running machine wait, show old and new, and are not lost by leaving', async (context) => {
  const { page, fixture } = await open(context, machine(0, '/settings'));
  await page.getByRole('spinbutton', { name: 'CPUs' }).fill('4');
  await tab(page, 'Log').click();
  await page.getByText('The changes of web-01 are not saved.').waitFor();
  await page.getByRole('button', { name: 'Cancel' }).click();
  // Going to another machine is no less a loss.
  await page.keyboard.press('Control+k');
  await page.getByRole('dialog').getByRole('combobox').fill('db-01');
  await page.keyboard.press('Enter');
  await page.getByText('The changes of web-01 are not saved.').waitFor();
  await page.getByRole('button', { name: 'Cancel' }).click();
  await page.getByRole('button', { name: 'Save' }).click();
  await page.getByText('Changes wait for the next start').waitFor();
  await page
    .getByRole('row')
    .filter({ hasText: /CPUs\s*1\s*4/ })
    .waitFor();
  assert.equal([...fixture.state.machines.values()][0].spec.cpus, 4);
  await tab(page, 'Log').click();
  await page.getByRole('radio', { name: 'Serial port' }).waitFor();
});

test('a name is changed in place, by keyboard, and a taken one refused', async (context) => {
  const { page } = await open(context, machine(0));
  await page.getByRole('button', { name: 'Rename' }).focus();
  await page.keyboard.press('Enter');
  await page.keyboard.type('db-01');
  await page.getByText('Another machine has this name.').waitFor();
  await page.keyboard.press('Control+a');
  await page.keyboard.type('front');
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { name: 'front', level: 1 }).waitFor();
});

test('a stop that missed its deadline asks, and forcing off names what is lost', async (context) => {
  const { page } = await open(context, machine(0), {
    prepare: (state) => {
      const late = makeOperation([...state.machines.values()][0], 'stop', 'failed');
      late.error = error('guest_did_not_stop', 'It has not shut down.');
      state.operations.unshift(late);
    },
  });
  await page.getByRole('button', { name: 'Ask again and wait 1 min' }).waitFor();
  await page.getByRole('alert').getByRole('button', { name: 'Force off…' }).click();
  await page.getByText('Work in it that was not saved is lost', { exact: false }).waitFor();
  await page.getByRole('button', { name: 'Force off', exact: true }).click();
  await page.getByText('Stopped', { exact: true }).first().waitFor();
  await page.getByRole('button', { name: /Ask again/ }).waitFor({ state: 'detached' });
});

test('a setting is kept when it holds, and told when it does not', async (context) => {
  const { page, fixture } = await open(context, '/settings');
  const timeout = page.getByLabel('Time to shut down');
  await timeout.fill('0');
  await timeout.press('Enter');
  await page.getByText('Choose 1 to 3600.').waitFor();
  assert.equal(fixture.state.settings.stopTimeoutSeconds, undefined);
  const changed = page.waitForResponse(/settings\.update/);
  await timeout.fill('90');
  await timeout.press('Enter');
  await changed;
  assert.equal(fixture.state.settings.stopTimeoutSeconds, 90);
  await page.getByText('Set as default_memory in config.toml.', { exact: false }).waitFor();
});

test('a newcomer reaches a cloud guest with ssh in six clicks', async (context) => {
  const { page } = await open(context, '/', { machines: 0 });
  let asked;
  commands['vm.create'] = (request, state) => own['vm.create']((asked = request), state);
  let clicks = 0;
  const click = async (target) => {
    clicks += 1;
    await target.click();
  };
  await click(page.getByRole('link', { name: /^Cloud image/ }));
  await click(page.getByText('Debian 12 (bookworm), cloud image'));
  await click(page.getByRole('button', { name: 'Create and start' }));
  await page
    .getByText(/Downloading the image/)
    .first()
    .waitFor();
  await page.waitForURL(/\/machines\/[0-9a-f-]{36}$/);
  await click(page.getByRole('button', { name: 'Copy the command' }));
  await page.getByText('Copied: paste it into a terminal.').first().waitFor();
  assert.ok(clicks <= 6, `${clicks} clicks`);
  assert.equal(asked.source.kind, 'library');
  assert.deepEqual(asked.cloudInit, { user: 'debian', generateKey: true });
  assert.equal(asked.os, 'debian12');
  assert.deepEqual(
    asked.forwards.map(({ guestPort, hostAddress }) => [guestPort, hostAddress]),
    [[22, '127.0.0.1']],
  );
});

test('an ISO is recognised and its system gets what it asks for, and what was touched stays', async (context) => {
  const { page } = await open(context, '/machines/new?source=iso');
  let asked;
  commands['vm.create'] = (request, state) => own['vm.create']((asked = request), state);
  await page.getByLabel('ISO file').fill('/home/ada/Win11.iso');
  await page.getByText('A TPM 2.0, because it asks for one.').waitFor();
  await next(page);
  await page.getByRole('spinbutton', { name: 'Memory' }).fill('6');
  await page.getByRole('button', { name: 'Create and start' }).click();
  await page.waitForURL(/\/console$/);
  assert.equal(asked.os, 'win11');
  assert.equal(asked.tpm, true);
  assert.equal(asked.firmware, 'uefi_secure');
  assert.equal(asked.memory, 6144);
  assert.equal(asked.source.diskSize, 64 * 2 ** 30);
});

test('a machine of another program says what does not come along', async (context) => {
  const { page } = await open(context, '/machines/new?source=import');
  let asked;
  commands['vm.import'] = (request, state) => own['vm.import']((asked = request), state);
  await page.getByLabel('File of the machine').fill('/home/ada/old server.vmx');
  await page.getByText('2 parts do not come along').waitFor();
  await page.getByText('Sound card (ac97)').waitFor();
  await page.getByRole('button', { name: 'Import', exact: true }).click();
  await page.waitForURL(/\/machines/);
  assert.deepEqual(asked, { path: '/home/ada/old server.vmx', name: 'old server' });
});

test('a disc goes into the drive at once, in the middle of other edits', async (context) => {
  const { page, fixture } = await open(context, machine(0, '/settings'));
  await page.getByRole('spinbutton', { name: 'CPUs' }).fill('3');
  const drive = page.getByLabel('CD drive 1', { exact: true });
  await drive.fill('/iso/debian.iso');
  await drive.press('Enter');
  await page.getByText('The disc is in the drive.').first().waitFor();
  const first = () => [...fixture.state.machines.values()][0].spec;
  assert.equal(first().cdroms[0].file, '/iso/debian.iso');
  assert.equal(first().cpus, 1);
  assert.equal(await page.getByRole('spinbutton', { name: 'CPUs' }).inputValue(), '3');
  await page.getByRole('button', { name: 'Save' }).click();
  await page.getByText('Saved. Some of it waits for a restart.').first().waitFor();
  assert.equal(first().cpus, 3);
  assert.equal(first().cdroms[0].file, '/iso/debian.iso');
});

test('cards, disks and their order are changed and kept', async (context) => {
  const { page, fixture } = await open(context, machine(2, '/settings'));
  await page.getByRole('button', { name: 'Add a network card' }).click();
  await page.getByRole('button', { name: 'Add a disk' }).click();
  await page.getByLabel('Disk size').fill('5');
  await page.getByRole('dialog').getByRole('button', { name: 'Add', exact: true }).click();
  await page.getByRole('dialog').waitFor({ state: 'detached' });
  const grip = page.getByRole('button', { name: /^Move .*data/ });
  await grip.focus();
  await page.keyboard.press('ArrowUp');
  await page.getByRole('button', { name: 'Save' }).click();
  await page.getByText('Saved.', { exact: true }).first().waitFor();
  const { spec } = [...fixture.state.machines.values()][2];
  assert.equal(spec.nics.length, 2);
  assert.notEqual(spec.nics[1].mac, spec.nics[0].mac);
  assert.deepEqual(
    spec.disks.map(({ id, owner }) => [id, owner]),
    [
      ['disk1', 'user'],
      ['disk0', 'machine'],
    ],
  );
});

test('a parent of linked clones is not deleted without a word about them', async (context) => {
  const { page, fixture } = await open(context, machine(2), {
    prepare: (state) => {
      const [first, , third] = [...state.machines.values()];
      state.machines.set(first.id, { ...first, parent: third.id });
    },
  });
  let asked;
  commands['vm.delete'] = (request, state) => own['vm.delete']((asked = request), state);
  await page.getByRole('button', { name: 'More actions for win11-lab' }).click();
  await page.getByRole('menuitem', { name: 'Delete…' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByText('1 linked clone stands on its disks:').waitFor();
  const yes = dialog.getByRole('button', { name: 'Delete machine' });
  assert.equal(await yes.isDisabled(), true);
  await dialog.getByRole('switch', { name: 'Make the clones independent first' }).click();
  await yes.click();
  await page.waitForURL(/\/machines$/);
  assert.deepEqual(
    { trash: asked.trash, flatten: asked.flattenChildren, keep: asked.keepDisks },
    { trash: true, flatten: true, keep: false },
  );
  assert.equal(fixture.state.machines.size, 2);
});

test('deleting for good wants the name', async (context) => {
  const { page } = await open(context, machine(2));
  await page.getByRole('button', { name: 'More actions for win11-lab' }).click();
  await page.getByRole('menuitem', { name: 'Delete…' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByRole('switch', { name: 'Move the files to the trash' }).click();
  await dialog.getByText('It cannot be undone.', { exact: false }).waitFor();
  const yes = dialog.getByRole('button', { name: 'Delete machine' });
  assert.equal(await yes.isDisabled(), true);
  await dialog.getByLabel('Type win11-lab to confirm').fill('win11-lab');
  assert.equal(await yes.isDisabled(), false);
});
