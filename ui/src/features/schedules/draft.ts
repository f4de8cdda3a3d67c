/** A schedule as the form holds it: every choice has its own fields, so that going back and forth between them loses nothing. Pure. */
import { z } from 'zod';
import type {
  Recurrence,
  Schedule,
  ScheduleCreateRequest,
  ScheduleTarget,
  VmId,
  Weekday,
} from '@/api/client';
import { nameProblem } from '@/features/hardware';

export const WEEKDAYS: readonly Weekday[] = [
  'monday',
  'tuesday',
  'wednesday',
  'thursday',
  'friday',
  'saturday',
  'sunday',
];
export const RECURRENCES = ['hourly', 'daily', 'weekly', 'monthly', 'cron'] as const;
export const RULES = ['keepLast', 'hourly', 'daily', 'weekly', 'monthly', 'yearly'] as const;
export type Rule = (typeof RULES)[number];
/** How snapshots are called where nobody says otherwise. */
export const DEFAULT_TEMPLATE = 'auto_{date}';
/** What is replaced in a template. */
export const TEMPLATE_WORDS = ['{date}', '{time}', '{vm}', '{schedule}'] as const;
/** The most any count of the retention may be. */
export const COUNT_MAX = 10_000;

type Count = number | '';

export interface Draft {
  name: string;
  target: { kind: ScheduleTarget['kind']; vm: VmId | ''; group: string; tag: string };
  when: {
    kind: Recurrence['kind'];
    minute: Count;
    at: string;
    weekday: Weekday;
    /** `1` to `28`, or `last`. */
    monthday: string;
    expression: string;
  };
  /** Empty for the computer's. */
  timeZone: string;
  nameTemplate: string;
  contents: 'memory' | 'disks';
  freeze: boolean;
  onlyWhenRunning: boolean;
  onlyWhenChanged: boolean;
  catchUp: boolean;
  retention: Record<Rule, Count> & { minFree: Count; maxDepth: Count };
}

/** What a schedule says, ready to be changed; without one, a new schedule for `target`. */
export function draftOf(schedule: Schedule | undefined, target?: ScheduleTarget): Draft {
  const { kind, ...what } = schedule?.target ?? target ?? { kind: 'vm' as const, id: '' };
  const when = schedule?.when ?? { kind: 'daily' as const, at: '02:00' };
  const options = schedule?.options ?? {};
  // A new schedule keeps what most people want; all of them would fill the disk.
  const kept = schedule?.retention ?? { keepLast: 3, daily: 7, weekly: 4 };
  const count = (value: number | undefined): Count => (value === undefined || value === 0 ? '' : value);
  return {
    name: schedule?.name ?? '',
    target: {
      kind,
      vm: 'id' in what ? what.id : '',
      group: kind === 'group' && 'name' in what ? what.name : '',
      tag: kind === 'tag' && 'name' in what ? what.name : '',
    },
    when: {
      kind: when.kind,
      minute: when.kind === 'hourly' ? when.minute : 0,
      at: 'at' in when ? when.at : '02:00',
      weekday: when.kind === 'weekly' ? when.day : 'sunday',
      monthday: when.kind === 'monthly' ? (when.day?.toString() ?? 'last') : '1',
      expression: when.kind === 'cron' ? when.expression : (schedule?.cron ?? '0 2 * * *'),
    },
    timeZone: schedule?.timeZone ?? '',
    nameTemplate: schedule?.nameTemplate ?? DEFAULT_TEMPLATE,
    contents: options.diskOnly ? 'disks' : 'memory',
    freeze: options.freeze ?? false,
    onlyWhenRunning: options.onlyWhenRunning ?? false,
    onlyWhenChanged: options.onlyWhenChanged ?? false,
    catchUp: options.catchUp ?? true,
    retention: {
      keepLast: count(kept.keepLast),
      hourly: count(kept.hourly),
      daily: count(kept.daily),
      weekly: count(kept.weekly),
      monthly: count(kept.monthly),
      yearly: count(kept.yearly),
      minFree: count(kept.minFree),
      maxDepth: count(kept.maxDepth),
    },
  };
}

export function targetOf({ kind, vm, group, tag }: Draft['target']): ScheduleTarget {
  return kind === 'vm' ? { kind, id: vm } : { kind, name: (kind === 'group' ? group : tag).trim() };
}

export function recurrenceOf(when: Draft['when']): Recurrence {
  const { kind, at } = when;
  switch (kind) {
    case 'hourly':
      return { kind, minute: Number(when.minute) };
    case 'daily':
      return { kind, at };
    case 'weekly':
      return { kind, day: when.weekday, at };
    case 'monthly':
      return { kind, at, ...(when.monthday === 'last' ? {} : { day: Number(when.monthday) }) };
    case 'cron':
      return { kind, expression: when.expression.trim() };
  }
}

/** What the engine is asked for. */
export function requestOf(draft: Draft): ScheduleCreateRequest {
  const rules = Object.entries(draft.retention).filter(([, value]) => value !== '' && value !== 0);
  const timeZone = draft.timeZone.trim();
  const diskOnly = draft.contents === 'disks';
  return {
    name: draft.name,
    target: targetOf(draft.target),
    when: recurrenceOf(draft.when),
    ...(timeZone === '' ? {} : { timeZone }),
    retention: Object.fromEntries(rules),
    options: {
      onlyWhenRunning: draft.onlyWhenRunning,
      onlyWhenChanged: draft.onlyWhenChanged,
      diskOnly,
      freeze: diskOnly && draft.freeze,
      catchUp: draft.catchUp,
    },
    nameTemplate: draft.nameTemplate.trim() || DEFAULT_TEMPLATE,
  };
}

type Translate = (key: string, values?: Record<string, unknown>) => string;

/** Checks what can be checked here; the engine knows cron expressions and time zones. */
export function draftSchema(t: Translate, taken: ReadonlySet<string>) {
  const whole = (from: number, to: number) => (value: Count) =>
    Number.isInteger(value) && Number(value) >= from && Number(value) <= to;
  const range = (from: number, to: number) => t('hardware.problem.range', { from, to });
  const count = (from: number) =>
    z.custom<Count>((value) => value === '' || whole(from, COUNT_MAX)(value as Count), {
      error: () => range(from, COUNT_MAX),
    });
  return z
    .object({
      name: z.string().superRefine((name, context) => {
        const problem = nameProblem(name, taken);
        if (problem)
          context.addIssue({
            code: 'custom',
            message:
              problem === 'taken' ? t('schedules.problem.taken') : t(`hardware.problem.name.${problem}`),
          });
      }),
      target: z.custom<Draft['target']>(),
      when: z.custom<Draft['when']>(),
      timeZone: z.string(),
      nameTemplate: z.string(),
      contents: z.enum(['memory', 'disks']),
      freeze: z.boolean(),
      onlyWhenRunning: z.boolean(),
      onlyWhenChanged: z.boolean(),
      catchUp: z.boolean(),
      retention: z.object({
        keepLast: count(0),
        hourly: count(0),
        daily: count(0),
        weekly: count(0),
        monthly: count(0),
        yearly: count(0),
        minFree: z.custom<Count>((value) => value === '' || Number(value) > 0, {
          error: () => t('schedules.problem.minFree'),
        }),
        maxDepth: count(1),
      }),
    })
    .superRefine(({ target, when }, context) => {
      const issue = (path: string[], message: string) => {
        context.addIssue({ code: 'custom', path, message });
      };
      if (target[target.kind].trim() === '')
        issue(['target', target.kind], t(`schedules.problem.${target.kind}`));
      if (when.kind === 'hourly' && !whole(0, 59)(when.minute)) issue(['when', 'minute'], range(0, 59));
      else if (when.kind === 'cron' && when.expression.trim() === '')
        issue(['when', 'expression'], t('schedules.problem.expression'));
      else if (
        ['daily', 'weekly', 'monthly'].includes(when.kind) &&
        !/^([01]\d|2[0-3]):[0-5]\d$/.test(when.at)
      )
        issue(['when', 'at'], t('schedules.problem.at'));
    });
}

/** The engine's field in terms of the form's. */
export function fieldOf(field: string, kind: ScheduleTarget['kind']): string {
  if (field.startsWith('target')) return `target.${kind}`;
  if (field === 'when.day') return 'when.monthday';
  if (field === 'options.freeze') return 'freeze';
  return field;
}
