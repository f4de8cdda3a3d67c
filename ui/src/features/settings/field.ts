/**
 * One setting: shown as it is in force, changed as soon as its new value holds.
 *
 *   in force ──edit──▶ edited ──commit──▶ saving ──▶ in force
 *                        ▲                   └─────▶ refused (the reason stands at the field)
 */
import { computed, ref, shallowRef, watch, type ComputedRef, type Ref } from 'vue';
import { useI18n } from 'vue-i18n';
import { toApiError, type SettingOrigin, type Settings } from '@/api/client';
import { useSettings } from '@/api/stores';
import { useErrorText } from '@/shared/composables/errorText';
import { formatMiB } from '@/shared/format';
import { settingSchema, type Key } from './rules';

export interface SettingField<K extends Key> {
  /** '' while a number field is empty. */
  readonly value: Ref<Settings[K] | (Settings[K] extends number ? '' : never)>;
  readonly error: ComputedRef<string | undefined>;
  readonly origin: ComputedRef<SettingOrigin>;
  readonly saving: Ref<boolean>;
  /** Keeps what was edited, if it holds and differs. */
  readonly commit: () => Promise<void>;
}

export function useSettingField<K extends Key>(key: K): SettingField<K> {
  const { t } = useI18n();
  const store = useSettings();
  const errorText = useErrorText();

  const inForce = computed(() => store.view?.settings[key]);
  const value = ref(inForce.value) as SettingField<K>['value'];
  const saving = ref(false);
  const refused = shallowRef<string>();

  const problem = computed(() => {
    const result = settingSchema(key, (name, values) => t(name, values ?? {}), { mib: formatMiB })?.safeParse(
      value.value,
    );
    return result?.error?.issues[0]?.message;
  });

  watch(inForce, (now) => {
    value.value = now as never;
  });
  watch(value, () => (refused.value = undefined));

  async function commit(): Promise<void> {
    if (saving.value || problem.value !== undefined || value.value === inForce.value) return;
    saving.value = true;
    try {
      await store.change({ [key]: value.value });
    } catch (cause) {
      const { sentence, hint } = errorText(toApiError(cause).body);
      refused.value = hint ? `${sentence} ${hint}` : sentence;
    } finally {
      saving.value = false;
    }
  }

  return {
    value,
    error: computed(() => refused.value ?? problem.value),
    origin: computed(() => store.view?.origins[key] ?? 'default'),
    saving,
    commit,
  };
}
