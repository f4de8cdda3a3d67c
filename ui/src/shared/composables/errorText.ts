/** An error in the words of the chosen language: by its code; English shows the engine's own sentence, which knows the facts. */
import { useI18n } from 'vue-i18n';
import type { ErrorBody } from '@/api/client';

export interface ErrorWords {
  readonly sentence: string;
  readonly hint: string | undefined;
}

export function useErrorText(): (error: ErrorBody) => ErrorWords {
  const { t, te, locale } = useI18n();
  return (error) => {
    // In English the engine's sentence is the better one: it holds the names and the numbers.
    if (locale.value === 'en' && error.message !== '') return { sentence: error.message, hint: error.hint };
    const sentence = t(`errors.${error.code}.sentence`);
    const hint = `errors.${error.code}.hint`;
    return { sentence, hint: te(hint) ? t(hint) : undefined };
  };
}
