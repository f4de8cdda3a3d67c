/**
 * One question to the engine and its three looks: loading, answer, error.
 *
 *   idle ──▶ loading ──▶ ready ◀──▶ refreshing
 *                 └────▶ failed ──▶ loading (retry)
 *
 * A newer question makes the answer of an older one void, so answers never arrive out of order.
 */
import {
  computed,
  getCurrentScope,
  onScopeDispose,
  shallowRef,
  type ComputedRef,
  type ShallowRef,
} from 'vue';
import type { ApiError } from '@/api/client';
import { toApiError } from '@/api/client';

export interface Query<T> {
  readonly data: ShallowRef<T | undefined>;
  readonly error: ShallowRef<ApiError | undefined>;
  /** The first answer is still to come. */
  readonly loading: ComputedRef<boolean>;
  readonly run: () => Promise<void>;
}

export function useQuery<T>(ask: () => Promise<T>): Query<T> {
  const data = shallowRef<T>();
  const error = shallowRef<ApiError>();
  const asking = shallowRef(false);
  let generation = 0;

  async function run(): Promise<void> {
    const own = ++generation;
    asking.value = true;
    try {
      const answer = await ask();
      if (own !== generation) return;
      data.value = answer;
      error.value = undefined;
    } catch (cause) {
      if (own !== generation) return;
      error.value = toApiError(cause);
    }
    asking.value = false;
  }

  // Outside of a component there is nothing to end with.
  if (getCurrentScope()) {
    onScopeDispose(() => {
      generation += 1;
    });
  }
  return { data, error, loading: computed(() => asking.value && data.value === undefined), run };
}
