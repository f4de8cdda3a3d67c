/**
 * A machine that is being thought of: its fields, what they may hold, and the request they become. Pure but for the texts of the
 * schema, which come in with `t`.
 */
import { z } from 'zod';
import type { Accel, CreateDefaults, CreateSource, Firmware, ImageInfo, VmCreateRequest } from '@/api/client';
import { forwardsSchema, toForwards, type ForwardRow } from '@/features/forwards';
import {
  cpusSchema,
  DISK_MAX,
  DISK_MIN,
  memorySchema,
  NAME_MAX,
  nameProblem,
  nameSchema,
} from '@/features/hardware';

export type SourceKind = '' | 'iso' | 'image' | 'demo';

/** A number field that was emptied is ''. */
export interface Draft {
  source: SourceKind;
  /** Path of the ISO or image on the host. */
  path: string;
  usage: 'copy' | 'in_place';
  /** From an ISO: a new disk to install on, or none. From a copied image: grow it, or keep its size. */
  disk: 'new' | 'none';
  grow: 'keep' | 'grow';
  /** Bytes. */
  diskSize: number | '';
  name: string;
  cpus: number | '';
  /** MiB. */
  memory: number | '';
  accel: Accel;
  firmware: Firmware;
  forwards: ForwardRow[];
  start: boolean;
}

export const STEPS = ['start', 'resources', 'network', 'review'] as const;
export type Step = (typeof STEPS)[number];

/** On which step a field stands; the first that fits. */
export function stepOf(path: string): Step {
  if (/^(source|path|usage)/.test(path)) return 'start';
  if (/^(firmware|forwards)/.test(path)) return 'network';
  return 'resources';
}

type Translate = (key: string, values?: Record<string, unknown>) => string;

export function draftFrom(defaults: CreateDefaults): Draft {
  return {
    source: '',
    path: '',
    usage: 'copy',
    disk: 'new',
    grow: 'keep',
    diskSize: defaults.diskSize,
    name: defaults.name,
    cpus: defaults.cpus,
    memory: defaults.memory,
    accel: 'auto',
    firmware: 'bios',
    forwards: [],
    start: true,
  };
}

/** What the fields are checked against besides themselves. */
export interface Facts {
  readonly defaults: CreateDefaults;
  readonly takenNames: ReadonlySet<string>;
  /** What the chosen file turned out to be, where that is known. */
  readonly image: ImageInfo | undefined;
  /** Why the chosen file cannot be used. */
  readonly imageProblem: string | undefined;
  readonly format: { readonly bytes: (bytes: number) => string; readonly mib: (mib: number) => string };
}

/** A new or grown disk is asked for. */
export function wantsDiskSize(draft: Pick<Draft, 'source' | 'disk' | 'usage' | 'grow'>): boolean {
  if (draft.source === 'iso') return draft.disk === 'new';
  return draft.source === 'image' && draft.usage === 'copy' && draft.grow === 'grow';
}

export function draftSchema(t: Translate, facts: Facts, draft: Draft) {
  const { defaults, image, format } = facts;
  const within = (from: number, to: number, words: () => string) =>
    z.custom<number | ''>(
      (value) => typeof value === 'number' && Number.isFinite(value) && value >= from && value <= to,
      { error: words },
    );
  const fromFile = draft.source === 'iso' || draft.source === 'image';
  const leastDisk = draft.source === 'image' ? Math.max(DISK_MIN, image?.virtualSize ?? 0) : DISK_MIN;

  return z.object({
    source: z.custom<SourceKind>((value) => value !== '', { error: () => t('create.problem.source') }),
    path: z.string().superRefine((path, context) => {
      if (!fromFile) return;
      let message: string | undefined;
      if (path === '') message = t('create.problem.noFile');
      else if (!path.startsWith('/')) message = t('create.problem.relative');
      else message = facts.imageProblem;
      if (message !== undefined) context.addIssue({ code: 'custom', message });
    }),
    usage: z.enum(['copy', 'in_place']),
    disk: z.enum(['new', 'none']),
    grow: z.enum(['keep', 'grow']),
    diskSize: wantsDiskSize(draft)
      ? within(leastDisk, DISK_MAX, () =>
          t('create.problem.disk', { least: format.bytes(leastDisk), most: format.bytes(DISK_MAX) }),
        )
      : z.custom<number | ''>(),
    name: nameSchema(t, facts.takenNames),
    cpus: cpusSchema(t),
    memory: memorySchema(t, defaults.maxMemory, format.mib),
    accel: z.enum(['auto', 'kvm', 'tcg']),
    firmware: z.enum(['bios', 'uefi']),
    forwards: forwardsSchema(t),
    start: z.boolean(),
  });
}

/** A field of the request, as the engine names it, in terms of the draft. */
export function fieldOf(field: string): string {
  const path = field.replace(/^spec\./, '').replace(/^nics\[0\]\.network\./, '');
  if (path === 'source.path' || /^(disks|cdroms)\[\d+\]\.file$/.test(path)) return 'path';
  if (path === 'source.diskSize') return 'diskSize';
  return path;
}

function sourceOf(draft: Draft): CreateSource {
  const sized = wantsDiskSize(draft) ? { diskSize: Number(draft.diskSize) } : {};
  if (draft.source === 'iso') return { kind: 'iso', path: draft.path, ...sized };
  if (draft.source === 'image') {
    return draft.usage === 'copy'
      ? { kind: 'image_copy', path: draft.path, ...sized }
      : { kind: 'image_in_place', path: draft.path };
  }
  return { kind: 'demo' };
}

export function toRequest(draft: Draft): VmCreateRequest {
  return {
    name: draft.name,
    source: sourceOf(draft),
    cpus: Number(draft.cpus),
    memory: Number(draft.memory),
    firmware: draft.firmware,
    accel: draft.accel,
    forwards: toForwards(draft.forwards),
    start: draft.start,
  };
}

/** A name from the file's: `/iso/debian-12.5.0-amd64-netinst.iso` is `debian-12.5.0-amd64-netinst`; a number where it is taken. */
export function nameFromFile(path: string, taken: ReadonlySet<string>): string {
  const file = path.slice(path.lastIndexOf('/') + 1);
  const stem = file.replace(/\.(iso|qcow2|img|raw|vmdk|vdi|vhdx?)$/i, '').trim();
  const base = [...stem].slice(0, NAME_MAX - 4).join('');
  let name = base;
  for (let n = 2; taken.has(name); n += 1) name = `${base}-${String(n)}`;
  return nameProblem(name, taken) === undefined ? name : '';
}
