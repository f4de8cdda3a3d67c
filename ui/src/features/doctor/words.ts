/** A finding in the words of the chosen language: by check and finding, with its facts; the engine's English where there is none. */
import { useI18n } from 'vue-i18n';
import type { Check } from '@/api/client';

export interface CheckWords {
  readonly title: string;
  readonly sentence: string;
  readonly remedy: string | undefined;
}

export function useCheckWords(): (check: Check) => CheckWords {
  const { t, te } = useI18n();
  return (check) => {
    const key = `doctor.finding.${check.id}.${check.finding}`;
    const has = te(`${key}.sentence`);
    const remedy = te(`${key}.remedy`) ? t(`${key}.remedy`, check.facts) : undefined;
    return {
      title: t(`doctor.check.${check.id}`),
      sentence: has ? t(`${key}.sentence`, check.facts) : check.message,
      remedy: has ? remedy : (check.remedy ?? undefined),
    };
  };
}
