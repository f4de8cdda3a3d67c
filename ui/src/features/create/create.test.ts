import { describe, expect, it } from 'vitest';
import type { CreateDefaults, ImageInfo } from '@/api/client';
import { diskNeeds } from './describe';
import {
  draftFrom,
  draftSchema,
  fieldOf,
  nameFromFile,
  stepOf,
  toRequest,
  wantsDiskSize,
  type Draft,
  type Facts,
} from './draft';
import { imageTrouble } from './image';

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
    expect(wantsDiskSize({ source: 'image', usage: 'in_place', disk: 'new', grow: 'grow' })).toBe(false);
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
    expect(diskNeeds(iso, undefined)).toEqual({ now: 0, most: 20 * GB });
    expect(diskNeeds(copied, image)).toEqual({ now: 4 * GB, most: 30 * GB });
    expect(diskNeeds({ ...copied, usage: 'in_place' }, image)).toBeUndefined();
  });
});
