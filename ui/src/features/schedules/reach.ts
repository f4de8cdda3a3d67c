/** Which schedules there are to look at: those of a machine, those of a filter, those in trouble. Pure. */
import type { ErrorBody, Schedule, VmView } from '@/api/client';

/** Whether a schedule takes snapshots of a machine. */
export function reaches({ target }: Pick<Schedule, 'target'>, vm: Pick<VmView, 'id' | 'meta'>): boolean {
  switch (target.kind) {
    case 'vm':
      return target.id === vm.id;
    case 'group':
      return target.name === vm.meta.group;
    case 'tag':
      return vm.meta.tags.includes(target.name);
  }
}

/** Why somebody has to look at it: it cannot run at all, or its last run failed. */
export function troubleOf({ trouble, lastRun }: Schedule): ErrorBody | undefined {
  return trouble ?? (lastRun?.outcome === 'failed' ? (lastRun.error ?? undefined) : undefined);
}

export const scheduleFilters = ['all', 'on', 'off', 'trouble'] as const;
export type ScheduleFilter = (typeof scheduleFilters)[number];

export function fits(schedule: Schedule, filter: ScheduleFilter): boolean {
  if (filter === 'trouble') return troubleOf(schedule) !== undefined;
  return filter === 'all' || schedule.enabled === (filter === 'on');
}
