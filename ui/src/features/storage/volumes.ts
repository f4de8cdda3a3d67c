/** What there is to say about volumes and pools, and which of them a person asked for. Pure. */
import { z } from 'zod';
import type { DiskFormat, Pool, VmState, Volume } from '@/api/client';
import { matchScore } from '@/shared/composables/searchText';

export const volumeFilters = ['all', 'used', 'free', 'orphaned'] as const;
export type VolumeFilter = (typeof volumeFilters)[number];

/** Least and most bytes a volume may have, and the step its size is rounded to. */
export const SIZE_MIN = 2 ** 20;
export const SIZE_MAX = 64 * 2 ** 40;
export const NAME_MAX = 200;
export const FLOOR_MAX = 2 ** 40;

const byName = new Intl.Collator(undefined, { numeric: true, sensitivity: 'base' });

export function fits(volume: Volume, filter: VolumeFilter): boolean {
  switch (filter) {
    case 'all':
      return true;
    case 'used':
      return volume.vm !== null || volume.children.length > 0;
    case 'free':
      return volume.vm === null && volume.children.length === 0 && !volume.orphaned;
    case 'orphaned':
      return volume.orphaned;
  }
}

/** Those that fit the filter and have all of the words: by machine, then by name. */
export function select(volumes: readonly Volume[], filter: VolumeFilter, words: string): Volume[] {
  return volumes
    .filter(
      (volume) => fits(volume, filter) && matchScore(`${volume.name} ${volume.vmName ?? ''}`, words) > 0,
    )
    .sort(
      (a, b) =>
        byName.compare(a.vmName ?? '\u{10ffff}', b.vmName ?? '\u{10ffff}') || byName.compare(a.name, b.name),
    );
}

export type VolumeAction = 'resize' | 'copy' | 'move' | 'reclaim' | 'check' | 'delete';
export type Obstacle = 'machine' | 'running' | 'children' | 'format' | 'encrypted' | 'raw' | 'pools';

/** States in which a machine leaves its disks alone. */
const AT_REST: readonly (VmState | undefined)[] = ['stopped', 'crashed', 'broken', undefined];

/** Why something cannot be done with a volume, as far as the lists tell. The engine decides in the end. */
export function obstacle(
  volume: Volume,
  action: VolumeAction,
  now: { readonly pools: readonly Pool[]; readonly state: VmState | undefined },
): Obstacle | undefined {
  if (action === 'delete') {
    if (volume.vm !== null) return 'machine';
    return volume.children.length > 0 ? 'children' : undefined;
  }
  if (action === 'move') {
    if (!now.pools.some((pool) => pool.id !== volume.pool && usable(pool))) return 'pools';
  } else {
    if (volume.format === null) return 'format';
    if (volume.encrypted) return 'encrypted';
    if (action === 'check' && volume.format === 'raw') return 'raw';
  }
  if (['resize', 'move', 'reclaim'].includes(action) && volume.children.length > 0) return 'children';
  // A disk can grow under its guest; everything else wants it still.
  return action === 'resize' || AT_REST.includes(now.state) ? undefined : 'running';
}

/** Something new can be made in it. */
export function usable(pool: Pool): boolean {
  return pool.health === 'ok' || pool.health === 'low';
}

/** What a file with this name would be called in that format. */
export function withEnding(name: string, format: DiskFormat): string {
  return /\.(qcow2|raw|img|vmdk|vdi|vhdx)$/i.test(name)
    ? name.replace(/\.[^.]+$/, `.${format}`)
    : `${name}.${format}`;
}

/** A name for a copy that nobody in the pool has. */
export function copyName(name: string, taken: ReadonlySet<string>): string {
  const dot = name.lastIndexOf('.');
  const [stem, ending] = dot > 0 ? [name.slice(0, dot), name.slice(dot)] : [name, ''];
  let candidate = name;
  for (let at = 2; taken.has(candidate); at += 1) candidate = `${stem}-${String(at)}${ending}`;
  return candidate;
}

type Translate = (key: string, values?: Record<string, unknown>) => string;

export function fileNameSchema(t: Translate) {
  return z
    .string()
    .trim()
    .min(1, t('storage.problem.name', { most: NAME_MAX }))
    .max(NAME_MAX, t('storage.problem.name', { most: NAME_MAX }))
    .refine((name) => !name.includes('/') && !name.startsWith('.'), t('storage.problem.file'));
}

export function sizeSchema(t: Translate, range: { least: string; most: string }) {
  const problem = t('storage.problem.size', range);
  return z
    .union([z.number(), z.literal('')])
    .refine((size) => size !== '' && size >= SIZE_MIN && size <= SIZE_MAX, problem);
}

export function poolSchema(t: Translate, folder: 'new' | 'kept') {
  return z.object({
    name: z
      .string()
      .trim()
      .min(1, t('storage.problem.name', { most: NAME_MAX }))
      .max(NAME_MAX, t('storage.problem.name', { most: NAME_MAX })),
    path: z.string().refine((path) => folder === 'kept' || path.startsWith('/'), t('storage.problem.path')),
    floor: z
      .union([z.number(), z.literal('')])
      .refine((floor) => floor !== '' && floor >= 0 && floor <= FLOOR_MAX, t('storage.problem.floor')),
  });
}
