/** What the fields of a machine's hardware may hold: the engine's own rules, so that most mistakes show while one types. */
import { z } from 'zod';
import { forwardProblems, problemText } from '@/features/forwards';
import { cpusSchema, CPUS_MAX, memorySchema } from '@/features/hardware';
import { MOST, mostCpus, wordsOf, type HardwareEdit } from './edit';

type Translate = (key: string, values?: Record<string, unknown>) => string;

const MAC = /^[0-9a-f][02468ace](:[0-9a-f]{2}){5}$/i;
const MODEL = /^[a-z0-9][\w.-]{0,63}$/i;
const TAG = /^[a-z][\w-]{0,30}$/i;
const PORT = /^[\w.-]{1,64}$/;

type Issue = (path: readonly (string | number)[], problem: string, values?: Record<string, unknown>) => void;

function between(value: unknown, from: number, to: number): boolean {
  return Number.isInteger(value) && Number(value) >= from && Number(value) <= to;
}

function processor(edit: HardwareEdit, issue: Issue): void {
  const growing = edit.machine === 'q35';
  if (edit.cpuModel.trim() !== '') {
    const model = edit.cpuModel.trim();
    if (!MODEL.test(model) || model === 'host' || model === 'max') issue(['cpuModel'], 'cpuModel');
  }
  if (edit.arrangement === 'own') {
    if (!between(edit.sockets, 1, 64)) issue(['sockets'], 'range', { from: 1, to: 64 });
    if (!between(edit.cores, 1, CPUS_MAX)) issue(['cores'], 'range', { from: 1, to: CPUS_MAX });
    if (!between(edit.threads, 1, 2)) issue(['threads'], 'range', { from: 1, to: 2 });
    const most = mostCpus(edit);
    if (most < Number(edit.cpus)) issue(['sockets'], 'arrangement', { most, cpus: Number(edit.cpus) });
    else if (most > CPUS_MAX) issue(['sockets'], 'range', { from: 1, to: CPUS_MAX });
    else if (most > Number(edit.cpus) && !growing) issue(['sockets'], 'growQ35');
  } else if (edit.maxCpus !== '') {
    if (!between(edit.maxCpus, Number(edit.cpus), CPUS_MAX)) issue(['maxCpus'], 'most');
    else if (edit.maxCpus > Number(edit.cpus) && !growing) issue(['maxCpus'], 'growQ35');
  }
}

function memory(edit: HardwareEdit, issue: Issue): void {
  if (edit.maxMemory === '') return;
  if (edit.maxMemory < Number(edit.memory)) issue(['maxMemory'], 'most');
  else if (edit.maxMemory > Number(edit.memory) && edit.machine !== 'q35') issue(['maxMemory'], 'growQ35');
}

function drives(edit: HardwareEdit, issue: Issue): void {
  let onChipset = edit.cdroms.length;
  const room = edit.machine === 'q35' ? 6 : 4;
  edit.disks.forEach((disk, at) => {
    if (disk.bus === 'sata' && edit.machine !== 'q35') issue(['disks', at, 'bus'], 'sata');
    else if (disk.bus === 'ide' && edit.machine !== 'i440fx') issue(['disks', at, 'bus'], 'ide');
    else if (disk.bus === 'sata' || disk.bus === 'ide') {
      onChipset += 1;
      if (onChipset > room) issue(['disks', at, 'bus'], 'chipsetFull', { room });
    }
    if (!disk.file.startsWith('/')) issue(['disks', at, 'file'], 'path');
    if (edit.disks.some((other, before) => before < at && other.file === disk.file))
      issue(['disks', at, 'file'], 'twice');
  });
  edit.cdroms.forEach((drive, at) => {
    if (drive.file !== '' && !drive.file.startsWith('/')) issue(['cdroms', at, 'file'], 'path');
  });
}

function network(edit: HardwareEdit, t: Translate, context: z.RefinementCtx, issue: Issue): void {
  const seen = new Set<string>();
  edit.nics.forEach((nic, at) => {
    const mac = nic.mac.trim().toLowerCase();
    if (!MAC.test(mac)) issue(['nics', at, 'mac'], 'mac');
    else if (seen.has(mac)) issue(['nics', at, 'mac'], 'twice');
    seen.add(mac);
  });
  // Cards share the host's ports, so all their forwards are looked at together.
  const cards = edit.nics.map((nic) => (nic.kind === 'user' ? nic.forwards : []));
  const places = cards.flatMap((forwards, at) => forwards.map((_, index) => [at, index] as const));
  for (const found of forwardProblems(cards.flat())) {
    const [at, index] = places[found.index] ?? [0, 0];
    const path = ['nics', at, 'forwards', index, found.field];
    context.addIssue({ code: 'custom', path, message: problemText(t, found) });
  }
}

function lent(edit: HardwareEdit, issue: Issue): void {
  edit.shares.forEach((share, at) => {
    if (!TAG.test(share.tag)) issue(['shares', at, 'tag'], 'tag');
    else if (edit.shares.some((other, before) => before < at && other.tag === share.tag))
      issue(['shares', at, 'tag'], 'twice');
    if (!share.folder.startsWith('/')) issue(['shares', at, 'folder'], 'path');
  });
  let serial = 0;
  edit.channels.forEach((channel, at) => {
    if (channel.kind === 'serial') {
      serial += 1;
      if (serial > MOST.serial) issue(['channels', at, 'kind'], 'serial');
      return;
    }
    const name = channel.name.trim();
    if (!PORT.test(name)) issue(['channels', at, 'name'], 'portName');
    else if (
      edit.channels.some((other, before) => before < at && other.kind === 'virtio' && other.name === name)
    )
      issue(['channels', at, 'name'], 'twice');
  });
}

export function editSchema(t: Translate, hostMemory: number, format: (mib: number) => string) {
  return z
    .custom<HardwareEdit>((value) => typeof value === 'object' && value !== null)
    .superRefine((edit, context) => {
      const issue: Issue = (path, problem, values) => {
        context.addIssue({
          code: 'custom',
          path: [...path],
          message: t(`hardware.problem.${problem}`, values),
        });
      };
      const basics = z.object({ cpus: cpusSchema(t), memory: memorySchema(t, hostMemory, format) });
      for (const { path, message } of basics.safeParse(edit).error?.issues ?? [])
        context.addIssue({ code: 'custom', path, message });
      processor(edit, issue);
      memory(edit, issue);
      if (edit.firmware === 'uefi_secure' && edit.machine !== 'q35') issue(['firmware'], 'secureQ35');
      drives(edit, issue);
      network(edit, t, context, issue);
      lent(edit, issue);
      const [first] = wordsOf(edit.extraArgs);
      if (first !== undefined && !first.startsWith('-')) issue(['extraArgs'], 'extraFirst');
    });
}
