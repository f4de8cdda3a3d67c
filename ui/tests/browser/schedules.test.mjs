/**
 * Schedules in a real browser, on made-up ones: `npm run build && npm run test:browser`. Making, changing, trying out, running and
 * deleting; what would happen shown while one chooses; failures with the way to mend them; the keyboard alone.
 */
import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { chromium } from 'playwright-core';
import { commands } from '../fixture/commands.mjs';
import { error } from '../fixture/machines.mjs';
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

async function open(context, path, { viewport = { width: 1280, height: 800 }, machines = 3 } = {}) {
  const fixture = await startFixture({ machines });
  const page = await browser.newPage({ viewport, locale: 'en', reducedMotion: 'reduce' });
  page.setDefaultTimeout(15_000);
  const thrown = [];
  page.on('pageerror', (cause) => thrown.push(cause.message));
  context.after(async () => {
    await page.close();
    await fixture.close();
    assert.deepEqual(thrown, []);
  });
  await page.goto(fixture.url + (typeof path === 'function' ? path(fixture.state) : path));
  return { page, fixture, state: fixture.state };
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

const row = (page, name) => page.getByRole('row', { name });
const detail = (page) => page.getByRole('complementary');
const looked = (name) => (state) =>
  `/schedules?schedule=${state.schedules.list.find((one) => one.name === name).id}`;
const vmPath = (index, tab) => (state) => `/machines/${[...state.machines.keys()][index]}/${tab}`;

test('a first schedule is made, with its next runs in sight while one chooses', async (context) => {
  const asked = listen('schedule.create');
  const { page, state } = await open(context, vmPath(2, 'schedules'));
  await page.getByText('No schedule for win11-lab').waitFor();
  await page.getByRole('button', { name: 'New schedule' }).click();
  const dialog = page.getByRole('dialog', { name: 'New schedule' });
  await dialog.getByLabel('Name', { exact: true }).fill('Every Sunday');
  await dialog.locator('.planned li').nth(9).waitFor();
  assert.equal(await dialog.locator('.planned li').count(), 10);
  await dialog.getByText('Weekly', { exact: true }).first().click();
  await dialog.getByLabel('Day').selectOption('sunday');
  await dialog.getByLabel('Time', { exact: true }).fill('03:30');
  await dialog.getByText('30 3 * * SUN').waitFor();
  await dialog.getByLabel('Weekly', { exact: true }).last().fill('2');
  await dialog.getByRole('button', { name: 'Make schedule' }).click();
  await dialog.waitFor({ state: 'detached' });
  await detail(page).getByText('Every Sunday at 03:30').waitFor();
  const id = [...state.machines.keys()][2];
  assert.deepEqual(asked[0].target, { kind: 'vm', id });
  assert.deepEqual(asked[0].when, { kind: 'weekly', day: 'sunday', at: '03:30' });
  assert.deepEqual(asked[0].retention, { keepLast: 3, daily: 7, weekly: 2 });
});

test('what the engine does not understand stands at its field before anything is sent', async (context) => {
  const asked = listen('schedule.create');
  const { page } = await open(context, '/schedules');
  await page.getByRole('button', { name: 'New schedule' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByText('Choose a machine.').first().waitFor();
  await dialog.getByLabel('Machine', { exact: true }).last().selectOption({ label: 'db-01' });
  await dialog.getByText('Cron', { exact: true }).click();
  await dialog.getByLabel('Cron expression').fill('0 2 * *');
  await dialog.getByRole('alert').getByText('A cron expression has five fields.').waitFor();
  await dialog.getByLabel('Cron expression').fill('30 2 * * MON-FRI');
  await dialog.getByRole('alert').waitFor({ state: 'detached' });
  await dialog.getByLabel('Time zone').fill('Mars/Olympus');
  await dialog.getByRole('alert').getByText('There is no time zone').waitFor();
  await dialog.getByLabel('Time zone').fill('Asia/Shanghai');
  await dialog.getByRole('alert').waitFor({ state: 'detached' });
  await dialog.getByLabel('Names').fill('{what}');
  await dialog.getByRole('alert').getByText('in braces', { exact: false }).waitFor();
  await dialog.getByLabel('Names').fill('auto_{date}_{time}');
  await dialog.getByLabel('Name', { exact: true }).fill('Every night');
  await dialog.getByRole('button', { name: 'Make schedule' }).click();
  await dialog.getByText('Another schedule has this name.').waitFor();
  assert.equal(asked.length, 0);
  await dialog.getByLabel('Name', { exact: true }).fill('Weekdays');
  await dialog.getByRole('button', { name: 'Make schedule' }).click();
  await dialog.waitFor({ state: 'detached' });
  assert.equal(asked[0].timeZone, 'Asia/Shanghai');
  assert.equal(asked[0].nameTemplate, 'auto_{date}_{time}');
});

test('a group or a tag is one somebody may have tomorrow', async (context) => {
  const asked = listen('schedule.create');
  const { page } = await open(context, '/schedules');
  await page.getByRole('button', { name: 'New schedule' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByLabel('Name', { exact: true }).fill('Tagged');
  await dialog.getByText('Tag', { exact: true }).first().click();
  await dialog.getByRole('combobox', { name: 'Tag' }).fill('web');
  await dialog.getByText('1 machine now, looked up at each run.').waitFor();
  await dialog.getByRole('combobox', { name: 'Tag' }).fill('tomorrow');
  await dialog.getByText('No machine now; looked up at each run.').waitFor();
  await dialog.getByText('There is no such machine now.').waitFor();
  await dialog.getByRole('button', { name: 'Make schedule' }).click();
  await dialog.waitFor({ state: 'detached' });
  assert.deepEqual(asked[0].target, { kind: 'tag', name: 'tomorrow' });
});

test('a change shows at once what would be kept and what would go', async (context) => {
  const asked = listen('schedule.update');
  const { page } = await open(context, looked('Every night'));
  await detail(page).getByText('8 stay, 6 go').waitFor();
  await detail(page)
    .getByRole('button', { name: /^Change…/ })
    .click();
  const dialog = page.getByRole('dialog', { name: 'Change Every night' });
  await dialog.getByText('8 stay, 6 go').waitFor();
  await dialog.getByLabel('Daily', { exact: true }).last().fill('2');
  await dialog.getByText('4 stay, 10 go').waitFor();
  await dialog.getByText('goes: no rule keeps it').first().waitFor();
  await dialog.getByLabel('Most under the present').fill('1');
  await dialog.getByText('goes: the present stands on too many').first().waitFor();
  await dialog.getByLabel('Most under the present').fill('0');
  await dialog.getByLabel('Most under the present').blur();
  await dialog.getByText('Choose 1 to 10000.').waitFor();
  await dialog.getByLabel('Most under the present').fill('');
  await dialog.getByLabel('Time zone').fill('');
  await dialog.getByRole('button', { name: 'Save' }).click();
  await dialog.waitFor({ state: 'detached' });
  await detail(page).getByText('the last 3, 2 daily, 4 weekly').waitFor();
  // An empty time zone is the computer's, and has to be said.
  assert.equal(asked[0].timeZone, '');
  await detail(page).getByText('The computer’s').waitFor();
});

test('a schedule is run now, switched off and on, and deleted', async (context) => {
  const { page, state } = await open(context, looked('Office hours'));
  await detail(page).getByText('It has not run yet.').waitFor();
  await detail(page)
    .getByRole('button', { name: /^Run now/ })
    .click();
  await row(page, /^Office hours/)
    .getByText('At work')
    .waitFor();
  await detail(page).getByText('by hand').waitFor();
  await row(page, /^Office hours/)
    .getByText('Done')
    .waitFor();
  const toggle = page.getByRole('switch', { name: 'Office hours runs by itself' });
  await toggle.click();
  await row(page, /^Office hours, .*, Off/).waitFor();
  await detail(page).getByText('It is off. If it were on:').waitFor();
  await toggle.focus();
  await page.keyboard.press('Space');
  await row(page, /^Office hours, .*, On/).waitFor();
  await detail(page)
    .getByRole('button', { name: /^Delete…/ })
    .click();
  await page.getByRole('dialog').getByText('The ones it took stay', { exact: false }).waitFor();
  await page.getByRole('button', { name: 'Delete schedule' }).click();
  await row(page, /^Office hours/).waitFor({ state: 'detached' });
  assert.ok(!state.schedules.list.some(({ name }) => name === 'Office hours'));
});

test('a switch that is refused goes back, and says why', async (context) => {
  commands['schedule.update'] = () => {
    throw error('database_failed', 'The data cannot be written.', 'Check the data folder.');
  };
  const { page } = await open(context, '/schedules');
  const toggle = page.getByRole('switch', { name: 'Every night runs by itself' });
  await toggle.click();
  await page.getByText('Check the data folder.', { exact: false }).first().waitFor();
  assert.equal(await toggle.isChecked(), true);
});

test('failures stand above the list with the way to mend them', async (context) => {
  const { page } = await open(context, '/schedules');
  const troubles = page.getByRole('list', { name: 'Schedules to look at' });
  await troubles.getByText('The last run of “Web servers, every hour” failed').waitFor();
  await troubles.getByText('Free some space, or keep fewer snapshots.').waitFor();
  await troubles.getByRole('button', { name: 'Try again' }).click();
  await troubles.getByText('The last run of', { exact: false }).waitFor({ state: 'detached' });
  await troubles.getByRole('button', { name: 'Change…' }).click();
  const dialog = page.getByRole('dialog', { name: 'Change Retired' });
  await dialog.getByLabel('Machine', { exact: true }).last().selectOption({ label: 'win11-lab' });
  await dialog.getByRole('button', { name: 'Save' }).click();
  await troubles.waitFor({ state: 'detached' });
});

test('what it did is told: made up for, left out, cut, tried again, removed', async (context) => {
  const { page } = await open(context, looked('Every night'));
  const history = detail(page).locator('.history');
  for (const words of [
    'made up for · 2 runs before it were missed',
    'removed: auto_2026-11-14, auto_2026-11-15',
    'Left out: nothing had changed',
    'Left out: the run before was still at work',
    'Interrupted',
    'tried 2 times',
  ])
    await history.getByText(words).first().waitFor();
  assert.equal(await history.locator('> li').count(), 10);
  await detail(page).getByRole('button', { name: 'Show older' }).click();
  await history.locator('> li').nth(17).waitFor();
  assert.equal(await detail(page).getByRole('button', { name: 'Show older' }).count(), 0);
});

test('the list is walked with the keyboard, found in by words, and filtered', async (context) => {
  const { page } = await open(context, '/schedules');
  await row(page, /^Every night/).waitFor();
  await page.keyboard.press('/');
  await page.keyboard.type('lab');
  await row(page, /^Every night/).waitFor({ state: 'detached' });
  await page.keyboard.press('ArrowDown');
  await row(page, /^Month’s end/)
    .and(page.locator(':focus'))
    .waitFor();
  await page.keyboard.press('Enter');
  await page.getByRole('complementary', { name: /^Month’s end/ }).waitFor();
  await page.keyboard.press('Escape');
  await page.getByLabel('Find a schedule').fill('');
  await page.getByRole('button', { name: /^Failed/ }).click();
  await row(page, /^Retired/).waitFor();
  assert.equal(await page.getByRole('row').count(), 2);
});

test('a machine’s schedules are those of its own, its group and its tags', async (context) => {
  const { page } = await open(context, vmPath(0, 'schedules'));
  await row(page, /^Every night/).waitFor();
  await row(page, /^Web servers, every hour/).waitFor();
  assert.equal(await page.getByRole('row').count(), 2);
});

test('the timeline has backups and runs that failed, and leads to both', async (context) => {
  const { page } = await open(context, vmPath(0, 'timeline'));
  const line = page.getByRole('slider', { name: 'The past of web-01' });
  await page.locator('.mark.missing').nth(2).waitFor({ state: 'attached' });
  await line.focus();
  await page.keyboard.press('End');
  const told = new Set();
  for (let at = 0; at < 30; at += 1) {
    told.add((await line.getAttribute('aria-valuetext')).split(',')[0]);
    await page.keyboard.press('ArrowLeft');
  }
  for (const what of ['Backed up', 'No snapshot by Web servers', 'Run of Every night left out'])
    assert.ok(told.has(what), [...told].join('\n'));
  await page.keyboard.press('End');
  for (let at = 0; at < 10; at += 1) {
    if ((await line.getAttribute('aria-valuetext')).startsWith('No snapshot')) break;
    await page.keyboard.press('ArrowLeft');
  }
  await page.getByText('The disk is full', { exact: false }).waitFor();
  await page.getByRole('link', { name: 'Show the schedule' }).click();
  await page.getByRole('complementary', { name: 'Web servers, every hour' }).waitFor();
});

test('on a phone nothing is wider than the screen', async (context) => {
  const { page } = await open(context, looked('Every night'), { viewport: { width: 390, height: 844 } });
  await detail(page).getByText('8 stay, 6 go').waitFor();
  const wide = () => page.evaluate(() => document.documentElement.scrollWidth);
  assert.ok((await wide()) <= 390);
  await page.getByRole('button', { name: 'Back' }).click();
  await row(page, /^Every night/).waitFor();
  await page.getByRole('button', { name: 'New schedule' }).click();
  await page.getByRole('dialog').getByText('Choose a machine.').first().waitFor();
  assert.ok((await wide()) <= 390);
});
