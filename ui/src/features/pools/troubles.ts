/** The pools that need a look, kept as events tell; for pages that warn early. */
import { computed, type ComputedRef } from 'vue';
import { call, type Pool } from '@/api/client';
import { useLiveQuery } from '@/shared/composables/liveQuery';

export function usePoolTroubles(): ComputedRef<readonly Pool[]> {
  const { data } = useLiveQuery(() => call('pool.list'), ['storage_changed']);
  return computed(() => (data.value ?? []).filter((pool) => pool.health !== 'ok'));
}
