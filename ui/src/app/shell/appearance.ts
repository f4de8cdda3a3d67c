/** The choices of theme and language, as lines for menus and commands; choosing changes the setting. */
import { computed } from 'vue';
import { useI18n } from 'vue-i18n';
import { toApiError, type Language, type Theme } from '@/api/client';
import { useSettings } from '@/api/stores';
import { useErrorText } from '@/shared/composables/errorText';
import { showToast } from '@/shared/composables/toasts';
import type { IconName } from '@/shared/components/icons';

const THEMES: readonly { readonly id: Theme; readonly icon: IconName }[] = [
  { id: 'system', icon: 'circle-half' },
  { id: 'light', icon: 'sun' },
  { id: 'dark', icon: 'moon' },
];

/** Languages are named in themselves, so that whoever looks for his own can read it. */
const LANGUAGES: readonly { readonly id: Language; readonly name?: string }[] = [
  { id: 'system' },
  { id: 'en', name: 'English' },
  { id: 'zh-CN', name: '简体中文' },
];

export function useAppearance() {
  const { t } = useI18n();
  const settings = useSettings();
  const errorText = useErrorText();

  async function change(changes: { theme?: Theme; language?: Language }): Promise<void> {
    try {
      await settings.change(changes);
    } catch (cause) {
      const { sentence, hint } = errorText(toApiError(cause).body);
      showToast({ tone: 'error', text: sentence, hint });
    }
  }

  const themes = computed(() =>
    THEMES.map(({ id, icon }) => ({
      id,
      label: t(`shell.theme.${id}`),
      checked: settings.view?.settings.theme === id,
      icon,
      run: () => void change({ theme: id }),
    })),
  );
  const languages = computed(() =>
    LANGUAGES.map(({ id, name }) => ({
      id,
      label: name ?? t('shell.language.system'),
      checked: settings.view?.settings.language === id,
      run: () => void change({ language: id }),
    })),
  );
  return { themes, languages };
}
