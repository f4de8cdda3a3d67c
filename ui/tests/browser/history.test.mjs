/**
 * Graphs of what was measured, in a real browser, on made-up values: `npm run build && npm run test:browser`. Choosing a time, zooming
 * with mouse, keys, finger and buttons, marks, gaps, and the table that is saved.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, afterEach, before, test } from 'node:test';
import { chromium } from 'playwright-core';
import { commands } from '../fixture/commands.mjs';
import { error, makeOperation } from '../fixture/machines.mjs';
import { startFixture } from '../fixture/server.mjs';

let browser;
const own = { ...commands };
const HOUR = 3600;

before(async () => {
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox'],
  });
});
after(() => browser.close());
afterEach(() => Object.assign(commands, own));

async function open(
  context,
  path,
  { viewport = { width: 1280, height: 800 }, machines = 3, touch = false, prepare } = {},
) {
  const fixture = await startFixture({ machines });
  prepare?.(fixture.state);
  const page = await browser.newPage({
    viewport,
    locale: 'en',
    timezoneId: 'Europe/Berlin',
    reducedMotion: 'reduce',
    hasTouch: touch,
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

const machine =
  (index, time = '') =>
  (state) =>
    `/machines/${[...state.machines.keys()][index]}${time && `?time=${time}`}`;
const graph = (page, name) => page.getByRole('slider', { name, exact: true });
const span = ({ from, to }) => (Date.parse(to) - Date.parse(from)) / 1000;
const words = (page) => page.locator('.zoom-bar .words').innerText();
/** The text of a graph's moment, once it is there. */
const spoken = (one) => one.getAttribute('aria-valuetext');

/** Drags over the middle of a graph, from one share of its width to another. */
async function drag(page, one, from, to) {
  await one.scrollIntoViewIfNeeded();
  const { x, y, width, height } = await one.locator('.u-over').boundingBox();
  await page.mouse.move(x + width * from, y + height / 2);
  await page.mouse.down();
  await page.mouse.move(x + width * ((from + to) / 2), y + height / 2);
  await page.mouse.move(x + width * to, y + height / 2);
  await page.mouse.up();
}

/** Waits until a reading is what is wanted. */
async function until(read, wanted) {
  for (let turn = 0; ; turn += 1) {
    const value = await read();
    if (wanted(value)) return value;
    if (turn > 150) assert.fail(`still ${JSON.stringify(value)}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

test('a time is chosen, stands in the address, and shows more graphs than now does', async (context) => {
  const asked = listen('metrics.history');
  const { page } = await open(context, machine(0));
  await graph(page, 'CPU').waitFor();
  assert.equal(await page.getByRole('slider').count(), 4);
  await page.getByText('24 h', { exact: true }).click();
  for (const name of ['CPU', 'Memory', 'Disk', 'Network', 'Operations', 'Latency', 'Disk space'])
    await graph(page, name).waitFor();
  assert.match(page.url(), /time=day/);
  assert.ok(Math.abs(span(asked[0]) - 24 * HOUR) < 5);
  await page.getByText('1 y', { exact: true }).click();
  await until(
    () => asked.length,
    (count) => count === 2,
  );
  assert.ok(Math.abs(span(asked[1]) - 365 * 24 * HOUR) < 5);
  await page.reload();
  await graph(page, 'Latency').waitFor();
});

test('dragging zooms all graphs together, finer, and a double click or Escape goes back', async (context) => {
  const asked = listen('metrics.history');
  const { page } = await open(context, machine(0, 'day'));
  await graph(page, 'Disk').waitFor();
  assert.equal(await words(page), 'The last 24 hours');
  await drag(page, graph(page, 'Disk'), 0.25, 0.5);
  await until(
    () => asked.length,
    (count) => count === 2,
  );
  // A quarter of a day, and a little at its edges.
  assert.ok(Math.abs(span(asked[1]) - 6.24 * HOUR) < 0.3 * HOUR, String(span(asked[1])));
  assert.match(await words(page), / – /);
  await graph(page, 'Memory').locator('.u-over').dblclick();
  await until(
    () => words(page),
    (text) => text === 'The last 24 hours',
  );
  await drag(page, graph(page, 'CPU'), 0.5, 0.6);
  await until(
    () => words(page),
    (text) => text.includes(' – '),
  );
  await graph(page, 'CPU').focus();
  await page.keyboard.press('Escape');
  await until(
    () => words(page),
    (text) => text === 'The last 24 hours',
  );
  // A slip of the hand is no zoom.
  await drag(page, graph(page, 'CPU'), 0.5, 0.505);
  assert.equal(await words(page), 'The last 24 hours');
});

test('everything is reached with the keyboard, with one cursor for all graphs', async (context) => {
  const { page } = await open(context, machine(0, 'hour'));
  const cpu = graph(page, 'CPU');
  await cpu.waitFor();
  await cpu.focus();
  await page.keyboard.press('Home');
  const first = await until(
    () => spoken(cpu),
    (text) => /^\d\d:\d\d:\d\d, used/.test(text),
  );
  const moment = first.slice(0, 8);
  await until(
    () => spoken(graph(page, 'Latency')),
    (text) => text.startsWith(moment),
  );
  await page.keyboard.press('ArrowRight');
  await until(
    () => spoken(cpu),
    (text) => !text.startsWith(moment),
  );
  await page.keyboard.press('+');
  const part = await until(
    () => words(page),
    (text) => text.includes(' – '),
  );
  await page.keyboard.press('Shift+ArrowRight');
  await until(
    () => words(page),
    (text) => text.includes(' – ') && text !== part,
  );
  await page.keyboard.press('-');
  await until(
    () => words(page),
    (text) => text === 'The last hour',
  );
  await page.getByRole('button', { name: 'Zoom in' }).click();
  await page.getByRole('button', { name: 'Earlier' }).click();
  await page.getByRole('button', { name: 'Whole time' }).click();
  await until(
    () => words(page),
    (text) => text === 'The last hour',
  );
});

test('what happened stands on the graphs, failures too', async (context) => {
  const { page } = await open(context, machine(0, 'hour'), {
    prepare: (state) => {
      const [vm] = state.machines.values();
      const at = Date.now() - 1800_000;
      state.operations = [makeOperation(vm, 'snapshot_create', 'failed', at)];
    },
  });
  const cpu = graph(page, 'CPU');
  await cpu.waitFor();
  await until(
    async () => {
      const { x, y, width } = await cpu.locator('.u-over').boundingBox();
      await page.mouse.move(x + width / 2 - 1, y + 10);
      await page.mouse.move(x + width / 2, y + 10);
      return spoken(cpu);
    },
    (text) => text.includes('Take snapshot') && text.includes('Failed'),
  );
  await page.locator('.note .mark.trouble').waitFor();
});

test('what is shown is saved as a table, gaps empty', async (context) => {
  const { page } = await open(context, machine(0, 'day'));
  await graph(page, 'CPU').waitFor();
  const [download] = await Promise.all([
    page.waitForEvent('download'),
    page.getByRole('button', { name: 'Save as CSV' }).click(),
  ]);
  assert.match(download.suggestedFilename(), /^web-01-\d{8}T\d{6}Z\.csv$/);
  const lines = readFileSync(await download.path(), 'utf8').split('\r\n');
  assert.equal(lines.pop(), '');
  const head = lines.shift();
  assert.ok(
    head.startsWith('Time (UTC),"CPU, used, mean (%)","CPU, used, highest (%)","Memory, guest, mean (B)"'),
    head,
  );
  assert.ok(head.includes('"Latency, read, mean (ms)"'), head);
  assert.ok(lines.length > 1400 && lines.length <= 1441, String(lines.length));
  for (const line of lines) assert.match(line, /^\d{4}-\d\d-\d\dT\d\d:\d\d:00Z(,[\d.e-]*){24}$/);
  assert.ok(lines.some((line) => /^[^,]+,{24}$/.test(line)));
  // The minutes of now are saved as well, and only what a zoom shows.
  await drag(page, graph(page, 'CPU'), 0.9, 1);
  await until(
    () => words(page),
    (text) => text.includes(' – '),
  );
  const [part] = await Promise.all([
    page.waitForEvent('download'),
    page.getByRole('button', { name: 'Save as CSV' }).click(),
  ]);
  const rows = readFileSync(await part.path(), 'utf8').split('\r\n').length - 2;
  assert.ok(rows > 100 && rows < 700, String(rows));
});

test('what cannot be had is told, and asked for again', async (context) => {
  commands['metrics.history'] = () => {
    throw error('database_failed', 'The data cannot be read.', 'Check the data folder.');
  };
  const { page } = await open(context, machine(0, 'week'));
  await page.getByText('Check the data folder.', { exact: false }).waitFor();
  commands['metrics.history'] = own['metrics.history'];
  await page.getByRole('button', { name: 'Try again' }).click();
  await graph(page, 'CPU').waitFor();
  await page.getByText('Check the data folder.', { exact: false }).waitFor({ state: 'detached' });
});

test('a machine that does not run has its past, and what was never measured says so', async (context) => {
  commands['metrics.history'] = (request, state) => {
    const answer = own['metrics.history'](request, state);
    return { ...answer, series: answer.series.filter(({ metric }) => metric === 'cpu') };
  };
  const { page } = await open(context, machine(2));
  await page.getByText('The machine is not running.', { exact: false }).waitFor();
  await page.getByText('7 d', { exact: true }).click();
  await graph(page, 'CPU').waitFor();
  await page.getByText('Nothing was measured in this time.').first().waitFor();
  await page.getByText('Known only when qemu-guest-agent runs in the guest.').waitFor();
  assert.equal(await page.getByRole('slider').count(), 1);
  // It does not run any more: there is no value of now.
  await until(
    () => spoken(graph(page, 'CPU')),
    (text) => text === 'used –',
  );
});

test('on a phone a finger zooms, and nothing is wider than the screen', async (context) => {
  const { page } = await open(context, machine(0, 'day'), {
    viewport: { width: 390, height: 844 },
    touch: true,
  });
  const cpu = graph(page, 'CPU');
  await cpu.waitFor();
  assert.ok((await page.evaluate(() => document.documentElement.scrollWidth)) <= 390);
  const { x, y, width, height } = await cpu.locator('.u-over').boundingBox();
  const touch = await page.context().newCDPSession(page);
  const point = (share) => [{ x: x + width * share, y: y + height / 2 }];
  await touch.send('Input.dispatchTouchEvent', { type: 'touchStart', touchPoints: point(0.2) });
  for (const share of [0.3, 0.4, 0.5, 0.6])
    await touch.send('Input.dispatchTouchEvent', { type: 'touchMove', touchPoints: point(share) });
  await touch.send('Input.dispatchTouchEvent', { type: 'touchEnd', touchPoints: [] });
  await until(
    () => words(page),
    (text) => text.includes(' – '),
  );
  await page.getByLabel('Time shown').selectOption('1 y');
  await until(
    () => words(page),
    (text) => text === 'The last year',
  );
});

test('several machines stand in one graph: those that run, until others are chosen', async (context) => {
  const asked = listen('metrics.history');
  const { page, state } = await open(context, '/monitor', { machines: 12 });
  const legend = page.getByRole('list', { name: 'Machines and their values' });
  await legend.getByRole('link', { name: 'web-01' }).waitFor();
  assert.equal(await legend.getByRole('listitem').count(), 7);
  await until(
    () => legend.innerText(),
    (text) => (text.match(/\d%/g) ?? []).length === 7,
  );
  const together = () => asked.filter(({ subjects }) => subjects[0].kind === 'vm').at(-1);
  assert.deepEqual(together().metrics, ['cpu']);
  await page.getByLabel('Value', { exact: true }).selectOption('Written to disks');
  await graph(page, 'Written to disks').waitFor();
  await until(
    () => together().metrics,
    (metrics) => metrics[0] === 'disk_write',
  );
  await page.getByRole('button', { name: '7 running machines' }).click();
  await page.getByRole('button', { name: 'None', exact: true }).click();
  await page.getByText('Choose the machines to show.').waitFor();
  await page.getByLabel('Find a machine').fill('win');
  await page.getByLabel('win11-lab').check();
  await page.getByRole('button', { name: '1 machine', exact: true }).waitFor();
  // It was shut down: it has a past, and no value of now.
  await legend.getByText('–').waitFor();
  const win = [...state.machines.values()].find(({ name }) => name === 'win11-lab');
  assert.deepEqual(together().subjects, [{ kind: 'vm', id: win.id }]);
  await page.getByRole('button', { name: 'Those that run' }).click();
  await page.getByRole('button', { name: '7 running machines' }).waitFor();
});

test('the host and its pools are zoomed with the machines, and saved', async (context) => {
  const { page } = await open(context, '/monitor?time=hour', { machines: 3 });
  const host = page.getByRole('region', { name: 'This computer' });
  for (const name of ['CPU', 'Load', 'Memory', 'Pressure', 'Disk', 'Network'])
    await graph(host, name).waitFor();
  assert.ok((await host.getByRole('slider', { name: /^Free in / }).count()) >= 1);
  await drag(page, graph(host, 'Load'), 0.4, 0.8);
  await until(
    () => words(page),
    (text) => text.includes(' – '),
  );
  await graph(host, 'Load').hover();
  const moment = (
    await until(
      () => spoken(graph(host, 'Load')),
      (text) => /^\d\d:\d\d/.test(text),
    )
  ).slice(0, 5);
  await until(
    () => spoken(page.getByRole('region', { name: 'Machines' }).getByRole('slider')),
    (text) => text.startsWith(moment),
  );
  const [download] = await Promise.all([
    page.waitForEvent('download'),
    host.getByRole('button', { name: 'Save this computer’s values as CSV' }).click(),
  ]);
  const [head] = readFileSync(await download.path(), 'utf8').split('\r\n');
  assert.ok(head.includes('"Load, over a minute, mean"') && head.includes('free, mean (B)"'), head);
});

test('without machines the host is there all the same', async (context) => {
  const { page } = await open(context, '/monitor', { machines: 0 });
  await page.getByText('There is no machine yet.').waitFor();
  await graph(page.getByRole('region', { name: 'This computer' }), 'CPU').waitFor();
});

test('the settings tell what the history takes', async (context) => {
  const { page } = await open(context, '/settings');
  await page.getByText('41.3 MB of 512 MB at most').waitFor();
});
