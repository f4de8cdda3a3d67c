/** When what can be done with a snapshot. The engine decides in the end; this only spares people what would be refused. Pure. */
import type { Snapshot, VmState, VmView } from '@/api/client';

/** Most machines one request forks. */
export const FORKS_MAX = 50;

export const SNAPSHOT_ACTIONS = ['restore', 'fork', 'compare', 'delete'] as const;
export type SnapshotAction = (typeof SNAPSHOT_ACTIONS)[number];
export type Obstacle = 'trouble' | 'busy' | 'state';

/** Nobody knows well enough what goes on in these. */
const UNSETTLED: ReadonlySet<VmState> = new Set<VmState>([
  'starting',
  'stopping',
  'adopting',
  'unresponsive',
]);

export function blockedBy(
  action: SnapshotAction,
  vm: Pick<VmView, 'state' | 'operation'>,
  snapshot: Pick<Snapshot, 'trouble'>,
): Obstacle | undefined {
  if (action === 'compare') return undefined;
  if (action !== 'delete' && snapshot.trouble !== null) return 'trouble';
  if (action === 'fork') return undefined;
  if (vm.operation !== null) return 'busy';
  return UNSETTLED.has(vm.state) ? 'state' : undefined;
}

/** What `count` machines forked as `name` are called. */
export function forkNames(name: string, count: number): string[] {
  return count === 1 ? [name] : Array.from({ length: count }, (_, at) => `${name}-${String(at + 1)}`);
}
