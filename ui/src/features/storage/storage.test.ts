import { describe, expect, it } from 'vitest';
import type { Pool, Volume } from '@/api/client';
import {
  copyName,
  fileNameSchema,
  fits,
  obstacle,
  poolSchema,
  select,
  sizeSchema,
  usable,
  withEnding,
} from './volumes';

function volume(changes: Partial<Volume> = {}): Volume {
  return {
    pool: 'own',
    path: `/pool/${changes.name ?? 'disk.qcow2'}`,
    name: 'disk.qcow2',
    format: 'qcow2',
    virtualSize: 10,
    allocated: 1,
    backingFile: null,
    children: [],
    vm: null,
    vmName: null,
    orphaned: false,
    encrypted: false,
    ...changes,
  };
}

function pool(id: string, health: Pool['health'] = 'ok'): Pool {
  return {
    id,
    name: id,
    path: `/${id}`,
    builtin: false,
    capacity: 100,
    free: 50,
    allocated: 1,
    floor: 10,
    health,
    problem: null,
  };
}

describe('the list of volumes', () => {
  const volumes = [
    volume({ name: 'left.qcow2', orphaned: true }),
    volume({ name: 'spare.raw' }),
    volume({ name: 'disk1.qcow2', vm: 'w', vmName: 'web-2' }),
    volume({ name: 'disk0.qcow2', vm: 'd', vmName: 'web-10' }),
    volume({ name: 'base.qcow2', children: ['/pool/child.qcow2'] }),
  ];
  const names = (...args: Parameters<typeof select>) => select(...args).map(({ name }) => name);

  it('goes by machine, then by name', () => {
    expect(names(volumes, 'all', '')).toEqual([
      'disk1.qcow2',
      'disk0.qcow2',
      'base.qcow2',
      'left.qcow2',
      'spare.raw',
    ]);
  });

  it('counts each volume as used, free or left over, once', () => {
    for (const one of volumes)
      expect((['used', 'free', 'orphaned'] as const).filter((filter) => fits(one, filter))).toHaveLength(1);
    expect(names(volumes, 'free', '')).toEqual(['spare.raw']);
    expect(names(volumes, 'used', 'web')).toEqual(['disk1.qcow2', 'disk0.qcow2']);
  });
});

describe('what can be done with a volume', () => {
  const still = { pools: [pool('own'), pool('fast')], state: undefined };

  it('is everything, with a free disk', () => {
    for (const action of ['resize', 'copy', 'move', 'reclaim', 'check', 'delete'] as const)
      expect(obstacle(volume(), action, still), action).toBeUndefined();
  });

  it('is not what a machine or a clone would miss', () => {
    const used = volume({ vm: 'w', vmName: 'web' });
    expect(obstacle(used, 'delete', { ...still, state: 'stopped' })).toBe('machine');
    expect(obstacle(used, 'reclaim', { ...still, state: 'stopped' })).toBeUndefined();
    expect(obstacle(used, 'reclaim', { ...still, state: 'running' })).toBe('running');
    expect(obstacle(used, 'resize', { ...still, state: 'running' })).toBeUndefined();
    const base = volume({ children: ['/pool/child.qcow2'] });
    for (const action of ['resize', 'move', 'reclaim', 'delete'] as const)
      expect(obstacle(base, action, still), action).toBe('children');
    expect(obstacle(base, 'copy', still)).toBeUndefined();
  });

  it('needs content that can be read', () => {
    expect(obstacle(volume({ format: null }), 'copy', still)).toBe('format');
    expect(obstacle(volume({ format: null }), 'delete', still)).toBeUndefined();
    expect(obstacle(volume({ encrypted: true }), 'reclaim', still)).toBe('encrypted');
    expect(obstacle(volume({ encrypted: true }), 'move', still)).toBeUndefined();
    expect(obstacle(volume({ format: 'raw' }), 'check', still)).toBe('raw');
  });

  it('needs another pool to move to', () => {
    expect(obstacle(volume(), 'move', { ...still, pools: [pool('own'), pool('usb', 'missing')] })).toBe(
      'pools',
    );
    expect([usable(pool('a', 'low')), usable(pool('a', 'read_only'))]).toEqual([true, false]);
  });
});

describe('a file name', () => {
  it('says its format', () => {
    expect(withEnding('disk.qcow2', 'raw')).toBe('disk.raw');
    expect(withEnding('disk', 'qcow2')).toBe('disk.qcow2');
    expect(withEnding('v1.2', 'raw')).toBe('v1.2.raw');
  });

  it('of a copy is nobody else’s', () => {
    expect(copyName('disk.qcow2', new Set(['disk.qcow2', 'disk-2.qcow2']))).toBe('disk-3.qcow2');
  });

  it('stays in its folder and in sight', () => {
    const schema = fileNameSchema((key) => key);
    for (const wrong of ['', ' ', '../x', 'a/b', '.hidden', 'x'.repeat(201)])
      expect(schema.safeParse(wrong).success, wrong).toBe(false);
    expect(schema.safeParse('数据.qcow2').success).toBe(true);
  });
});

describe('a pool', () => {
  const draft = { name: 'fast', path: '/mnt/fast', floor: 0 };

  it('is a whole path, a name and what stays free', () => {
    const schema = poolSchema((key) => key, 'new');
    expect(schema.safeParse(draft).success).toBe(true);
    for (const wrong of [{ name: ' ' }, { path: 'fast' }, { floor: '' as const }, { floor: -1 }])
      expect(schema.safeParse({ ...draft, ...wrong }).success, JSON.stringify(wrong)).toBe(false);
  });

  it('has volumes of a sensible size', () => {
    const schema = sizeSchema((key) => key, { least: '', most: '' });
    expect([schema.safeParse('').success, schema.safeParse(512).success]).toEqual([false, false]);
    expect(schema.safeParse(20 * 2 ** 30).success).toBe(true);
  });
});
