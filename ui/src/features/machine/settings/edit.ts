/** A machine's hardware while it is edited: what the fields hold, and the specification they become. Pure. */
import type {
  Accel,
  Audio,
  Channel,
  DeviceId,
  Disk,
  DiskBus,
  Display,
  Firmware,
  GuestClock,
  MachineSpec,
  MachineType,
  Nic,
  NicModel,
  Share,
  UsbDevice,
  UserStack,
  Watchdog,
} from '@/api/client';
import { forwardsOf, toForwards, type ForwardRow } from '@/features/forwards';

/** A number field that was emptied is ''. */
export type Count = number | '';

export interface NicEdit {
  id: DeviceId;
  mac: string;
  model: NicModel;
  link: boolean;
  kind: 'user' | 'none';
  stack: UserStack;
  forwards: ForwardRow[];
}

export interface DriveEdit {
  id: DeviceId;
  /** '' is an empty drive. */
  file: string;
}

export interface HardwareEdit {
  cpus: Count;
  /** '' is no more than `cpus`. Not asked for while the arrangement is somebody's own: its product is it. */
  maxCpus: Count;
  arrangement: 'auto' | 'own';
  sockets: Count;
  cores: Count;
  threads: Count;
  /** '' is the automatic one. */
  cpuModel: string;
  accel: Accel;
  hyperv: boolean;
  /** MiB. */
  memory: Count;
  /** MiB; '' is no more than `memory`. */
  maxMemory: Count;
  balloon: boolean;
  machine: MachineType;
  machineVersion: string | null;
  firmware: Firmware;
  tpm: boolean;
  clock: GuestClock;
  disks: Disk[];
  cdroms: DriveEdit[];
  bootFromCdrom: boolean;
  nics: NicEdit[];
  display: Display;
  audio: Audio;
  usb: UsbDevice[];
  shares: Share[];
  channels: Channel[];
  rng: boolean;
  /** '' is no watchdog. */
  watchdog: Watchdog | '';
  vsock: boolean;
  clipboard: boolean;
  /** One argument a line. */
  extraArgs: string;
}

/** The engine takes no more of each. */
export const MOST = { disks: 16, cdroms: 4, nics: 8, usb: 7, shares: 8, channels: 16, serial: 3 } as const;

export function hasThread(bus: DiskBus): boolean {
  return bus === 'virtio' || bus === 'scsi';
}

export function canBeReadOnly(bus: DiskBus): boolean {
  return bus !== 'sata' && bus !== 'ide';
}

/** The chipset's own disk bus is the one the other lacks. */
export function busesOf(machine: MachineType): DiskBus[] {
  return ['virtio', 'scsi', machine === 'q35' ? 'sata' : 'ide', 'nvme'];
}

export function nicEditOf(nic: Nic): NicEdit {
  return {
    id: nic.id,
    mac: nic.mac,
    model: nic.model,
    link: nic.link,
    kind: nic.network.kind,
    stack: nic.network.kind === 'user' ? nic.network.stack : 'slirp',
    forwards: forwardsOf(nic).map((forward) => ({ ...forward })),
  };
}

export function editFrom(spec: MachineSpec): HardwareEdit {
  return {
    cpus: spec.cpus,
    maxCpus: spec.maxCpus ?? '',
    arrangement: spec.topology ? 'own' : 'auto',
    sockets: spec.topology?.sockets ?? 1,
    cores: spec.topology?.cores ?? spec.cpus,
    threads: spec.topology?.threads ?? 1,
    cpuModel: spec.cpuModel.kind === 'named' ? spec.cpuModel.name : '',
    accel: spec.accel,
    hyperv: spec.hyperv,
    memory: spec.memory,
    maxMemory: spec.maxMemory ?? '',
    balloon: spec.balloon,
    machine: spec.machine,
    machineVersion: spec.machineVersion,
    firmware: spec.firmware,
    tpm: spec.tpm,
    clock: spec.clock,
    disks: spec.disks.map((disk) => ({ ...disk })),
    cdroms: spec.cdroms.map(({ id, file }) => ({ id, file: file ?? '' })),
    bootFromCdrom: spec.bootFromCdrom,
    nics: spec.nics.map(nicEditOf),
    display: spec.display,
    audio: spec.audio,
    usb: spec.usb.map((device) => ({ ...device })),
    shares: spec.shares.map((share) => ({ ...share })),
    channels: spec.channels.map((channel) => ({ ...channel })),
    rng: spec.rng,
    watchdog: spec.watchdog ?? '',
    vsock: spec.vsock,
    clipboard: spec.clipboard,
    extraArgs: spec.extraArgs.join('\n'),
  };
}

function nicFrom(edit: NicEdit): Nic {
  const { id, mac, model, link, kind, stack, forwards } = edit;
  return {
    id,
    mac: mac.trim().toLowerCase(),
    model,
    link,
    network: kind === 'user' ? { kind, stack, forwards: toForwards(forwards) } : { kind },
  };
}

/** The words of the expert's field, one a line. */
export function wordsOf(extraArgs: string): string[] {
  return extraArgs
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '');
}

/** The most CPUs the machine can be given. */
export function mostCpus(edit: HardwareEdit): number {
  if (edit.arrangement === 'own') return Number(edit.sockets) * Number(edit.cores) * Number(edit.threads);
  return edit.maxCpus === '' ? Number(edit.cpus) : edit.maxCpus;
}

/** `spec` gives what no field shows. */
export function toSpec(spec: MachineSpec, edit: HardwareEdit): MachineSpec {
  const most = mostCpus(edit);
  const model = edit.cpuModel.trim();
  return {
    ...spec,
    cpus: Number(edit.cpus),
    maxCpus: most > Number(edit.cpus) ? most : null,
    topology:
      edit.arrangement === 'own'
        ? { sockets: Number(edit.sockets), cores: Number(edit.cores), threads: Number(edit.threads) }
        : null,
    cpuModel: model === '' ? { kind: 'auto' } : { kind: 'named', name: model },
    accel: edit.accel,
    hyperv: edit.hyperv,
    memory: Number(edit.memory),
    maxMemory: edit.maxMemory !== '' && edit.maxMemory > Number(edit.memory) ? edit.maxMemory : null,
    balloon: edit.balloon,
    machine: edit.machine,
    // A revision belongs to its chipset.
    machineVersion: edit.machine === spec.machine ? edit.machineVersion : null,
    firmware: edit.firmware,
    tpm: edit.tpm,
    clock: edit.clock,
    disks: edit.disks.map((disk) => ({
      ...disk,
      iothread: disk.iothread && hasThread(disk.bus),
      readOnly: disk.readOnly && canBeReadOnly(disk.bus),
    })),
    cdroms: edit.cdroms.map(({ id, file }) => ({ id, file: file === '' ? null : file })),
    bootFromCdrom: edit.bootFromCdrom,
    nics: edit.nics.map(nicFrom),
    display: edit.display,
    audio: edit.audio,
    usb: edit.usb.map((device) => ({ ...device })),
    shares: edit.shares.map((share) => ({ ...share })),
    channels: edit.channels.map((channel) => ({
      ...channel,
      name: channel.kind === 'virtio' ? channel.name.trim() : '',
    })),
    rng: edit.rng,
    watchdog: edit.watchdog === '' ? null : edit.watchdog,
    vsock: edit.vsock,
    clipboard: edit.clipboard,
    extraArgs: wordsOf(edit.extraArgs),
  };
}

/** An id that no device has, before or after the edit. */
export function freeDeviceId(prefix: string, spec: MachineSpec, edit: HardwareEdit): DeviceId {
  const lists = (of: Pick<HardwareEdit, 'disks' | 'usb' | 'shares' | 'channels'>) => [
    ...of.disks,
    ...of.usb,
    ...of.shares,
    ...of.channels,
  ];
  const devices = [
    ...lists(spec),
    ...lists(edit),
    ...spec.cdroms,
    ...spec.nics,
    ...edit.cdroms,
    ...edit.nics,
  ];
  const used = new Set(devices.map((device) => device.id));
  let number = 0;
  while (used.has(`${prefix}${String(number)}`)) number += 1;
  return `${prefix}${String(number)}`;
}

/** A hardware address in QEMU's range that none of `taken` is. */
export function freeMac(taken: ReadonlySet<string>, random: () => number = Math.random): string {
  for (;;) {
    const tail = Array.from({ length: 3 }, () =>
      Math.floor(random() * 256)
        .toString(16)
        .padStart(2, '0'),
    );
    const mac = ['52', '54', '00', ...tail].join(':');
    if (!taken.has(mac)) return mac;
  }
}

/** The list with one of its members at another place. */
export function moved<T>(list: readonly T[], from: number, to: number): T[] {
  const rest = list.filter((_, at) => at !== from);
  const one = list[from];
  if (one === undefined || to < 0 || to >= list.length) return [...list];
  return [...rest.slice(0, to), one, ...rest.slice(to)];
}

/** A field as the engine names it, in terms of the edit. */
export function fieldOf(field: string): string {
  return field
    .replace(/^spec\./, '')
    .replace('.network.forwards', '.forwards')
    .replace(/^topology\.?/, (whole) => (whole.endsWith('.') ? '' : 'sockets'))
    .replace(/^cpuModel\.name$/, 'cpuModel')
    .replace(/^extraArgs.*$/, 'extraArgs');
}
