import { mount } from '@vue/test-utils';
import { createPinia, setActivePinia } from 'pinia';
import { beforeEach, describe, expect, it } from 'vitest';
import { defineComponent, h } from 'vue';
import { createI18n } from 'vue-i18n';
import type { ErrorBody, Recurrence, Schedule, SchedulePreview } from '@/api/client';
import { useMachines } from '@/api/stores';
import en from '@/locales/en';
import zh from '@/locales/zh-CN';
import { formatLocale } from '@/shared/format';
import { makeRun, makeSchedule, makeVm } from '../../../tests/unit/examples';
import { draftOf, draftSchema, fieldOf, requestOf, type Draft } from './draft';
import { fits, reaches, troubleOf } from './reach';
import RetentionPreview from './RetentionPreview.vue';
import { useScheduleWords } from './words';

const trouble: ErrorBody = { code: 'vm_not_found', message: 'gone', retryable: false, traceId: '' };

describe('a draft', () => {
  const times: Recurrence[] = [
    { kind: 'hourly', minute: 7 },
    { kind: 'daily', at: '02:05' },
    { kind: 'weekly', day: 'sunday', at: '03:00' },
    { kind: 'monthly', day: 1, at: '04:00' },
    { kind: 'monthly', at: '04:00' },
    { kind: 'cron', expression: '30 2 * * MON-FRI' },
  ];
  it.each(times)('says what the schedule says: $kind', (when) => {
    const schedule = makeSchedule({
      when,
      timeZone: 'Europe/Berlin',
      target: { kind: 'group', name: 'Lab' },
      retention: { keepLast: 2, monthly: 12, minFree: 5, maxDepth: 9 },
      options: { onlyWhenChanged: true, diskOnly: true, freeze: true, catchUp: false },
    });
    const { name, target, timeZone, retention, options, nameTemplate } = schedule;
    expect(requestOf(draftOf(schedule))).toEqual({
      name,
      target,
      when,
      timeZone,
      retention,
      options: { onlyWhenRunning: false, ...options },
      nameTemplate,
    });
  });

  it('leaves out rules and a clock nobody set, and freezing where memory is in it', () => {
    const draft = draftOf(makeSchedule({ options: { diskOnly: true, freeze: true } }));
    draft.contents = 'memory';
    draft.retention.keepLast = 0;
    draft.nameTemplate = ' ';
    const request = requestOf(draft);
    expect(request.retention).toEqual({});
    expect(request.options).toMatchObject({ diskOnly: false, freeze: false });
    expect(request.nameTemplate).toBe('auto_{date}');
    expect(request).not.toHaveProperty('timeZone');
  });

  it('begins with the machine it is asked for', () => {
    expect(draftOf(undefined, { kind: 'vm', id: 'a' }).target).toMatchObject({ kind: 'vm', vm: 'a' });
    expect(requestOf(draftOf(undefined, { kind: 'tag', name: 'web' })).target).toEqual({
      kind: 'tag',
      name: 'web',
    });
  });

  const good = (): Draft => ({ ...draftOf(makeSchedule()), name: 'nightly' });
  const problems = (change: (draft: Draft) => void) => {
    const draft = good();
    change(draft);
    const found = draftSchema((key) => key, new Set(['weekly'])).safeParse(draft).error?.issues ?? [];
    return found.map(({ path, message }) => `${path.join('.')}: ${message}`);
  };
  it.each<[string, (draft: Draft) => void, string]>([
    ['no name', (d) => (d.name = ''), 'name: hardware.problem.name.empty'],
    ['a taken name', (d) => (d.name = 'weekly'), 'name: schedules.problem.taken'],
    ['no machine', (d) => (d.target.vm = ''), 'target.vm: schedules.problem.vm'],
    [
      'no group',
      (d) => Object.assign(d.target, { kind: 'group', group: ' ' }),
      'target.group: schedules.problem.group',
    ],
    ['no time', (d) => (d.when.at = ''), 'when.at: schedules.problem.at'],
    [
      'no such minute',
      (d) => Object.assign(d.when, { kind: 'hourly', minute: 60 }),
      'when.minute: hardware.problem.range',
    ],
    [
      'no expression',
      (d) => Object.assign(d.when, { kind: 'cron', expression: ' ' }),
      'when.expression: schedules.problem.expression',
    ],
    ['half a count', (d) => (d.retention.daily = 1.5), 'retention.daily: hardware.problem.range'],
    ['no depth', (d) => (d.retention.maxDepth = 0), 'retention.maxDepth: hardware.problem.range'],
    ['no space', (d) => (d.retention.minFree = 0), 'retention.minFree: schedules.problem.minFree'],
  ])('is refused with %s', (_, change, problem) => {
    expect(problems(change)).toEqual([problem]);
  });

  it('does not mind what a choice that is not made says', () => {
    expect(problems((draft) => Object.assign(draft.when, { minute: '', expression: '' }))).toEqual([]);
  });

  it('finds the engine’s fields', () => {
    expect(fieldOf('target.id', 'vm')).toBe('target.vm');
    expect(fieldOf('target.name', 'tag')).toBe('target.tag');
    expect(fieldOf('when.day', 'vm')).toBe('when.monthday');
    expect(fieldOf('retention.daily', 'vm')).toBe('retention.daily');
  });
});

describe('schedules', () => {
  const vm = makeVm();
  vm.meta = { ...vm.meta, group: 'Lab', tags: ['web', 'test'] };

  it('reach a machine by itself, its group or a tag', () => {
    expect(reaches(makeSchedule({ target: { kind: 'vm', id: vm.id } }), vm)).toBe(true);
    expect(reaches(makeSchedule({ target: { kind: 'group', name: 'Lab' } }), vm)).toBe(true);
    expect(reaches(makeSchedule({ target: { kind: 'tag', name: 'test' } }), vm)).toBe(true);
    expect(reaches(makeSchedule({ target: { kind: 'tag', name: 'Lab' } }), vm)).toBe(false);
    expect(reaches(makeSchedule({ target: { kind: 'vm', id: 'b' } }), vm)).toBe(false);
  });

  it('are in trouble when they cannot run, or the last run failed', () => {
    const failed = makeSchedule({ lastRun: makeRun({ outcome: 'failed', error: trouble }) });
    expect(troubleOf(failed)).toBe(trouble);
    expect(troubleOf(makeSchedule({ trouble }))).toBe(trouble);
    expect(troubleOf(makeSchedule({ lastRun: makeRun({ outcome: 'skipped' }) }))).toBeUndefined();
    const all: Schedule[] = [failed, makeSchedule({ enabled: false }), makeSchedule()];
    expect(
      (['all', 'on', 'off', 'trouble'] as const).map(
        (filter) => all.filter((one) => fits(one, filter)).length,
      ),
    ).toEqual([3, 2, 1, 1]);
  });
});

describe.each(['en', 'zh-CN'] as const)('in %s', (language) => {
  const i18n = createI18n({ legacy: false, locale: language, messages: { en, 'zh-CN': zh } });
  beforeEach(() => {
    setActivePinia(createPinia());
    formatLocale.value = language;
  });

  function words() {
    let found: ReturnType<typeof useScheduleWords> | undefined;
    mount(
      defineComponent({
        setup() {
          found = useScheduleWords();
          return () => h('i');
        },
      }),
      { global: { plugins: [i18n] } },
    );
    if (!found) throw new Error('not mounted');
    return found;
  }

  it('says when, what is kept, and how runs came out', () => {
    const { when, kept, outcome, marks, target } = words();
    const english = language === 'en';
    expect(when({ kind: 'weekly', day: 'sunday', at: '02:00' })).toBe(
      english ? 'Every Sunday at 02:00' : '每星期日 02:00',
    );
    expect(when({ kind: 'hourly', minute: 7 })).toBe(english ? 'Every hour at :07' : '每小时的第 07 分');
    expect(kept({})).toEqual([english ? 'All' : '全部']);
    expect(kept({ keepLast: 3, minFree: 2 ** 30 })).toEqual(
      english ? ['the last 3', '1 GB stay free'] : ['最近 3 个', '保留 1 GB 可用空间'],
    );
    expect(outcome(makeRun({ outcome: 'skipped', skipped: 'overlap' }))).toContain(
      english ? 'the run before was still at work' : '上一次运行尚未结束',
    );
    expect(marks(makeRun({ caughtUp: true, missed: 2 }))).toHaveLength(2);
    expect(target({ kind: 'vm', id: 'gone' })).toBe(english ? 'A machine that is gone' : '已不存在的虚拟机');
    const vm = makeVm({ name: 'web-01' });
    useMachines().apply({ type: 'vm_changed', vm });
    expect(target({ kind: 'vm', id: vm.id })).toBe('web-01');
  });

  it('shows what stays and what goes, with the reasons', () => {
    const preview: SchedulePreview = {
      cron: '0 2 * * *',
      timeZone: 'UTC',
      runs: [],
      machines: [
        {
          vmId: 'a',
          vmName: 'web-01',
          nextName: 'auto_2026-11-23',
          trouble: null,
          backups: [],
          snapshots: [
            {
              id: '2',
              name: 'b',
              createdAt: '2026-11-22T02:00:00Z',
              kept: true,
              reasons: ['newest', 'daily'],
            },
            { id: '1', name: 'a', createdAt: '2026-11-21T02:00:00Z', kept: false, reasons: ['superseded'] },
          ],
        },
      ],
    };
    const text = mount(RetentionPreview, { props: { preview }, global: { plugins: [i18n] } }).text();
    for (const words of language === 'en'
      ? ['1 stays, 1 goes', 'stays: the newest, daily', 'goes: no rule keeps it', 'auto_2026-11-23']
      : ['保留 1 个，删除 1 个', '保留：最新、每天', '删除：没有规则要保留它'])
      expect(text).toContain(words);
  });
});
