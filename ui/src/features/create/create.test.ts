import { describe, expect, it } from 'vitest';
import type { CatalogueEntry, CreateDefaults, ImageInfo, LibraryImage, OsPreset } from '@/api/client';
import { diskNeeds } from './describe';
import {
  draftFrom,
  fieldOf,
  fromLibrary,
  isMachineFile,
  nameFromFile,
  stepOf,
  stepsOf,
  toDownload,
  toImport,
  toRequest,
  wantsDiskSize,
  type Draft,
} from './draft';
import { guestDraft, guestProblems, packagesOf, toCloudInit, type GuestDraft } from './guest';
import { imageTrouble } from './image';
import { mediaOf } from './media';
import { fill, firmwareFor, reasonsOf, wishesOf, type Wishes } from './preset';
import { draftSchema, type Facts } from './schema';

const GB = 2 ** 30;
const defaults: CreateDefaults = {
  name: 'machine-1',
  cpus: 1,
  maxCpus: 8,
  memory: 1024,
  maxMemory: 16_384,
  availableMemory: 8_000,
  diskSize: 20 * GB,
  freeSpace: 100 * GB,
  vmDirectory: '/data/vms',
  uefi: true,
  secureBoot: true,
  tpm: true,
  accel: { auto: 'tcg', kvmWorks: false, reason: null },
  demoDisk: null,
  demoIso: null,
};
const image: ImageInfo = {
  path: '/img/server.qcow2',
  kind: 'qcow2',
  virtualSize: 30 * GB,
  actualSize: 4 * GB,
  backingFile: null,
  volumeId: null,
  writable: true,
  usedBy: null,
};
const iso: Draft = { ...draftFrom(defaults), source: 'iso', path: '/iso/debian.iso' };
const copied: Draft = { ...draftFrom(defaults), source: 'image', path: image.path };

/** The fields that do not hold, with the key of the words. */
function wrong(draft: Draft, more: Partial<Facts> = {}): Record<string, string> {
  const facts: Facts = {
    defaults,
    takenNames: new Set(['web-01']),
    image: undefined,
    imageProblem: undefined,
    medium: undefined,
    format: { bytes: String, mib: String },
    ...more,
  };
  const issues = draftSchema((key) => key, facts, draft).safeParse(draft).error?.issues ?? [];
  return Object.fromEntries(issues.map(({ path, message }) => [path.join('.'), message]));
}

describe('the wizard', () => {
  it('accepts what the host suggests, for each way to begin', () => {
    expect(wrong(iso)).toEqual({});
    expect(wrong(copied, { image })).toEqual({});
    expect(wrong({ ...draftFrom(defaults), source: 'demo' })).toEqual({});
  });

  it('wants a source and a file with its whole path', () => {
    expect(wrong(draftFrom(defaults))).toEqual({ source: 'create.problem.source' });
    expect(wrong({ ...iso, path: '' })).toEqual({ path: 'create.problem.noFile' });
    expect(wrong({ ...iso, path: 'debian.iso' })).toEqual({ path: 'create.problem.relative' });
    expect(wrong(iso, { imageProblem: 'not an ISO' })).toEqual({ path: 'not an ISO' });
    // What the file is does not matter once it is not used.
    expect(wrong({ ...iso, source: 'demo' }, { imageProblem: 'not an ISO' })).toEqual({});
  });

  it.each([
    ['', 'empty'],
    ['x'.repeat(101), 'long'],
    [' web', 'spaces'],
    ['we\nb', 'control'],
    ['we\u202eb', 'control'],
    ['0192f3a4-7c1e-7d20-b1c3-9a8e51c0ffee', 'id'],
    ['web-01', 'taken'],
  ])('refuses the name %j', (name, problem) => {
    expect(wrong({ ...iso, name })).toEqual({ name: `hardware.problem.name.${problem}` });
  });

  it.each(['a', '测试服务器', 'x, y; "z" $(reboot)', '👩‍💻'.repeat(20), 'x'.repeat(100)])(
    'takes the name %j',
    (name) => {
      expect(wrong({ ...iso, name })).toEqual({});
    },
  );

  it('keeps CPUs and memory within bounds', () => {
    for (const cpus of [0, 256, 1.5, '' as const])
      expect(wrong({ ...iso, cpus }), String(cpus)).toHaveProperty('cpus');
    for (const memory of [31, 16_385, '' as const, 512.5])
      expect(wrong({ ...iso, memory }), String(memory)).toHaveProperty('memory');
    expect(wrong({ ...iso, cpus: 255, memory: 16_384 })).toEqual({});
  });

  it('asks for a disk size only where a disk is made or grown', () => {
    expect(wrong({ ...iso, diskSize: '' })).toEqual({ diskSize: 'create.problem.disk' });
    expect(wrong({ ...iso, diskSize: '', disk: 'none' })).toEqual({});
    expect(wrong({ ...copied, diskSize: '' }, { image })).toEqual({});
    expect(wrong({ ...copied, grow: 'grow', diskSize: 10 * GB }, { image })).toHaveProperty('diskSize');
    expect(wrong({ ...copied, grow: 'grow', diskSize: 40 * GB }, { image })).toEqual({});
    expect(wantsDiskSize({ ...copied, usage: 'in_place', grow: 'grow' })).toBe(false);
  });

  it('makes the request of what was chosen and of nothing else', () => {
    expect(toRequest(iso).source).toEqual({ kind: 'iso', path: '/iso/debian.iso', diskSize: 20 * GB });
    expect(toRequest({ ...iso, disk: 'none' }).source).toEqual({ kind: 'iso', path: '/iso/debian.iso' });
    expect(toRequest(copied).source).toEqual({ kind: 'image_copy', path: image.path });
    expect(toRequest({ ...copied, usage: 'in_place' }).source).toEqual({
      kind: 'image_in_place',
      path: image.path,
    });
    expect(toRequest({ ...copied, source: 'demo' }).source).toEqual({ kind: 'demo' });
    expect(toRequest({ ...iso, encrypt: true })).toHaveProperty('encrypt', true);
    expect(toRequest({ ...copied, encrypt: true })).toHaveProperty('encrypt', true);
    expect(toRequest({ ...copied, usage: 'in_place', encrypt: true })).not.toHaveProperty('encrypt');
    const linked = { ...copied, from: 'library', library: 'linked', encrypt: true } as const;
    expect(toRequest(linked)).not.toHaveProperty('encrypt');
    expect(toRequest({ ...linked, library: 'copy' })).toHaveProperty('encrypt', true);
    expect(toRequest({ ...iso, start: false })).toMatchObject({
      name: 'machine-1',
      cpus: 1,
      memory: 1024,
      start: false,
    });
  });

  it('finds the field that the engine names', () => {
    expect(fieldOf('name')).toBe('name');
    expect(fieldOf('spec.memory')).toBe('memory');
    expect(fieldOf('source.path')).toBe('path');
    expect(fieldOf('spec.disks[0].file')).toBe('path');
    expect(fieldOf('source.diskSize')).toBe('diskSize');
    expect(fieldOf('spec.nics[0].network.forwards[1].hostPort')).toBe('forwards[1].hostPort');
    expect(stepOf(fieldOf('spec.nics[0].network.forwards[1].hostPort'))).toBe('network');
    expect(stepOf('path')).toBe('start');
    expect(stepOf('memory')).toBe('resources');
  });

  it('names a machine after its file', () => {
    const taken = new Set(['debian-12']);
    expect(nameFromFile('/iso/debian-12.8.0-amd64.iso', taken)).toBe('debian-12.8.0-amd64');
    expect(nameFromFile('/iso/debian-12.QCOW2', taken)).toBe('debian-12-2');
    expect(nameFromFile('/iso/.iso', taken)).toBe('');
  });

  it('says why a file does not fit', () => {
    const disc: ImageInfo = { ...image, kind: 'iso' };
    expect(imageTrouble(image, { source: 'iso', usage: 'copy' })).toBe('is_disk');
    expect(imageTrouble(disc, { source: 'image', usage: 'copy' })).toBe('is_iso');
    expect(imageTrouble({ ...image, usedBy: 'web' }, { source: 'image', usage: 'in_place' })).toBe('in_use');
    expect(imageTrouble({ ...image, usedBy: 'web' }, { source: 'image', usage: 'copy' })).toBeUndefined();
    expect(imageTrouble({ ...image, writable: false }, { source: 'image', usage: 'in_place' })).toBe(
      'not_writable',
    );
  });

  it('knows what the disk takes', () => {
    expect(diskNeeds(iso, undefined, undefined)).toEqual({ now: 0, most: 20 * GB });
    expect(diskNeeds(copied, image, undefined)).toEqual({ now: 4 * GB, most: 30 * GB });
    expect(diskNeeds({ ...copied, usage: 'in_place' }, image, undefined)).toBeUndefined();
  });
});

const debian: LibraryImage = {
  id: 'image-1',
  name: 'Debian 12 cloud',
  description: '',
  kind: 'qcow2',
  path: '/images/debian.qcow2',
  owned: true,
  state: 'ready',
  size: GB / 2,
  virtualSize: 3 * GB,
  sha256: null,
  verified: 'none',
  os: { id: 'debian12', name: 'Debian 12', family: 'linux', version: '12' },
  cloudInit: true,
  source: null,
  usedBy: [],
  createdAt: '2026-01-01T00:00:00Z',
};
const entry: CatalogueEntry = {
  id: 'fedora-cloud',
  name: 'Fedora Cloud',
  os: 'fedora42',
  kind: 'qcow2',
  url: 'https://example.org/fedora.qcow2',
  mirrors: [],
  checksumUrl: 'https://example.org/SHA256SUMS',
  signatureUrl: null,
  cloudInit: true,
  user: 'fedora',
  size: GB,
  image: null,
};

describe('what can be picked', () => {
  const known: CatalogueEntry = {
    ...entry,
    id: 'debian-12',
    name: 'Debian',
    user: 'debian',
    image: 'image-1',
  };

  it('is an image of the library once, and the catalogue’s rest', () => {
    const media = mediaOf([debian], [known, entry], 'cloud');
    expect(media.map(({ key, user }) => [key, user])).toEqual([
      ['image:image-1', 'debian'],
      ['entry:fedora-cloud', 'fedora'],
    ]);
  });

  it('fits what is wanted, and leaves out what is not there', () => {
    const disc: LibraryImage = { ...debian, id: 'iso', kind: 'iso', cloudInit: false };
    const gone: LibraryImage = { ...debian, id: 'gone', state: 'missing' };
    const plain: LibraryImage = { ...debian, id: 'plain', cloudInit: false };
    const keys = (wanted: 'cloud' | 'iso' | 'image') =>
      mediaOf([debian, disc, gone, plain], [], wanted).map(({ key }) => key);
    expect(keys('cloud')).toEqual(['image:image-1']);
    expect(keys('iso')).toEqual(['image:iso']);
    expect(keys('image')).toEqual(['image:image-1', 'image:plain']);
  });

  it('is downloaded with everything that proves it', () => {
    const [first, second] = mediaOf([debian], [entry], 'cloud');
    expect(toDownload(first)).toBeUndefined();
    expect(toDownload(second)).toEqual({
      url: entry.url,
      mirrors: [],
      name: 'Fedora Cloud',
      checksumUrl: 'https://example.org/SHA256SUMS',
      catalogueId: 'fedora-cloud',
    });
  });
});

describe('a cloud guest', () => {
  const [medium] = mediaOf([debian], [], 'cloud');
  const cloud: Draft = { ...draftFrom(defaults), source: 'cloud', pick: 'image:image-1' };
  const guest = (changes: Partial<GuestDraft>): GuestDraft => ({ ...guestDraft(), ...changes });

  it('needs no more than an image', () => {
    expect(fromLibrary(cloud)).toBe(true);
    expect(wrong(cloud)).toEqual({ pick: 'create.problem.noPick' });
    expect(wrong(cloud, { medium })).toEqual({});
    expect(wrong({ ...cloud, diskSize: GB }, { medium })).toHaveProperty('diskSize');
  });

  it('becomes a request with its user and a key of its own', () => {
    expect(toRequest({ ...cloud, os: 'debian12' }, 'image-1')).toMatchObject({
      source: { kind: 'library', image: 'image-1', diskSize: 20 * GB },
      os: 'debian12',
      cloudInit: { user: 'user', generateKey: true },
    });
    expect(toRequest({ ...cloud, library: 'linked' }, 'image-1').source).toHaveProperty('linked', true);
    expect(toRequest(iso)).not.toHaveProperty('cloudInit');
  });

  it('is left with a way in', () => {
    expect(guestProblems(guest({}))).toEqual([]);
    expect(guestProblems(guest({ keys: 'none' }))).toEqual([['password', 'noWayIn']]);
    expect(guestProblems(guest({ keys: 'none', password: 'secret' }))).toEqual([]);
    expect(guestProblems(guest({ keys: 'paste' }))).toEqual([['sshKeys', 'noKey']]);
    expect(guestProblems(guest({ keys: 'paste', sshKeys: 'hello' }))).toEqual([['sshKeys', 'sshKeys']]);
    const key = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIH2y ada@workstation';
    expect(guestProblems(guest({ keys: 'paste', sshKeys: `${key}\n\n${key}` }))).toEqual([]);
  });

  it.each([
    ['user', { user: 'Ada Lovelace' }],
    ['hostname', { hostname: 'a_b' }],
    ['packages', { packages: 'git; rm' }],
    ['userData', { userData: '#!/bin/sh' }],
  ] as const)('is refused for its %s', (field, changes) => {
    expect(guestProblems(guest(changes)).map(([name]) => name)).toEqual([field]);
    expect(wrong({ ...cloud, guest: guest(changes) }, { medium })).toHaveProperty(`guest.${field}`);
    expect(stepOf(`guest.${field}`, 'cloud')).toBe('guest');
  });

  it('says only what was filled in', () => {
    expect(packagesOf(' git,htop  git ')).toEqual(['git', 'htop']);
    expect(toCloudInit(guest({ packages: 'git', hostname: ' web ' }))).toEqual({
      user: 'user',
      generateKey: true,
      hostname: 'web',
      packages: ['git'],
    });
  });
});

describe('an imported machine', () => {
  const imported: Draft = { ...draftFrom(defaults), source: 'import', path: '/vms/old.ova', cpus: '' };

  it('is known by its file and asks for nothing else', () => {
    expect(isMachineFile('/vms/OLD.OVA')).toBe(true);
    expect(isMachineFile('/vms/old.qcow2')).toBe(false);
    expect(wrong(imported)).toEqual({});
    expect(wrong({ ...imported, path: '' })).toEqual({ path: 'create.problem.noFile' });
    expect(stepsOf('import')).toEqual(['start']);
    expect(stepOf('name', 'import')).toBe('start');
    expect(toImport({ ...imported, usage: 'in_place' })).toEqual({
      path: '/vms/old.ova',
      name: 'machine-1',
      inPlace: true,
    });
  });
});

describe('the preset of an operating system', () => {
  const windows: OsPreset = {
    os: { id: 'win11', name: 'Windows 11', family: 'windows', version: '11' },
    cpus: 12,
    memory: 4096,
    diskSize: 64 * GB,
    firmware: 'uefi_secure',
    tpm: true,
    hyperv: true,
    virtio: false,
  };
  const poor: CreateDefaults = { ...defaults, secureBoot: false, tpm: false, maxMemory: 2048 };
  const plain: Wishes = { cpus: 1, memory: 1024, diskSize: 20 * GB, firmware: 'bios', tpm: false };

  it('is cut to what this computer has, and says what it lacks', () => {
    expect(wishesOf(windows, defaults)).toEqual({
      cpus: 8,
      memory: 4096,
      diskSize: 64 * GB,
      firmware: 'uefi_secure',
      tpm: true,
    });
    expect(wishesOf(windows, poor)).toMatchObject({ memory: 2048, firmware: 'uefi', tpm: false });
    expect(reasonsOf(windows, poor).missing).toEqual(['secureBoot', 'tpm', 'memory']);
    expect(reasonsOf(windows, defaults)).toEqual({
      reasons: ['secure', 'tpm', 'hyperv', 'noVirtio'],
      missing: [],
    });
    expect(firmwareFor('uefi', { uefi: false, secureBoot: false })).toBe('bios');
  });

  it('fills what nobody touched, and takes it back with another one', () => {
    const draft = { ...plain, memory: 3000 };
    const filled = fill(draft, plain, wishesOf(windows, defaults));
    expect(draft).toMatchObject({ cpus: 8, memory: 3000, firmware: 'uefi_secure', tpm: true });
    fill(draft, filled, plain);
    expect(draft).toEqual({ ...plain, memory: 3000 });
  });
});
