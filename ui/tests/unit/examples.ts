/** Machines and operations for tests: what a test does not name is ordinary. */
import type { Disk, MachineSpec, Operation, Schedule, ScheduleRun, VmView } from '@/api/generated/commands';

let last = 0;

export function makeSpec(changes: Partial<MachineSpec> = {}): MachineSpec {
  return {
    version: 2,
    machine: 'q35',
    machineVersion: null,
    cpus: 2,
    maxCpus: null,
    topology: null,
    cpuModel: { kind: 'auto' },
    memory: 1024,
    maxMemory: null,
    balloon: true,
    firmware: 'bios',
    tpm: false,
    accel: 'auto',
    hyperv: false,
    clock: 'utc',
    disks: [],
    cdroms: [],
    nics: [],
    bootFromCdrom: false,
    display: 'virtio',
    audio: 'none',
    usb: [],
    shares: [],
    channels: [],
    rng: true,
    watchdog: null,
    vsock: false,
    clipboard: false,
    extraArgs: [],
    ...changes,
  };
}

export function makeDisk(id: string, changes: Partial<Disk> = {}): Disk {
  return {
    id,
    file: `/vms/a/${id}.qcow2`,
    format: 'qcow2',
    owner: 'machine',
    bus: 'virtio',
    cache: 'writeback',
    discard: 'unmap',
    iothread: false,
    readOnly: false,
    key: null,
    ...changes,
  };
}

export function makeVm(changes: Partial<VmView> = {}): VmView {
  last += 1;
  return {
    id: `00000000-0000-4000-8000-${String(last).padStart(12, '0')}`,
    name: `machine-${String(last)}`,
    description: '',
    osType: 'linux',
    spec: makeSpec(),
    state: 'stopped',
    stateSince: '2026-01-01T00:00:00Z',
    operation: null,
    attention: null,
    run: null,
    restartPending: false,
    pending: [],
    meta: { tags: [], group: null, favourite: false, color: null, template: false, autostart: null },
    parent: null,
    passing: false,
    createdAt: '2026-01-01T00:00:00Z',
    updatedAt: '2026-01-01T00:00:00Z',
    generation: 1,
    ...changes,
  };
}

export function makeOperation(changes: Partial<Operation> = {}): Operation {
  last += 1;
  return {
    id: String(last).padStart(12, '0'),
    kind: 'start',
    vmId: '00000000-0000-4000-8000-000000000001',
    imageId: null,
    poolId: null,
    subject: 'machine-1',
    status: 'succeeded',
    origin: 'rest',
    requestedAt: '2026-01-01T00:00:00Z',
    startedAt: null,
    finishedAt: null,
    durationMs: null,
    progress: null,
    cancellable: false,
    error: null,
    stderr: null,
    ...changes,
  };
}

export function makeSchedule(changes: Partial<Schedule> = {}): Schedule {
  last += 1;
  return {
    id: `00000000-0000-4000-9000-${String(last).padStart(12, '0')}`,
    name: `schedule-${String(last)}`,
    target: { kind: 'vm', id: '00000000-0000-4000-8000-000000000001' },
    when: { kind: 'daily', at: '02:00' },
    cron: '0 2 * * *',
    timeZone: null,
    retention: {},
    options: { catchUp: true },
    nameTemplate: 'auto_{date}',
    backup: null,
    enabled: true,
    running: false,
    nextRun: '2026-01-02T02:00:00Z',
    lastRun: null,
    trouble: null,
    createdAt: '2026-01-01T00:00:00Z',
    updatedAt: '2026-01-01T00:00:00Z',
    ...changes,
  };
}

export function makeRun(changes: Partial<ScheduleRun> = {}): ScheduleRun {
  last += 1;
  return {
    id: String(last).padStart(12, '0'),
    scheduleId: '00000000-0000-4000-9000-000000000001',
    dueAt: '2026-01-01T02:00:00Z',
    startedAt: '2026-01-01T02:00:00Z',
    endedAt: '2026-01-01T02:00:04Z',
    outcome: 'succeeded',
    caughtUp: false,
    byHand: false,
    missed: 0,
    skipped: null,
    machines: [],
    error: null,
    operationId: null,
    ...changes,
  };
}
