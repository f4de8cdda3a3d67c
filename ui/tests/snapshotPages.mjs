/** A machine's Timeline and the dialogs of its snapshots, for `look.mjs`. */

/** The Timeline of the `index`th machine, with the snapshot that `has` finds looked at where one is asked for. */
function timeline(index, has) {
  return ({ state }) => {
    const id = [...state.machines.keys()][index];
    const snapshot = has && state.snapshots.get(id).snapshots.find(has);
    return `/machines/${id}/timeline${snapshot ? `?snapshot=${snapshot.id}` : ''}`;
  };
}

const memory = (one) => one.name === 'web server configured';

/** Opens the `index`th thing that can be done with the snapshot that is looked at. */
function offer(index) {
  return async (page) => {
    await page.locator('.offer').nth(index).click();
    await page.locator('dialog[open]').waitFor();
  };
}

export const snapshotPages = [
  { name: 'timeline', path: timeline(0), at: [3, 40] },
  { name: 'timeline-one', path: timeline(1), at: [3] },
  { name: 'timeline-empty', path: timeline(2), at: [3] },
  { name: 'timeline-error', path: timeline(0), at: [3], fail: { 'snapshot.list': 'database_failed' } },
  { name: 'snapshot', path: timeline(0, memory), at: [3, 40] },
  { name: 'snapshot-trouble', path: timeline(0, (one) => one.trouble), at: [3] },
  {
    name: 'snapshot-edited',
    path: timeline(0, memory),
    at: [3],
    prepare: async (page) => {
      await page.locator('.snapshot-name .btn-icon').click();
      await page.keyboard.type('installed');
      await page.locator('.snapshot-name .invalid-feedback').waitFor();
    },
  },
  {
    name: 'snapshot-take',
    path: timeline(0),
    at: [3],
    prepare: async (page) => {
      await page.locator('.panel-head').first().locator('.btn').last().click();
      await page.locator('dialog[open] [role=switch]').click();
      await page.locator('dialog[open] [role=switch]').nth(1).waitFor();
    },
  },
  { name: 'snapshot-restore', path: timeline(0, memory), at: [3], prepare: offer(0) },
  {
    name: 'snapshot-lose',
    path: timeline(0, memory),
    at: [3],
    prepare: async (page) => {
      await offer(0)(page);
      await page.locator('dialog[open] [role=switch]').click();
      await page.locator('.loss').waitFor();
    },
  },
  {
    name: 'snapshot-fork',
    path: timeline(0, memory),
    at: [3],
    prepare: async (page) => {
      await offer(1)(page);
      await page.locator('dialog[open] [type=number]').fill('10');
    },
  },
  {
    name: 'snapshot-compare',
    path: timeline(0, memory),
    at: [3],
    prepare: async (page) => {
      await offer(2)(page);
      await page.locator('dialog[open] table').first().waitFor();
    },
  },
  { name: 'snapshot-delete', path: timeline(0, memory), at: [3], prepare: offer(3) },
];
