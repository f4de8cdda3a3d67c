/** Quantities and times in the words of the chosen language. Binary multiples with the units people use, as in the engine. */
import { shallowRef } from 'vue';

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'] as const;

/** The language of everything formatted; the app sets it with the language of its texts. */
export const formatLocale = shallowRef('en');

const cache = new Map<string, Intl.NumberFormat | Intl.DateTimeFormat | Intl.RelativeTimeFormat>();

function cached<T extends Intl.NumberFormat | Intl.DateTimeFormat | Intl.RelativeTimeFormat>(
  kind: string,
  make: (locale: string) => T,
): T {
  const key = `${formatLocale.value}/${kind}`;
  let format = cache.get(key) as T | undefined;
  if (!format) {
    format = make(formatLocale.value);
    cache.set(key, format);
  }
  return format;
}

function number(value: number, digits: number): string {
  return cached(
    `n${String(digits)}`,
    (locale) => new Intl.NumberFormat(locale, { maximumFractionDigits: digits }),
  ).format(value);
}

/** `512 B`, `1.5 GB`; one decimal below ten of a unit at most. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (Math.abs(value) >= 1023.5 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${number(value, unit === 0 || Math.abs(value) >= 100 ? 0 : 1)} ${UNITS[unit] ?? ''}`;
}

/** Mebibytes as the largest unit that fits. */
export function formatMiB(mib: number): string {
  return formatBytes(mib * 1_048_576);
}

/** A share of a whole, 0 to 100. */
export function formatPercent(percent: number): string {
  return `${number(percent, percent > 0 && percent < 1 ? 1 : 0)}%`;
}

/** A rate in bytes a second. */
export function formatRate(bytesPerSecond: number): string {
  return `${formatBytes(bytesPerSecond)}/s`;
}

/** A plain number, with as many decimals as its size leaves of use. */
export function formatNumber(value: number): string {
  return number(value, Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2);
}

/** How many in a second. */
export function formatPerSecond(value: number): string {
  return `${formatNumber(value)}/s`;
}

/** A short time with its fractions: `0.34 ms`. */
export function formatMilliseconds(value: number): string {
  return `${formatNumber(value)} ms`;
}

/** A whole number with the digits grouped. */
export function formatCount(value: number): string {
  return number(value, 0);
}

const STEPS: readonly (readonly [Intl.RelativeTimeFormatUnit, number])[] = [
  ['year', 31_536_000],
  ['month', 2_592_000],
  ['day', 86_400],
  ['hour', 3_600],
  ['minute', 60],
];

/** `5 min. ago`, `in 2 hr.`; under 45 seconds is `now`. */
export function formatRelative(at: number, now: number): string {
  const format = cached(
    'r',
    (locale) => new Intl.RelativeTimeFormat(locale, { numeric: 'auto', style: 'short' }),
  );
  const seconds = (at - now) / 1000;
  if (Math.abs(seconds) < 45) return format.format(0, 'second');
  for (const [unit, size] of STEPS) {
    if (Math.abs(seconds) >= size || unit === 'minute') {
      return format.format(Math.round(seconds / size) || Math.sign(seconds), unit);
    }
  }
  return format.format(Math.round(seconds), 'second');
}

/** The exact date and time. */
export function formatDateTime(at: number): string {
  return cached(
    'd',
    (locale) => new Intl.DateTimeFormat(locale, { dateStyle: 'medium', timeStyle: 'medium' }),
  ).format(at);
}

/** The day alone: `Nov 22`, with its year where that is another one than `now`'s. */
export function formatDay(at: number, now: number): string {
  const year = new Date(at).getFullYear() === new Date(now).getFullYear() ? undefined : 'numeric';
  return cached(
    `day${year ?? ''}`,
    (locale) => new Intl.DateTimeFormat(locale, { month: 'short', day: 'numeric', year }),
  ).format(at);
}

/** The month alone: `Nov`; the year at its beginning. */
export function formatMonth(at: number): string {
  const date = new Date(at);
  return date.getMonth() === 0
    ? cached('year', (locale) => new Intl.DateTimeFormat(locale, { year: 'numeric' })).format(at)
    : cached('month', (locale) => new Intl.DateTimeFormat(locale, { month: 'short' })).format(at);
}

/** Day and time of day, to the minute: `Nov 22, 14:05`. */
export function formatMoment(at: number): string {
  return cached(
    'moment',
    (locale) =>
      new Intl.DateTimeFormat(locale, {
        month: 'short',
        day: 'numeric',
        hour: '2-digit',
        minute: '2-digit',
        hourCycle: 'h23',
      }),
  ).format(at);
}

/** The time of day: `14:05:09`, or `14:05`. */
export function formatTime(at: number, precision: 'exact' | 'short' = 'exact'): string {
  const options: Intl.DateTimeFormatOptions = { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' };
  return cached(
    `t${precision}`,
    (locale) =>
      new Intl.DateTimeFormat(locale, precision === 'exact' ? { ...options, second: '2-digit' } : options),
  ).format(at);
}

/** Weekday, day and time on the clock of a time zone: `Sun, Nov 22, 02:00`; nothing where the zone is not known here. */
export function formatInZone(at: number, timeZone: string): string | undefined {
  try {
    return cached(
      `z${timeZone}`,
      (locale) =>
        new Intl.DateTimeFormat(locale, {
          weekday: 'short',
          month: 'short',
          day: 'numeric',
          hour: '2-digit',
          minute: '2-digit',
          hourCycle: 'h23',
          timeZone,
        }),
    ).format(at);
  } catch {
    return undefined;
  }
}

/** The name of a day of the week, 0 for Monday. */
export function formatWeekday(day: number): string {
  // The first of January 2024 was a Monday.
  return cached(
    'weekday',
    (locale) => new Intl.DateTimeFormat(locale, { weekday: 'long', timeZone: 'UTC' }),
  ).format(Date.UTC(2024, 0, 1 + day));
}

/** Short things one after the other. */
export function formatList(items: readonly string[]): string {
  return items.join(formatLocale.value.startsWith('zh') ? '、' : ', ');
}

/** How long something took: `340 ms`, `2.4 s`, `3 min 5 s`. */
export function formatDuration(milliseconds: number): string {
  const unit = (value: number, name: string, digits = 0) =>
    cached(
      `u${name}${String(digits)}`,
      (locale) => new Intl.NumberFormat(locale, { style: 'unit', unit: name, maximumFractionDigits: digits }),
    ).format(value);
  if (milliseconds < 1_000) return unit(Math.round(milliseconds), 'millisecond');
  if (milliseconds < 60_000) return unit(milliseconds / 1_000, 'second', 1);
  const minutes = Math.floor(milliseconds / 60_000);
  if (minutes < 60)
    return `${unit(minutes, 'minute')} ${unit(Math.floor((milliseconds % 60_000) / 1_000), 'second')}`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${unit(hours, 'hour')} ${unit(minutes % 60, 'minute')}`;
  return `${unit(Math.floor(hours / 24), 'day')} ${unit(hours % 24, 'hour')}`;
}

/** How old something is or how long it may take, without parts that are zero: `3 min`, `2 hr 5 min`, `1 day`. */
export function formatAge(milliseconds: number): string {
  const unit = (value: number, name: string) =>
    cached(
      `u${name}0`,
      (locale) => new Intl.NumberFormat(locale, { style: 'unit', unit: name, maximumFractionDigits: 0 }),
    ).format(value);
  const seconds = Math.round(milliseconds / 1_000);
  const parts: [number, string][] =
    seconds < 3_600
      ? [
          [Math.floor(seconds / 60), 'minute'],
          [seconds % 60, 'second'],
        ]
      : seconds < 172_800
        ? [
            [Math.floor(seconds / 3_600), 'hour'],
            [Math.floor((seconds % 3_600) / 60), 'minute'],
          ]
        : [
            [Math.floor(seconds / 86_400), 'day'],
            [Math.floor((seconds % 86_400) / 3_600), 'hour'],
          ];
  const told = parts.filter(([value]) => value > 0).map(([value, name]) => unit(value, name));
  return told.length > 0 ? told.join(' ') : unit(0, 'second');
}
