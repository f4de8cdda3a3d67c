/** What of the operations is part of a machine's past, and how it looks there. Pure. */
import type { Operation, OperationKind } from '@/api/client';

export type EventTone = 'running' | 'idle' | 'trouble' | 'busy';

/** Snapshots are not among them: they stand there themselves. */
const TONES: Partial<Record<OperationKind, EventTone>> = {
  create: 'busy',
  import: 'busy',
  start: 'running',
  adopt: 'running',
  stop: 'idle',
  force_off: 'idle',
  suspend: 'idle',
  reset: 'busy',
  snapshot_restore: 'busy',
};
/** These show where they failed. */
const FAILURES: ReadonlySet<OperationKind> = new Set<OperationKind>([
  'snapshot_create',
  'snapshot_delete',
  'snapshot_fork',
  'snapshot_merge',
  'backup_run',
]);

export function eventTone({ kind, status }: Operation): EventTone | undefined {
  if (status === 'failed' || status === 'interrupted')
    return TONES[kind] !== undefined || FAILURES.has(kind) ? 'trouble' : undefined;
  return status === 'succeeded' ? TONES[kind] : undefined;
}
