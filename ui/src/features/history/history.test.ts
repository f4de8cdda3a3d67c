import { describe, expect, it } from 'vitest';
import type { MetricHistory, Operation } from '@/api/client';
import { makeOperation } from '../../../tests/unit/examples';
import { axisOf, byteTicks, numberTicks, timeTicks } from './axis';
import { alone, bridged, newest, sameSubject, seriesOf, timesOf } from './columns';
import { isoInstant, toCsv } from './csv';
import { graphMarks, markNear } from './marks';
import { topOf } from './plot';
import { CLOSEST, dragged, LENGTH, pace, scaled, within, type Range } from './span';

const NOON = Date.parse('2026-06-15T12:00:00Z') / 1000;
const HOUR = 3600;
const DAY = 24 * HOUR;

describe('history as columns', () => {
  const history: MetricHistory = {
    from: '2026-06-15T12:00:00Z',
    step: 15,
    points: 3,
    series: [
      {
        subject: { kind: 'vm', id: 'a' },
        metric: 'cpu',
        unit: 'percent',
        mean: [1, null, 3],
        peak: [2, null, 9],
      },
      { subject: { kind: 'host' }, metric: 'cpu', unit: 'percent', mean: [4, 5, 6], peak: [4, 5, 6] },
    ],
  };

  it('has an instant for each step and finds a line by whose and what', () => {
    expect(timesOf(history)).toEqual([NOON, NOON + 15, NOON + 30]);
    expect(seriesOf(history, { kind: 'host' }, 'cpu')?.mean).toEqual([4, 5, 6]);
    expect(seriesOf(history, { kind: 'vm', id: 'b' }, 'cpu')).toBeUndefined();
    expect(sameSubject({ kind: 'vm', id: 'a' }, { kind: 'pool', id: 'a' })).toBe(false);
  });

  it('keeps gaps, and goes on between readings that are neighbours', () => {
    // A machine is read every 15 s: one empty slot is none, two are a gap.
    expect(bridged([1, null, 3, null, null, 6], 15, 'vm')).toEqual([1, undefined, 3, null, null, 6]);
    // The host every 30 s: every other slot of 15 s is empty.
    expect(bridged([1, null, 3, null, null, null, null, 8], 15, 'host')).toEqual([
      1,
      undefined,
      3,
      null,
      null,
      null,
      null,
      8,
    ]);
    expect(bridged([1, null, 3], 60, 'host')).toEqual([1, null, 3]);
    expect(bridged([null, null], 15, 'vm')).toEqual([null, null]);
  });

  it('tells the newest value, but not of what ended', () => {
    expect(newest([1, 2, null], 15, 'vm')).toBe(2);
    expect(newest([1, 2, null, null, null, null], 15, 'vm')).toBeNull();
    expect(newest([1, null, undefined, null], 15, 'host')).toBe(1);
    expect(newest([], 15, 'vm')).toBeNull();
  });

  it('finds values that no line would show', () => {
    expect(alone([1, null, 3, 4, null, 6])).toEqual([0, 5]);
    expect(alone([null, 2, undefined, 4, null])).toEqual([]);
    expect(alone([null, 2, undefined, null])).toEqual([1]);
  });
});

describe('marks of axes', () => {
  it('have a few round ones', () => {
    for (const ticksOf of [byteTicks, numberTicks]) {
      for (const top of [1, 900, 1024, 5_000_000, 3.3 * 2 ** 30]) {
        const ticks = ticksOf(top);
        expect(ticks[0]).toBe(0);
        expect(ticks.length, String(top)).toBeGreaterThanOrEqual(2);
        expect(ticks.length, String(top)).toBeLessThanOrEqual(5);
        expect(ticks.at(-1)).toBeLessThanOrEqual(top * 1.001);
      }
    }
    expect(axisOf('percent').ticks(100)).toEqual([0, 50, 100]);
    expect(axisOf('percent').ticks(4.4)).toEqual([0, 2, 4]);
  });

  it('have room for more than is said to be the most', () => {
    expect(topOf({ max: 256, least: 1 }, 200)).toBe(256);
    expect(topOf({ max: 256, least: 1 }, 300)).toBeGreaterThan(300);
    expect(topOf({ max: undefined, least: 1024 }, 0)).toBe(1024);
  });

  it('stand on the clock, and are never too many', () => {
    for (const length of [300, 900, HOUR, 5 * HOUR, DAY, 3 * DAY, 7 * DAY, 30 * DAY, 100 * DAY, 365 * DAY]) {
      const ticks = timeTicks([NOON - length, NOON], 6);
      expect(ticks.length, String(length)).toBeGreaterThanOrEqual(2);
      expect(ticks.length, String(length)).toBeLessThanOrEqual(7);
      for (const { at } of ticks) {
        const date = new Date(at * 1000);
        expect(date.getSeconds()).toBe(0);
        if (length > HOUR) expect(date.getMinutes() % 30).toBe(0);
        if (length > 7 * DAY) expect(date.getHours()).toBe(0);
        if (length > 200 * DAY) expect(date.getDate()).toBe(1);
      }
      expect([...ticks].sort((a, b) => a.at - b.at)).toEqual(ticks);
    }
  });

  it('are there on a narrow graph too', () => {
    for (const length of Object.values(LENGTH))
      expect(timeTicks([NOON - length, NOON - length * 0.1], 4).length, String(length)).toBeGreaterThan(1);
  });

  it('tell the day where one begins', () => {
    const midnight = new Date(2026, 5, 15).getTime() / 1000;
    const labels = timeTicks([midnight - 6 * HOUR, midnight + 6 * HOUR], 6).map(({ label }) => label);
    expect(labels).toContain('Jun 15');
    expect(labels).toContain('22:00');
  });
});

describe('zooming', () => {
  const whole: Range = [0, DAY];

  it('stays within what there is', () => {
    expect(within([-10, 50], whole)).toEqual([0, 60]);
    expect(within([DAY - 10, DAY + 50], whole)).toEqual([DAY - 60, DAY]);
  });

  it('keeps a moment where it is, and ends at everything', () => {
    expect(scaled(whole, 0.5, 0, whole)).toEqual([0, DAY / 2]);
    expect(scaled([0, DAY / 2], 0.5, DAY / 4, whole)).toEqual([DAY / 8, (3 * DAY) / 8]);
    expect(scaled([0, DAY / 2], 2, DAY / 4, whole)).toBeUndefined();
    const closest = scaled([0, 130], 0.01, 65, whole);
    expect(closest && closest[1] - closest[0]).toBe(CLOSEST);
  });

  it('takes what was dragged over in either direction, and no slip of the hand', () => {
    expect(dragged(5000, 1000, 80, whole)).toEqual([1000, 5000]);
    expect(dragged(5000, 5100, 3, whole)).toBeUndefined();
    const least = dragged(5000, 5002, 8, whole);
    expect(least && least[1] - least[0]).toBe(CLOSEST);
  });

  it('asks anew no sooner than there can be more', () => {
    expect([15, 60, 900, 7200].map(pace)).toEqual([15, 60, 300, 300]);
    expect(LENGTH.day).toBe(DAY);
  });
});

describe('a table for other programs', () => {
  const table = {
    times: [NOON, NOON + 15, NOON + 30],
    columns: [
      { name: 'CPU, used', unit: 'percent' as const, values: [1.5, null, 3] },
      { name: 'Read by "a"', unit: 'bytes_per_second' as const, values: [0, undefined, 2 ** 40] },
      { name: 'Load', unit: 'number' as const, values: [null, 0.25, null] },
    ],
  };

  it('is RFC 4180 with instants in UTC, and gaps are empty', () => {
    expect(toCsv(table, 'Time', [NOON, NOON + 30])).toBe(
      [
        'Time (UTC),"CPU, used (%)","Read by ""a"" (B/s)",Load',
        '2026-06-15T12:00:00Z,1.5,0,',
        '2026-06-15T12:00:15Z,,,0.25',
        '2026-06-15T12:00:30Z,3,1099511627776,',
        '',
      ].join('\r\n'),
    );
  });

  it('has what is shown and no more', () => {
    expect(toCsv(table, 'Time', [NOON + 10, NOON + 20]).split('\r\n')).toHaveLength(3);
    expect(isoInstant(NOON + 0.5)).toBe('2026-06-15T12:00:00.500Z');
  });
});

describe('what happened, on a graph', () => {
  const at = (second: number, changes: Partial<Operation>): Operation =>
    makeOperation({ finishedAt: new Date((NOON + second) * 1000).toISOString(), ...changes });
  const done = [
    at(60, { id: '3', kind: 'start' }),
    at(0, { id: '1', kind: 'snapshot_create' }),
    at(30, { id: '2', kind: 'stop', status: 'failed' }),
    at(90, { id: '4', kind: 'pause' }),
    at(95, { id: '5', kind: 'snapshot_delete' }),
  ];
  const marks = graphMarks(done, ({ kind }) => kind);

  it('is starts, stops, snapshots and failures, by time', () => {
    expect(marks.map(({ words, tone }) => [words, tone])).toEqual([
      ['snapshot_create', 'busy'],
      ['stop', 'trouble'],
      ['start', 'running'],
    ]);
  });

  it('is found near a moment, trouble first', () => {
    expect(markNear(marks, NOON + 58, 5)?.words).toBe('start');
    expect(markNear(marks, NOON + 58, 40)?.words).toBe('stop');
    expect(markNear(marks, NOON + 500, 5)).toBeUndefined();
  });
});
