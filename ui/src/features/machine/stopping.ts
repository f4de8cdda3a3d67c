/** Whether a guest was asked to shut down, did not in time, and somebody has to say what now. */
import type { Operation, VmView } from '@/api/client';

/** The stop that missed its deadline, where it is the last thing that was done. `recent` is newest first. */
export function missedStop(vm: VmView, recent: readonly Operation[]): Operation | undefined {
  if (vm.state !== 'running' && vm.state !== 'paused') return undefined;
  if (vm.operation !== null) return undefined;
  const last = recent.find((operation) => operation.vmId === vm.id && operation.kind !== 'update');
  const missed =
    last?.kind === 'stop' && last.status === 'failed' && last.error?.code === 'guest_did_not_stop';
  return missed ? last : undefined;
}
