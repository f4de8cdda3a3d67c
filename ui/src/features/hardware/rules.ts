/** What a machine's name and hardware may be: the engine's own rules, so that most mistakes show while one types. */
import { z } from 'zod';
import { nameProblem } from './name';

export const CPUS_MAX = 255;
export const MEMORY_MIN = 32;
export const MEMORY_MAX = 4 * 1024 * 1024;
export const DISK_MIN = 1 << 20;
export const DISK_MAX = 64 * 2 ** 40;

/** Marks of a slider for memory: powers of two and the halves between, up to `most`. */
export function memoryStops(most: number): number[] {
  const stops: number[] = [];
  for (let step = 128; step <= most; step *= 2) {
    stops.push(step);
    if (step >= 1024 && step * 1.5 <= most) stops.push(step * 1.5);
  }
  if (stops.at(-1) !== most && most > 0) stops.push(most);
  return stops;
}

type Translate = (key: string, values?: Record<string, unknown>) => string;

export function nameSchema(t: Translate, taken: ReadonlySet<string>) {
  return z.string().superRefine((name, context) => {
    const problem = nameProblem(name, taken);
    if (problem) context.addIssue({ code: 'custom', message: t(`hardware.problem.name.${problem}`) });
  });
}

function whole(from: number, to: number, message: () => string) {
  const holds = (value: unknown) => Number.isInteger(value) && Number(value) >= from && Number(value) <= to;
  return z.custom<number | ''>(holds, { error: message });
}

export function cpusSchema(t: Translate) {
  return whole(1, CPUS_MAX, () => t('hardware.problem.cpus', { most: CPUS_MAX }));
}

/** MiB; `most` is the host's memory. */
export function memorySchema(t: Translate, most: number, format: (mib: number) => string) {
  const top = Math.min(MEMORY_MAX, most);
  return whole(MEMORY_MIN, top, () =>
    t('hardware.problem.memory', { least: format(MEMORY_MIN), most: format(top) }),
  );
}
