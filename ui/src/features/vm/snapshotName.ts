/** What a snapshot may be called: the engine's own rules, so that most mistakes show while one types. */
import { z } from 'zod';

export const SNAPSHOT_NAME_MAX = 100;

type Translate = (key: string, values?: Record<string, unknown>) => string;

/** A name that is unique among `taken`, the names of the machine's other snapshots. */
export function snapshotNameSchema(t: Translate, taken: ReadonlySet<string>) {
  return z.string().superRefine((name, context) => {
    const length = [...name].length;
    const holds =
      name.trim() === name &&
      length >= 1 &&
      length <= SNAPSHOT_NAME_MAX &&
      !/[\p{Cc}\u202a-\u202e\u2066-\u2069]/u.test(name);
    if (!holds)
      context.addIssue({
        code: 'custom',
        message: t('snapshots.problem.name', { most: SNAPSHOT_NAME_MAX }),
      });
    else if (taken.has(name)) context.addIssue({ code: 'custom', message: t('snapshots.problem.taken') });
  });
}

/** The name of this minute, numbered where it is taken. */
export function freeSnapshotName(
  words: (time: string) => string,
  now: Date,
  taken: ReadonlySet<string>,
): string {
  const two = (value: number) => String(value).padStart(2, '0');
  const day = `${String(now.getFullYear())}-${two(now.getMonth() + 1)}-${two(now.getDate())}`;
  const name = words(`${day} ${two(now.getHours())}:${two(now.getMinutes())}`);
  for (let n = 1; ; n += 1) {
    const candidate = n === 1 ? name : `${name} (${String(n)})`;
    if (!taken.has(candidate)) return candidate;
  }
}
