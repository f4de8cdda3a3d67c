/** Marks of axes: few, round, and on the clock of who looks. Pure. */
import type { MetricUnit } from '@/api/client';
import { formatDay, formatMonth, formatTime } from '@/shared/format';
import type { Range } from './span';

const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const STEPS = [
  MINUTE,
  2 * MINUTE,
  5 * MINUTE,
  10 * MINUTE,
  15 * MINUTE,
  30 * MINUTE,
  HOUR,
  2 * HOUR,
  3 * HOUR,
  6 * HOUR,
  12 * HOUR,
  DAY,
  2 * DAY,
  3 * DAY,
  4 * DAY,
  7 * DAY,
  14 * DAY,
  30 * DAY,
  61 * DAY,
  91 * DAY,
  122 * DAY,
];

export interface TimeTick {
  readonly at: number;
  readonly label: string;
}

/** Marks of a time axis, `most` at most. From a day on they stand at midnight, from a month on at its first day. */
export function timeTicks([from, to]: Range, most: number): TimeTick[] {
  const step = STEPS.find((one) => (to - from) / one <= most) ?? 182 * DAY;
  const ticks: TimeTick[] = [];
  const put = (date: Date, label: (at: number) => string): void => {
    const at = date.getTime() / 1000;
    if (at >= from && at <= to) ticks.push({ at, label: label(date.getTime()) });
  };
  const begin = new Date(from * 1000);
  const [year, month, day] = [begin.getFullYear(), begin.getMonth(), begin.getDate()];
  const over = (date: Date) => date.getTime() / 1000 > to;

  if (step >= 30 * DAY) {
    const months = Math.round(step / (30 * DAY));
    for (let n = 0; ; n += 1) {
      const date = new Date(year, Math.floor(month / months) * months + n * months, 1);
      if (over(date)) return ticks;
      put(date, formatMonth);
    }
  }
  if (step >= DAY) {
    for (let n = 0; ; n += step / DAY) {
      const date = new Date(year, month, day + n);
      if (over(date)) return ticks;
      put(date, (at) => formatDay(at, to * 1000));
    }
  }
  // Hour by hour of each day, so that a day of 23 or 25 hours has its marks at whole hours too.
  for (let n = 0; ; n += 1) {
    const midnight = new Date(year, month, day + n);
    if (over(midnight)) return ticks;
    for (let second = 0; second < DAY; second += step) {
      const date = new Date(year, month, day + n, 0, 0, second);
      if (over(date)) return ticks;
      put(date, second === 0 ? (at) => formatDay(at, to * 1000) : (at) => formatTime(at, 'short'));
    }
  }
}

/** Steps of 1, 2 and 5 times a power of ten, about three. */
function round(top: number, unit: number): number[] {
  const rough = top / unit / 3;
  const power = 10 ** Math.floor(Math.log10(Math.max(rough, 1e-6)));
  const step = ([1, 2, 5, 10].find((factor) => factor * power >= rough) ?? 10) * power * unit;
  const ticks: number[] = [];
  for (let tick = 0; tick <= top * 1.001; tick += step) ticks.push(tick);
  return ticks;
}

/** Marks of an axis in bytes: times a power of 1024, so that axes read 1 MB, 2 MB, 5 MB. */
export function byteTicks(top: number): number[] {
  return round(top, 1024 ** Math.max(0, Math.floor(Math.log(Math.max(1, top)) / Math.log(1024))));
}

/** Marks of any other axis. */
export function numberTicks(top: number): number[] {
  return round(top, 1);
}

/** The axis of a unit: its marks, and how high it is where nothing moves. */
export function axisOf(unit: MetricUnit): { ticks: (top: number) => number[]; least: number } {
  switch (unit) {
    case 'bytes':
    case 'bytes_per_second':
      return { ticks: byteTicks, least: 1024 };
    case 'percent':
      return { ticks: (top) => (top === 100 ? [0, 50, 100] : numberTicks(top)), least: 1 };
    default:
      return { ticks: numberTicks, least: 1 };
  }
}
