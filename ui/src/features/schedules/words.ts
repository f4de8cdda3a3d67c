/** Schedules in words: when, of what, what is kept, and how a run came out. */
import { useI18n } from 'vue-i18n';
import type {
  Recurrence,
  Retention,
  RunOutcome,
  Schedule,
  ScheduleRun,
  ScheduleTarget,
  Weekday,
} from '@/api/client';
import { useMachines } from '@/api/stores';
import type { IconName } from '@/shared/components/icons';
import { formatBytes, formatWeekday } from '@/shared/format';
import { RULES, WEEKDAYS } from './draft';

/** How an outcome looks. Colour never stands alone: a word is beside it. */
export const outcomeLook: Record<RunOutcome, { readonly icon: IconName; readonly tone: string }> = {
  running: { icon: 'arrow-repeat', tone: 'busy' },
  succeeded: { icon: 'check-circle-fill', tone: 'good' },
  failed: { icon: 'exclamation-circle-fill', tone: 'trouble' },
  skipped: { icon: 'dash-lg', tone: 'idle' },
  interrupted: { icon: 'exclamation-triangle-fill', tone: 'paused' },
};

export function useScheduleWords() {
  const { t } = useI18n();
  const machines = useMachines();

  function weekday(day: Weekday): string {
    return formatWeekday(WEEKDAYS.indexOf(day));
  }

  function when(recurrence: Recurrence): string {
    switch (recurrence.kind) {
      case 'hourly':
        return recurrence.minute === 0
          ? t('schedules.when.hourly')
          : t('schedules.when.hourlyAt', { minute: String(recurrence.minute).padStart(2, '0') });
      case 'daily':
        return t('schedules.when.daily', { at: recurrence.at });
      case 'weekly':
        return t('schedules.when.weekly', { day: weekday(recurrence.day), at: recurrence.at });
      case 'monthly':
        return recurrence.day === undefined
          ? t('schedules.when.monthlyLast', { at: recurrence.at })
          : t('schedules.when.monthly', { day: recurrence.day, at: recurrence.at });
      case 'cron':
        return t('schedules.when.cron', { expression: recurrence.expression });
    }
  }

  function target(of: ScheduleTarget): string {
    switch (of.kind) {
      case 'vm':
        return machines.byId.get(of.id)?.name ?? t('schedules.target.gone');
      case 'group':
        return t('schedules.target.groupNamed', { name: of.name });
      case 'tag':
        return t('schedules.target.tagNamed', { name: of.name });
    }
  }

  /** Every rule there is, or that all are kept. */
  function kept(retention: Retention): string[] {
    const rules = RULES.filter((rule) => (retention[rule] ?? 0) > 0).map((rule) =>
      t(`schedules.kept.${rule}`, { count: retention[rule] ?? 0 }, retention[rule] ?? 0),
    );
    if (rules.length === 0) rules.push(t('schedules.kept.all'));
    if (retention.maxDepth != null) rules.push(t('schedules.kept.maxDepth', { count: retention.maxDepth }));
    if (retention.minFree != null)
      rules.push(t('schedules.kept.minFree', { size: formatBytes(retention.minFree) }));
    return rules;
  }

  /** How it came out, in a word or two. */
  function outcome(run: ScheduleRun): string {
    return run.outcome === 'skipped'
      ? t('schedules.outcome.skippedFor', { reason: t(`schedules.skipped.${run.skipped ?? 'no_machine'}`) })
      : t(`schedules.outcome.${run.outcome}`);
  }

  /** What is to be known about a run beside how it came out. */
  function marks(run: ScheduleRun): string[] {
    return [
      ...(run.caughtUp ? [t('schedules.mark.caughtUp')] : []),
      ...(run.byHand ? [t('schedules.mark.byHand')] : []),
      ...(run.missed > 0 ? [t('schedules.mark.missed', { count: run.missed }, run.missed)] : []),
    ];
  }

  /** The schedule's clock. */
  function zone({ timeZone }: Pick<Schedule, 'timeZone'>): string {
    return timeZone ?? t('schedules.zone.own');
  }

  return { when, weekday, target, kept, outcome, marks, zone };
}
