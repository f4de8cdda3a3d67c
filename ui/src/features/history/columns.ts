/** The engine's history as columns for a graph: what was not measured is a gap, never a zero and never a line drawn across. Pure. */
import type { Metric, MetricHistory, MetricSeries, MetricSubject } from '@/api/client';

/** Seconds between two readings: of a machine, and of the host and its pools. */
const READ = { vm: 15, host: 30, pool: 30 } as const;

/** A value of a graph: `null` is a gap, `undefined` a place without a point through which the line goes. */
export type Value = number | null | undefined;

/** Seconds since 1970, where each step begins. */
export function timesOf({ from, step, points }: MetricHistory): number[] {
  const begin = Date.parse(from) / 1000;
  return Array.from({ length: points }, (_, at) => begin + at * step);
}

/**
 * Where steps are shorter than the time between two readings, some steps have none though nothing is missing: between two values
 * that are no further apart than two readings may be, the line goes on.
 */
export function bridged(
  values: readonly (number | null)[],
  step: number,
  kind: MetricSubject['kind'],
): Value[] {
  const most = Math.floor((2 * READ[kind]) / step) - 1;
  const column: Value[] = [...values];
  if (most < 1) return column;
  let last = -1;
  values.forEach((value, at) => {
    if (value === null) return;
    if (last >= 0 && at - last - 1 <= most) column.fill(undefined, last + 1, at);
    last = at;
  });
  return column;
}

export function sameSubject(a: MetricSubject, b: MetricSubject): boolean {
  return a.kind === b.kind && (a.kind === 'host' || ('id' in b && a.id === b.id));
}

export function seriesOf(
  history: MetricHistory,
  subject: MetricSubject,
  metric: Metric,
): MetricSeries | undefined {
  return history.series.find((one) => one.metric === metric && sameSubject(one.subject, subject));
}

/** The value of now: the newest one, where it is no older than two readings or steps; nothing for what is not measured any more. */
export function newest(values: readonly Value[], step: number, kind: MetricSubject['kind']): number | null {
  const most = Math.max(1, Math.ceil((2 * READ[kind]) / step));
  for (let back = 1; back <= most + 1; back += 1) {
    const value = values.at(-back);
    if (value != null) return value;
  }
  return null;
}

/** The indices of values with a gap on both sides: no line shows them, so each is a point. */
export function alone(values: readonly Value[]): number[] {
  const found: number[] = [];
  let before: Value = null;
  values.forEach((value, at) => {
    if (value === undefined) return;
    if (value !== null && before === null) {
      let next = at + 1;
      while (values[next] === undefined && next < values.length) next += 1;
      if ((values[next] ?? null) === null) found.push(at);
    }
    before = value;
  });
  return found;
}
