/** Machines and operations for tests: what a test does not name is ordinary. */
import type { Operation, VmView } from '@/api/generated/commands';

let last = 0;

export function makeVm(changes: Partial<VmView> = {}): VmView {
  last += 1;
  return {
    id: `00000000-0000-4000-8000-${String(last).padStart(12, '0')}`,
    name: `machine-${String(last)}`,
    description: '',
    osType: 'linux',
    spec: {
      version: 1,
      machine: 'q35',
      cpus: 2,
      memory: 1024,
      firmware: 'bios',
      accel: 'auto',
      disks: [],
      cdroms: [],
      nics: [],
      bootFromCdrom: false,
    },
    state: 'stopped',
    stateSince: '2026-01-01T00:00:00Z',
    operation: null,
    attention: null,
    run: null,
    restartPending: false,
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
    vmName: 'machine-1',
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
