/** The settings in force, and where each came from. */
import { defineStore } from 'pinia';
import { shallowRef } from 'vue';
import { call, toApiError, type ApiError, type Event, type Settings, type SettingsView } from '@/api/client';

export const useSettings = defineStore('settings', () => {
  const view = shallowRef<SettingsView>();
  const error = shallowRef<ApiError>();

  async function load(): Promise<void> {
    try {
      view.value = await call('settings.get');
      error.value = undefined;
    } catch (cause) {
      error.value = toApiError(cause);
    }
  }

  /** Changes some of the settings. Fails with an `ApiError` whose field names the wrong one. */
  async function change(changes: Partial<Settings>): Promise<void> {
    const current = view.value ?? (await call('settings.get'));
    view.value = await call('settings.update', { settings: { ...current.settings, ...changes } });
  }

  function apply(event: Event): void {
    if (event.type === 'settings_changed') void load();
  }

  return { view, error, load, change, apply };
});
