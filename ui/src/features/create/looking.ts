/**
 * What is at a path, looked at while one chooses.
 *
 *   none ──path──▶ looking ──▶ known (the engine's answer) ──new path──▶ looking
 *                     └──────▶ failed (the engine's error)
 */
import { computed, onScopeDispose, shallowRef, watch, type ComputedRef, type ShallowRef } from 'vue';
import { toApiError, type ApiError } from '@/api/client';

/** Milliseconds without a keystroke before the file is looked at. */
const PAUSE = 300;

export interface Look<T> {
  readonly info: ShallowRef<T | undefined>;
  readonly error: ShallowRef<ApiError | undefined>;
  readonly looking: ComputedRef<boolean>;
  readonly again: () => void;
}

export function useLook<T>(path: () => string, ask: (path: string) => Promise<T>): Look<T> {
  const info = shallowRef<T>();
  const error = shallowRef<ApiError>();
  const asking = shallowRef(false);
  let generation = 0;
  let timer: ReturnType<typeof setTimeout> | undefined;

  async function look(own: number, file: string): Promise<void> {
    try {
      const answer = await ask(file);
      if (own === generation) info.value = answer;
    } catch (cause) {
      if (own === generation) error.value = toApiError(cause);
    }
    if (own === generation) asking.value = false;
  }

  function start(file: string, pause: number): void {
    generation += 1;
    clearTimeout(timer);
    info.value = undefined;
    error.value = undefined;
    asking.value = file.startsWith('/') && !file.endsWith('/');
    const own = generation;
    if (asking.value) timer = setTimeout(() => void look(own, file), pause);
  }

  watch(path, (file) => {
    start(file, PAUSE);
  });
  if (path() !== '') start(path(), 0);
  onScopeDispose(() => {
    generation += 1;
    clearTimeout(timer);
  });
  return {
    info,
    error,
    looking: computed(() => asking.value),
    again: () => {
      start(path(), 0);
    },
  };
}
