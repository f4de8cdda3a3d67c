/** True once `waiting` has been true for `delay` milliseconds without a break: what is quick shows no skeleton. */
import { onScopeDispose, readonly, shallowRef, watch, type Ref } from 'vue';

export function useAfterDelay(waiting: () => boolean, delay = 150): Readonly<Ref<boolean>> {
  const shown = shallowRef(false);
  let timer: ReturnType<typeof setTimeout> | undefined;
  watch(
    waiting,
    (now) => {
      clearTimeout(timer);
      if (now)
        timer = setTimeout(() => {
          shown.value = true;
        }, delay);
      else shown.value = false;
    },
    { immediate: true },
  );
  onScopeDispose(() => {
    clearTimeout(timer);
  });
  return readonly(shown);
}
