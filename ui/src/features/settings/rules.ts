/** What each setting may hold: the engine's own bounds. */
import { z, type ZodType } from 'zod';
import type { Settings } from '@/api/client';

export type Key = keyof Settings;
type Translate = (key: string, values?: Record<string, unknown>) => string;

/** Units in which a bound is told. */
interface Format {
  readonly mib: (mib: number) => string;
}

const BOUNDS = {
  defaultMemory: [32, 4 * 1024 * 1024],
  defaultCpus: [1, 255],
  maxConcurrentStarts: [1, 64],
  maxConcurrentStops: [1, 64],
  preparedSnapshots: [0, 20],
  stopTimeoutSeconds: [1, 3600],
  maxDiskLayers: [8, 150],
  localApiPort: [1024, 65_535],
} as const satisfies Partial<Record<Key, readonly [number, number]>>;

function isHttps(text: string): boolean {
  try {
    return new URL(text).protocol === 'https:';
  } catch {
    return false;
  }
}

/** The schema of one setting; undefined where every value of its control holds. */
export function settingSchema(key: Key, t: Translate, format: Format): ZodType | undefined {
  if (key in BOUNDS) {
    const [least, most] = BOUNDS[key as keyof typeof BOUNDS];
    const tell = (value: number) => (key === 'defaultMemory' ? format.mib(value) : String(value));
    const message = t('settings.problem.between', { least: tell(least), most: tell(most) });
    return z.custom((value) => Number.isInteger(value) && Number(value) >= least && Number(value) <= most, {
      error: message,
    });
  }
  if (key === 'qemuBinary') {
    return z
      .string()
      .refine((path) => path === '' || path.startsWith('/'), { error: t('create.problem.relative') });
  }
  if (key === 'updateEndpoint') {
    return z.string().refine((url) => url === '' || isHttps(url), { error: t('settings.problem.https') });
  }
  return undefined;
}

/** The variable of the environment that sets it. */
export function variableOf(key: Key): string {
  return `VOIDVM_${key.replaceAll(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`;
}

/** Its name in config.toml. */
export function fileKeyOf(key: Key): string {
  return key.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
