/** A machine's hardware while it is edited, and what an edit changes. Pure but for the texts of the schema. */
import { z } from 'zod';
import type { Accel, DeviceId, MachineSpec } from '@/api/client';
import { forwardProblems, forwardsOf, problemText, toForwards, type ForwardRow } from '@/features/forwards';
import { cpusSchema, memorySchema } from '@/features/hardware';

export interface HardwareEdit {
  cpus: number | '';
  /** MiB. */
  memory: number | '';
  accel: Accel;
  bootFromCdrom: boolean;
  /** '' is an empty drive. */
  cdroms: { id: DeviceId; file: string }[];
  nics: { id: DeviceId; forwards: ForwardRow[] }[];
}

/** The engine takes no more drives. */
export const CDROMS_MAX = 4;

type Translate = (key: string, values?: Record<string, unknown>) => string;

export function editFrom(spec: MachineSpec): HardwareEdit {
  return {
    cpus: spec.cpus,
    memory: spec.memory,
    accel: spec.accel,
    bootFromCdrom: spec.bootFromCdrom,
    cdroms: spec.cdroms.map(({ id, file }) => ({ id, file: file ?? '' })),
    nics: spec.nics.map((nic) => ({
      id: nic.id,
      forwards: forwardsOf(nic).map((forward) => ({ ...forward })),
    })),
  };
}

export function toSpec(spec: MachineSpec, edit: HardwareEdit): MachineSpec {
  return {
    ...spec,
    cpus: Number(edit.cpus),
    memory: Number(edit.memory),
    accel: edit.accel,
    bootFromCdrom: edit.bootFromCdrom,
    cdroms: edit.cdroms.map(({ id, file }) => ({ id, file: file === '' ? null : file })),
    nics: spec.nics.map((nic, at) => ({
      ...nic,
      network:
        nic.network.kind === 'user'
          ? { ...nic.network, forwards: toForwards(edit.nics[at]?.forwards ?? []) }
          : nic.network,
    })),
  };
}

/** An id that no device of the machine has. */
export function freeDeviceId(prefix: string, spec: MachineSpec, edit: HardwareEdit): DeviceId {
  const used = new Set([...spec.disks, ...spec.nics, ...edit.cdroms].map((device) => device.id));
  let number = 0;
  while (used.has(`${prefix}${String(number)}`)) number += 1;
  return `${prefix}${String(number)}`;
}

export function editSchema(t: Translate, hostMemory: number, format: (mib: number) => string) {
  return z.object({
    cpus: cpusSchema(t),
    memory: memorySchema(t, hostMemory, format),
    accel: z.enum(['auto', 'kvm', 'tcg']),
    bootFromCdrom: z.boolean(),
    cdroms: z.array(
      z.object({
        id: z.string(),
        file: z.string().refine((file) => file === '' || file.startsWith('/'), {
          error: () => t('create.problem.relative'),
        }),
      }),
    ),
    // Cards share the host's ports, so all their forwards are looked at together.
    nics: z.custom<HardwareEdit['nics']>(Array.isArray).superRefine((nics, context) => {
      const places = nics.flatMap((nic, at) => nic.forwards.map((_, index) => [at, index] as const));
      for (const found of forwardProblems(nics.flatMap((nic) => nic.forwards))) {
        const place = places[found.index];
        if (!place) continue;
        const [at, index] = place;
        context.addIssue({
          code: 'custom',
          path: [at, 'forwards', index, found.field],
          message: problemText(t, found),
        });
      }
    }),
  });
}

/** A field as the engine names it, in terms of the edit. */
export function fieldOf(field: string): string {
  return field.replace(/^spec\./, '').replace('.network.forwards', '.forwards');
}

export interface Change {
  readonly what:
    'cpus' | 'memory' | 'accel' | 'firmware' | 'boot' | 'cdrom' | 'forwards' | 'disks' | 'network';
  readonly from: string;
  readonly to: string;
}

/** Texts for values, in the chosen language. */
export interface ValueWords {
  readonly memory: (mib: number) => string;
  readonly accel: (accel: Accel) => string;
  readonly firmware: (firmware: MachineSpec['firmware']) => string;
  readonly boot: (first: 'cdrom' | 'disk') => string;
  readonly none: string;
}

function fileName(path: string | null): string {
  return path === null ? '' : path.slice(path.lastIndexOf('/') + 1);
}

function forwardList(spec: MachineSpec): string {
  return spec.nics
    .flatMap((nic) => [...forwardsOf(nic)])
    .map(({ protocol, hostPort, guestPort, hostAddress }) => {
      const ports = `${String(hostPort)} → ${String(guestPort)}`;
      return `${ports}${protocol === 'udp' ? ' UDP' : ''}${hostAddress === '127.0.0.1' ? '' : ` (${hostAddress})`}`;
    })
    .join(', ');
}

/** What differs between the hardware in use and the one defined. */
export function specChanges(from: MachineSpec, to: MachineSpec, words: ValueWords): Change[] {
  const changes: Change[] = [];
  const note = (what: Change['what'], before: string, after: string) => {
    if (before !== after) changes.push({ what, from: before || words.none, to: after || words.none });
  };
  const list = (texts: readonly string[]) => texts.filter(Boolean).join(', ');
  note('cpus', String(from.cpus), String(to.cpus));
  note('memory', words.memory(from.memory), words.memory(to.memory));
  note('accel', words.accel(from.accel), words.accel(to.accel));
  note('firmware', words.firmware(from.firmware), words.firmware(to.firmware));
  note(
    'boot',
    words.boot(from.bootFromCdrom ? 'cdrom' : 'disk'),
    words.boot(to.bootFromCdrom ? 'cdrom' : 'disk'),
  );
  note(
    'cdrom',
    list(from.cdroms.map(({ file }) => fileName(file))),
    list(to.cdroms.map(({ file }) => fileName(file))),
  );
  note('forwards', forwardList(from), forwardList(to));
  note(
    'disks',
    list(from.disks.map(({ file }) => fileName(file))),
    list(to.disks.map(({ file }) => fileName(file))),
  );
  note('network', list(from.nics.map(({ mac }) => mac)), list(to.nics.map(({ mac }) => mac)));
  return changes;
}
