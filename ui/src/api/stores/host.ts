/** The host's load. Asked for only while something on the page shows it; keeps the last few minutes for the curves. */
import { defineStore } from 'pinia';
import { onScopeDispose, shallowRef } from 'vue';
import { call, toApiError, type ApiError, type HostStats } from '@/api/client';

/** Milliseconds between two readings. */
const PERIOD = 2_000;
/** Readings kept: four minutes. */
const KEPT = 120;

export const useHost = defineStore('host', () => {
  const stats = shallowRef<HostStats>();
  const history = shallowRef<readonly HostStats[]>([]);
  const error = shallowRef<ApiError>();
  let watchers = 0;
  let timer: ReturnType<typeof setTimeout> | undefined;

  async function read(): Promise<void> {
    clearTimeout(timer);
    timer = undefined;
    if (document.visibilityState === 'visible') {
      try {
        const reading = await call('system.stats');
        stats.value = reading;
        history.value = [...history.value.slice(1 - KEPT), reading];
        error.value = undefined;
      } catch (cause) {
        error.value = toApiError(cause);
      }
    }
    if (watchers > 0 && timer === undefined) timer = setTimeout(() => void read(), PERIOD);
  }

  /** Keeps the readings coming for as long as the caller's component lives. */
  function watchHost(): void {
    watchers += 1;
    if (watchers === 1) void read();
    onScopeDispose(() => {
      watchers -= 1;
      if (watchers === 0) {
        clearTimeout(timer);
        timer = undefined;
      }
    });
  }

  return { stats, history, error, read, watchHost };
});
