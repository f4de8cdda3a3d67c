/** The pages of images and storage, for `look.mjs`. */

const first = (list, has) => list.find(has) ?? list[0];

/** The page with one image looked at. */
function image(has) {
  return ({ state }) => `/images?show=${first(state.images, has).id}`;
}

/** The page of a pool, with one of its volumes looked at where one is asked for. */
function pool(name, has) {
  return ({ state }) => {
    const { id } = state.storage.pools.find((one) => one.name === name);
    const volume = has && state.storage.volumes.find((one) => one.pool === id && has(one));
    return `/storage?pool=${id}${volume ? `&volume=${encodeURIComponent(volume.path)}` : ''}`;
  };
}

/** Downloads on their way and one that broke off. */
async function download(page) {
  await page.locator('.item button').nth(1).click();
  await page.locator('.item [role=meter]').waitFor();
}

export const libraryPages = [
  { name: 'images', path: '/images', at: [0, 3, 40] },
  { name: 'image', path: image((one) => one.usedBy.length > 0), at: [3, 40] },
  { name: 'image-missing', path: image((one) => one.state === 'missing'), at: [3] },
  {
    name: 'image-used',
    path: image((one) => one.usedBy.length > 0),
    at: [3],
    prepare: async (page) => {
      await page.locator('.remove').click();
      await page.locator('dialog[open]').waitFor();
    },
  },
  {
    name: 'image-delete',
    path: image((one) => one.kind === 'iso' && one.owned),
    at: [3],
    prepare: async (page) => {
      await page.locator('.remove').click();
      await page.locator('dialog[open]').waitFor();
    },
  },
  { name: 'catalogue', path: '/images/catalogue', at: [0, 3] },
  { name: 'catalogue-download', path: '/images/catalogue', at: [3], fresh: true, prepare: download },
  {
    name: 'images-arriving',
    path: '/images/catalogue',
    at: [0, 3],
    fresh: true,
    prepare: async (page) => {
      await download(page);
      await page.locator('.tabs a').first().click();
      await page.locator('.transfers [role=meter]').waitFor();
    },
  },
  { name: 'images-failed', path: '/images', at: [3], fail: { 'image.list': 'database_failed' } },
  {
    name: 'images-more',
    path: '/images',
    at: [3],
    prepare: (page) => page.locator('.page-tools [aria-haspopup=menu]').click(),
  },
  {
    name: 'image-import',
    path: '/images?file=/home/ada/images/old-server.vmdk',
    at: [3],
    prepare: (page) => page.locator('.found .icon').first().waitFor(),
  },
  {
    name: 'image-url',
    path: '/images',
    at: [3],
    prepare: async (page) => {
      await page.locator('.page-tools [aria-haspopup=menu]').click();
      await page.getByRole('menuitem').nth(1).click();
      await page.locator('dialog[open] input').first().fill('http://files.example.org/disk.qcow2');
      await page.locator('dialog[open] input').nth(1).fill('not a sum');
      await page.locator('dialog[open] input').nth(2).focus();
      await page.locator('.invalid-feedback').waitFor();
    },
  },
  { name: 'storage', path: '/storage', at: [0, 3, 40] },
  { name: 'storage-pool', path: pool('fast'), at: [3] },
  { name: 'storage-missing', path: pool('usb-archive'), at: [3], fail: {} },
  { name: 'volume', path: pool('voidVM', (one) => one.children.length > 0), at: [3] },
  { name: 'volume-orphan', path: pool('voidVM', (one) => one.orphaned), at: [3] },
  {
    name: 'pool-add',
    path: '/storage',
    at: [3],
    prepare: (page) => page.locator('.page-tools .add').click(),
  },
  {
    name: 'volume-shrink',
    path: pool('fast', (one) => one.format === 'qcow2'),
    at: [3],
    prepare: async (page) => {
      await page.locator('.offer').first().click();
      await page.locator('dialog[open] input').fill('4');
    },
  },
  {
    name: 'volume-new',
    path: pool('voidVM'),
    at: [3],
    prepare: async (page) => {
      await page.locator('.section-head button').click();
      await page.locator('dialog[open]').waitFor();
    },
  },
];
