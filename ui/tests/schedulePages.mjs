/** The pages of schedules and backups, for `look.mjs`. */
import { FOLDERS, PASSWORD } from './fixture/backups.mjs';

/** The page of schedules, with the one of that name looked at where one is asked for. */
function schedules(name) {
  return ({ state }) => {
    const found = name && state.schedules.list.find((one) => one.name === name);
    return `/schedules${found ? `?schedule=${found.id}` : ''}`;
  };
}

/** The folders this device knows; the page is loaded anew with them. */
async function know(page, ...known) {
  await page.evaluate((list) => localStorage.setItem('voidvm.backups.folders', JSON.stringify(list)), known);
  await page.reload();
  await page.locator('h1').waitFor();
  await page.waitForLoadState('networkidle');
}
const allFolders = (page) => know(page, ...Object.values(FOLDERS));

/** Opens the `index`th thing that can be done with the backup that is looked at. */
function backupOffer(index) {
  return async (page) => {
    await allFolders(page);
    await page.locator('[data-row]').first().click();
    await page.locator('.offer').nth(index).click();
    await page.locator('dialog[open]').waitFor();
  };
}

async function newSchedule(page) {
  await page.locator('.page-tools .add').click();
  await page.locator('dialog[open]').waitFor();
}

const folder = (name) => `/backups?folder=${encodeURIComponent(FOLDERS[name])}`;

export const schedulePages = [
  { name: 'schedules', path: '/schedules', at: [0, 3, 40] },
  { name: 'schedules-failed', path: '/schedules', at: [3], fail: { 'schedule.list': 'database_failed' } },
  { name: 'schedule', path: schedules('Every night'), at: [3] },
  {
    name: 'schedule-below',
    path: schedules('Every night'),
    at: [3],
    prepare: (page) => page.locator('.history').scrollIntoViewIfNeeded(),
  },
  { name: 'schedule-trouble', path: schedules('Web servers, every hour'), at: [3] },
  { name: 'schedule-new', path: '/schedules', at: [3], prepare: newSchedule },
  {
    name: 'schedule-edit',
    path: schedules('Every night'),
    at: [3],
    prepare: async (page) => {
      await page.locator('.offer').nth(1).click();
      await page.locator('dialog[open] .planned li').first().waitFor();
    },
  },
  {
    name: 'schedule-edit-below',
    path: schedules('Every night'),
    at: [3],
    prepare: async (page) => {
      await page.locator('.offer').nth(1).click();
      await page.locator('dialog[open] .planned li').first().waitFor();
      await page.locator('dialog[open] .retention-fields').scrollIntoViewIfNeeded();
    },
  },
  {
    name: 'schedule-cron',
    path: '/schedules',
    at: [3],
    fail: {}, // the engine refuses the expression, and the browser tells of it
    prepare: async (page) => {
      await newSchedule(page);
      await page.locator('dialog[open] select').first().selectOption({ index: 1 });
      await page.locator('dialog[open] .when-fields .segmented label').last().click();
      await page.locator('dialog[open] .when-fields input.font-monospace').fill('0 2 * *');
      await page.locator('dialog[open] .invalid-feedback').waitFor();
    },
  },
  {
    name: 'schedule-delete',
    path: schedules('Every night'),
    at: [3],
    prepare: async (page) => {
      await page.locator('.offer').nth(2).click();
      await page.locator('dialog[open]').waitFor();
    },
  },
  {
    name: 'machine-schedules',
    path: ({ state }) => `/machines/${[...state.machines.keys()][0]}/schedules`,
    at: [3],
  },
  {
    name: 'machine-schedules-none',
    path: ({ state }) => `/machines/${[...state.machines.keys()][2]}/schedules`,
    at: [3],
  },
  { name: 'backups-none', path: '/backups', at: [3] },
  { name: 'backups', path: '/backups', at: [3], prepare: allFolders },
  { name: 'backups-empty', path: folder('empty'), at: [3], prepare: allFolders },
  {
    name: 'backup',
    path: '/backups',
    at: [3],
    prepare: async (page) => {
      await allFolders(page);
      await page.locator('[data-row]').first().click();
      await page.locator('.side-detail').waitFor();
    },
  },
  {
    name: 'backups-picked',
    path: '/backups',
    at: [3],
    prepare: async (page) => {
      await allFolders(page);
      for (const at of [0, 2]) await page.locator('[data-row] input[type=checkbox]').nth(at).click();
      await page.locator('.toolbar .btn').click();
      await page.locator('dialog[open]').waitFor();
    },
  },
  { name: 'backups-locked', path: folder('locked'), at: [3], fail: {}, prepare: allFolders },
  {
    name: 'backups-wrong',
    path: folder('locked'),
    at: [3],
    fail: {},
    prepare: async (page) => {
      await allFolders(page);
      await page.locator('.unlock input').fill(`not ${PASSWORD}`);
      await page.locator('.unlock button').click();
      await page.locator('.unlock .invalid-feedback').waitFor();
    },
  },
  {
    name: 'backups-working',
    path: '/backups',
    at: [3],
    fresh: true,
    prepare: async (page) => {
      await allFolders(page);
      await page.locator('.section-head .btn').last().click();
      await page.locator('dialog[open] select').first().selectOption({ index: 1 });
      await page.locator('dialog[open] [type=submit]').click();
      await page.locator('.work [role=meter]').waitFor();
    },
  },
  {
    name: 'backup-folder',
    path: '/backups',
    at: [3],
    prepare: async (page) => {
      await page.locator('.page-tools .add').click();
      await page.locator('dialog[open]').waitFor();
    },
  },
  {
    name: 'backup-password',
    path: '/backups',
    at: [3],
    fresh: true,
    prepare: async (page) => {
      await page.locator('.page-tools .add').click();
      await page.locator('dialog[open] .path-field input').fill('/media/ada/new');
      await page.locator('dialog[open] [type=submit]').click();
      await page.locator('.secret').waitFor();
    },
  },
  {
    name: 'backup-run',
    path: '/backups',
    at: [3],
    prepare: async (page) => {
      await allFolders(page);
      await page.locator('.section-head .btn').last().click();
      await page.locator('dialog[open]').waitFor();
    },
  },
  {
    name: 'backup-verify',
    path: '/backups',
    at: [3],
    prepare: async (page) => {
      await allFolders(page);
      await page.locator('.section-head .btn').first().click();
      await page.locator('dialog[open]').waitFor();
    },
  },
  { name: 'backup-restore', path: '/backups', at: [3], prepare: backupOffer(0) },
  { name: 'backup-forget', path: '/backups', at: [3], prepare: backupOffer(1) },
];
