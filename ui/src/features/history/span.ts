/** Stretches of time that are looked at, and what zooming makes of them. Pure; instants are seconds since 1970. */

export type Range = readonly [from: number, to: number];

export const SPANS = ['live', 'quarter', 'hour', 'day', 'week', 'month', 'year'] as const;
export type Span = (typeof SPANS)[number];

const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** How long each is, in seconds. */
export const LENGTH: Readonly<Record<Span, number>> = {
  live: 5 * MINUTE,
  quarter: 15 * MINUTE,
  hour: HOUR,
  day: DAY,
  week: 7 * DAY,
  month: 30 * DAY,
  year: 365 * DAY,
};

/** No graph shows less than this: the engine's finest value is of 15 s. */
export const CLOSEST = 2 * MINUTE;

/** `range` moved and cut so that it lies within `whole`. */
export function within([from, to]: Range, whole: Range): Range {
  const length = Math.min(to - from, whole[1] - whole[0]);
  const begin = Math.min(Math.max(from, whole[0]), whole[1] - length);
  return [begin, begin + length];
}

/** The range a factor longer (or shorter, below 1), with `around` at the same place of it; undefined once all of `whole` is in it. */
export function scaled(range: Range, factor: number, around: number, whole: Range): Range | undefined {
  const length = Math.max(CLOSEST, (range[1] - range[0]) * factor);
  if (length >= whole[1] - whole[0]) return undefined;
  const share = (around - range[0]) / (range[1] - range[0]);
  return within([around - share * length, around + (1 - share) * length], whole);
}

/** What was dragged over, never closer than can be looked; undefined where it was a slip of the hand. */
export function dragged(from: number, to: number, pixels: number, whole: Range): Range | undefined {
  if (pixels < 6) return undefined;
  const [begin, end] = from < to ? [from, to] : [to, from];
  const middle = (begin + end) / 2;
  const half = Math.max(CLOSEST, end - begin) / 2;
  return within([middle - half, middle + half], whole);
}

/** Seconds after which what is shown is asked for anew: not before there can be more of it. */
export function pace(step: number): number {
  return Math.min(300, Math.max(15, step));
}
