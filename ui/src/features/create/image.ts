/**
 * What the chosen file is, looked at while one chooses.
 *
 *   none ──path──▶ looking ──▶ known (the engine's answer) ──new path──▶ looking
 *                     └──────▶ failed (the engine's error)
 */
import { computed, onScopeDispose, shallowRef, watch, type ComputedRef, type ShallowRef } from 'vue';
import { call, toApiError, type ApiError, type ImageInfo } from '@/api/client';

/** Milliseconds without a keystroke before the file is looked at. */
const PAUSE = 300;

export interface ImageLook {
  readonly info: ShallowRef<ImageInfo | undefined>;
  readonly error: ShallowRef<ApiError | undefined>;
  readonly looking: ComputedRef<boolean>;
  readonly again: () => void;
}

export function useImage(path: () => string): ImageLook {
  const info = shallowRef<ImageInfo>();
  const error = shallowRef<ApiError>();
  const asking = shallowRef(false);
  let generation = 0;
  let timer: ReturnType<typeof setTimeout> | undefined;

  async function look(own: number, file: string): Promise<void> {
    try {
      const answer = await call('image.inspect', { path: file });
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

export type ImageTrouble = 'is_iso' | 'is_disk' | 'in_use' | 'not_writable';

/** Why a file that could be read does not fit what is wanted of it. */
export function imageTrouble(
  info: ImageInfo,
  wanted: { readonly source: 'iso' | 'image'; readonly usage: 'copy' | 'in_place' },
): ImageTrouble | undefined {
  if (wanted.source === 'iso') return info.kind === 'iso' ? undefined : 'is_disk';
  if (info.kind === 'iso') return 'is_iso';
  if (wanted.usage === 'copy') return undefined;
  if (info.usedBy !== null) return 'in_use';
  return info.writable ? undefined : 'not_writable';
}
