/** Readings as columns for a graph: what is missing is a gap (null), never a zero and never a line drawn across. */
import type { VmSample } from '@/api/client';

export type Pick = (sample: VmSample) => number | null;

export interface Columns {
  /** Seconds since 1970, ascending. */
  readonly times: number[];
  readonly values: (number | null)[][];
}

/** Seconds between two readings that are still neighbours: the engine's slowest pace is 15 s. */
const NEIGHBOURS = 20;

export function toColumns(samples: readonly VmSample[], picks: readonly Pick[]): Columns {
  const times: number[] = [];
  const values = picks.map((): (number | null)[] => []);
  for (const sample of samples) {
    const at = Date.parse(sample.at) / 1000;
    const before = times.at(-1);
    if (before !== undefined && at <= before) continue;
    if (before !== undefined && at - before > NEIGHBOURS) {
      times.push(before + 1);
      for (const column of values) column.push(null);
    }
    times.push(at);
    picks.forEach((pick, index) => values[index]?.push(pick(sample)));
  }
  return { times, values };
}

/** Whether a reading of this kind was ever had. */
export function known(samples: readonly VmSample[], pick: Pick): boolean {
  return samples.some((sample) => pick(sample) !== null);
}

/** The newest value that is known. */
export function newest(samples: readonly VmSample[], pick: Pick): number | null {
  const last = samples.at(-1);
  return last ? pick(last) : null;
}
