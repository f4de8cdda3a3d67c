/** One clock for everything that shows a relative time: ticks only while something on the page looks at it. */
import { onScopeDispose, shallowRef, type Ref } from 'vue';

const TICK = 10_000;
const now = shallowRef(Date.now());
let watchers = 0;
let timer: ReturnType<typeof setInterval> | undefined;

/** The time in milliseconds, renewed every ten seconds. */
export function useNow(): Readonly<Ref<number>> {
  now.value = Date.now();
  watchers += 1;
  timer ??= setInterval(() => {
    now.value = Date.now();
  }, TICK);
  onScopeDispose(() => {
    watchers -= 1;
    if (watchers === 0) {
      clearInterval(timer);
      timer = undefined;
    }
  });
  return now;
}
