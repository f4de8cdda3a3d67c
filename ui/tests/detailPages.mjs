/** The pages about making, looking at and setting one machine, and the ones of the host, for `look.mjs`. */
import { error, makeOperation } from './fixture/machines.mjs';

/** Opens the page of the `index`th machine of the fixture. */
function machine(index, tab = '') {
  return (fixture) => `/machines/${[...fixture.state.machines.keys()][index]}${tab && `/${tab}`}`;
}

/** The first machine was asked to shut down and did not in time. */
function missStop({ state }) {
  const [vm] = state.machines.values();
  const late = makeOperation(vm, 'stop', 'failed');
  late.error = error(
    'guest_did_not_stop',
    `${vm.name} has not shut down within 60 seconds.`,
    'Wait, or force it off.',
  );
  late.stderr = null;
  state.operations.unshift(late);
}

const next = (page) => page.locator('.create-foot button[type=submit]').click();

export const detailPages = [
  { name: 'create', path: '/machines/new', at: [3] },
  {
    name: 'create-iso',
    path: '/machines/new?source=iso',
    at: [3],
    prepare: async (page) => {
      await page.locator('.path-field input').fill('/home/ada/images/debian-12.8.0-amd64-netinst.iso');
      await page.locator('.image-facts dl').waitFor();
    },
  },
  {
    name: 'create-image',
    path: '/machines/new?source=image',
    at: [3],
    fail: {}, // the engine refuses the file, and the browser tells of it
    prepare: async (page) => {
      await page.locator('.path-field input').fill('/home/ada/images/broken.qcow2');
      await page.locator('.invalid-feedback').waitFor();
    },
  },
  {
    name: 'create-cloud',
    path: '/machines/new?source=cloud',
    at: [0, 3],
    prepare: (page) => page.locator('.medium').nth(1).click(),
  },
  {
    name: 'create-guest',
    path: '/machines/new?source=cloud',
    at: [3],
    prepare: async (page) => {
      await page.locator('.medium').first().click();
      await page.locator('.steps button').nth(1).click();
      await page.locator('.choice').nth(1).click();
      await page.locator('details summary').click();
    },
  },
  {
    name: 'create-windows',
    path: '/machines/new?source=iso',
    at: [3],
    prepare: async (page) => {
      await page.locator('.path-field input').fill('/home/ada/Downloads/Win11_24H2_English_x64.iso');
      await page.locator('.preset').waitFor();
    },
  },
  {
    name: 'create-import',
    path: '/machines/new?source=import',
    at: [3],
    prepare: async (page) => {
      await page.locator('.path-field input').fill('/home/ada/old/old-server.vbox');
      await page.locator('.without').waitFor();
    },
  },
  { name: 'create-resources', path: '/machines/new?source=demo', at: [3], prepare: next },
  {
    name: 'create-network',
    path: '/machines/new?source=demo',
    at: [3],
    prepare: async (page) => {
      await next(page);
      await next(page);
      await page.locator('.add button').nth(1).click();
      await page.locator('.add button').nth(1).click();
      await page.locator('.forward input').nth(2).fill('2222');
      await page.locator('.forward input').nth(3).focus();
    },
  },
  {
    name: 'create-review',
    path: '/machines/new?source=demo',
    at: [3],
    prepare: async (page) => {
      for (let step = 0; step < 3; step += 1) await next(page);
    },
  },
  { name: 'machine', path: machine(0), at: [3, 40] },
  { name: 'machine-stopped', path: machine(2), at: [3] },
  { name: 'machine-crashed', path: machine(6), at: [40] },
  {
    name: 'machine-late',
    path: machine(0),
    at: [3],
    fresh: true,
    before: missStop,
  },
  { name: 'machine-settings', path: machine(3, 'settings'), at: [40] },
  {
    name: 'machine-edited',
    path: machine(0, 'settings'),
    at: [3],
    prepare: async (page) => {
      await page.locator('.number').first().fill('8');
      await page.locator('.save-bar').waitFor();
      await page.locator('.page-body').evaluate((body) => body.scrollTo(0, 600));
    },
  },
  {
    name: 'machine-devices',
    path: machine(2, 'settings'),
    at: [3],
    prepare: async (page) => {
      await page.locator('.page-body details.section').evaluateAll((all) => {
        all.forEach((section, at) => (section.open = at > 4));
      });
      await page
        .getByRole('button')
        .filter({ has: page.locator('svg') })
        .last()
        .waitFor();
    },
  },
  {
    name: 'machine-disk',
    path: machine(2, 'settings'),
    at: [3],
    prepare: async (page) => {
      await page.locator('.item-head .btn-icon').first().click();
      await page.locator('.page-body').evaluate((body) => body.scrollTo(0, 500));
    },
  },
  {
    name: 'machine-clone',
    path: machine(2),
    at: [3],
    prepare: async (page) => {
      await page.locator('.page-head .menu-anchor button').last().click();
      await page
        .getByRole('menuitem')
        .filter({ hasText: /Clone|克隆/ })
        .click();
      await page.getByRole('dialog').waitFor();
    },
  },
  { name: 'machine-difference', path: machine(3, 'command'), at: [40] },
  { name: 'machine-log', path: machine(0, 'log'), at: [3] },
  { name: 'machine-serial', path: machine(0, 'log?log=serial'), at: [3] },
  { name: 'machine-command', path: machine(0, 'command'), at: [3] },
  { name: 'machine-gone', path: '/machines/00000000-0000-4000-8000-000000000000', at: [3] },
  { name: 'activity', path: '/activity', at: [0, 40] },
  { name: 'settings', path: '/settings', at: [3] },
  {
    name: 'settings-end',
    path: '/settings',
    at: [3],
    prepare: (page) => page.locator('.page-body').evaluate((body) => body.scrollTo(0, 10_000)),
  },
  { name: 'doctor', path: '/doctor', at: [3] },
];
