/** The look in use, for what is drawn on a canvas and cannot follow the style sheet by itself. */
import { useMutationObserver } from '@vueuse/core';
import { shallowRef, type ShallowRef } from 'vue';

export function useThemeName(): ShallowRef<string> {
  const read = () => document.documentElement.dataset.bsTheme ?? 'light';
  const name = shallowRef(read());
  useMutationObserver(document.documentElement, () => (name.value = read()), {
    attributeFilter: ['data-bs-theme'],
  });
  return name;
}
