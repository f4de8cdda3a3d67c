/** The language of the surface: its texts arrive with the language that is chosen, and only that one. */
import { createI18n } from 'vue-i18n';
import { formatLocale } from '@/shared/format';
import { languages, type LanguageCode, type Messages } from '@/locales/schema';
import type { Language } from '@/api/client';

const load: Record<LanguageCode, () => Promise<{ default: Messages }>> = {
  en: () => import('@/locales/en'),
  'zh-CN': () => import('@/locales/zh-CN'),
};

export const i18n = createI18n<[Messages], LanguageCode, false>({
  legacy: false,
  locale: 'en',
  fallbackWarn: false,
  missingWarn: import.meta.env.DEV,
  messages: {} as Record<LanguageCode, Messages>,
});

/** The language that `wish` means here. */
export function resolveLanguage(
  wish: Language,
  preferred: readonly string[] = navigator.languages,
): LanguageCode {
  if (wish !== 'system') return wish;
  for (const tag of preferred) {
    const base = tag.toLowerCase();
    if (base.startsWith('zh')) return 'zh-CN';
    if (base.startsWith('en')) return 'en';
  }
  return languages[0];
}

/** Shows the surface in this language. */
export async function useLanguage(wish: Language): Promise<void> {
  const code = resolveLanguage(wish);
  if (!i18n.global.availableLocales.includes(code)) {
    i18n.global.setLocaleMessage(code, (await load[code]()).default);
  }
  i18n.global.locale.value = code;
  formatLocale.value = code;
  document.documentElement.lang = code;
}
