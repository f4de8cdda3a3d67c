/** The pages with graphs of what was measured, for `look.mjs`. */
const machine = (time) => (fixture) => `/machines/${[...fixture.state.machines.keys()][0]}?time=${time}`;

/** Points at the first graph. */
async function point(page) {
  await page.locator('.plot .u-over').first().hover();
  await page.locator('.note').waitFor();
}
/** Shows a part of the time. */
async function zoom(page) {
  await page.locator('.plot').first().focus();
  for (const key of ['Home', 'End', 'ArrowLeft', '+', '+']) await page.keyboard.press(key);
}

export const historyPages = [
  { name: 'machine-day', path: machine('day'), at: [3], prepare: point },
  { name: 'machine-year', path: machine('year'), at: [3] },
  { name: 'machine-zoomed', path: machine('week'), at: [3], prepare: zoom },
  {
    name: 'machine-history-failed',
    path: machine('day'),
    at: [3],
    fail: { 'metrics.history': 'database_failed' },
  },
  { name: 'monitor', path: '/monitor', at: [0, 3, 40] },
  { name: 'monitor-day', path: '/monitor?time=day', at: [3], prepare: point },
  {
    name: 'monitor-choice',
    path: '/monitor?time=week',
    at: [40],
    prepare: async (page) => {
      await page.locator('[aria-expanded]').filter({ hasText: /\d/ }).first().click();
      await page.locator('.machine-choice').waitFor();
    },
  },
  {
    name: 'monitor-host',
    path: '/monitor?time=month',
    at: [3],
    prepare: (page) => page.locator('.panel').last().locator('.cell').last().scrollIntoViewIfNeeded(),
  },
  {
    name: 'settings-history',
    path: '/settings',
    at: [3],
    prepare: (page) => page.locator('.history').scrollIntoViewIfNeeded(),
  },
];
