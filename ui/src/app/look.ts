/**
 * Light or dark, and the language: from the settings, remembered on this device so that the first frame already has them.
 */
import { usePreferredDark } from '@vueuse/core';
import { computed, shallowRef, watch, watchEffect } from 'vue';
import type { Language, Theme } from '@/api/client';
import { useSettings } from '@/api/stores';
import { useLanguage } from './i18n';

const KEY = 'voidvm.look';

interface Look {
  readonly theme: Theme;
  readonly language: Language;
}

function remembered(): Look {
  try {
    const stored = JSON.parse(localStorage.getItem(KEY) ?? '{}') as Partial<Look>;
    return { theme: stored.theme ?? 'system', language: stored.language ?? 'system' };
  } catch {
    return { theme: 'system', language: 'system' };
  }
}

/** Applies the remembered look, then follows the settings. Resolves when the texts are there. */
export async function followLook(): Promise<void> {
  const settings = useSettings();
  const look = shallowRef(remembered());
  const dark = usePreferredDark();
  const theme = computed(() =>
    look.value.theme === 'system' ? (dark.value ? 'dark' : 'light') : look.value.theme,
  );

  watchEffect(() => {
    document.documentElement.dataset.bsTheme = theme.value;
  });
  watch(
    () => settings.view?.settings,
    (now) => {
      if (!now) return;
      look.value = { theme: now.theme, language: now.language };
      localStorage.setItem(KEY, JSON.stringify(look.value));
    },
  );
  watch(
    () => look.value.language,
    (language) => void useLanguage(language),
  );
  await useLanguage(look.value.language);
}
