/**
 * The newest readings of a machine while its component lives and `active` says somebody looks. Asking keeps the engine's reading
 * at once a second, so nothing is asked for what nobody sees.
 */
import { onScopeDispose, shallowRef, watch, type ShallowRef } from 'vue';
import { call, type VmId, type VmSample } from '@/api/client';

/** What is scrolled past in less than this, in milliseconds, is not asked for. */
const SETTLED = 120;

export function useSamples(
  id: () => VmId,
  active: () => boolean,
  options: { readonly period: number; readonly kept: number },
): ShallowRef<readonly VmSample[]> {
  const samples = shallowRef<readonly VmSample[]>([]);
  let timer: ReturnType<typeof setTimeout> | undefined;
  let generation = 0;

  async function read(own: number): Promise<void> {
    if (document.visibilityState === 'visible') {
      const after = samples.value.at(-1)?.at;
      try {
        const news = await call('vm.metrics', { id: id(), ...(after === undefined ? {} : { after }) });
        if (own !== generation) return;
        if (news.length > 0) samples.value = [...samples.value, ...news].slice(-options.kept);
      } catch {
        // A machine that ended meanwhile has no readings: the curve simply stops.
        if (own !== generation) return;
      }
    }
    timer = setTimeout(() => void read(own), options.period);
  }

  watch(
    [id, active],
    ([now, on], [before]) => {
      generation += 1;
      clearTimeout(timer);
      if (now !== before || !on) samples.value = [];
      if (!on) return;
      const own = generation;
      timer = setTimeout(() => void read(own), SETTLED);
    },
    { immediate: true },
  );
  onScopeDispose(() => {
    generation += 1;
    clearTimeout(timer);
  });
  return samples;
}
