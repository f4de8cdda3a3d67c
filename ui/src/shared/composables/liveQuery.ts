/**
 * A question to the engine that is asked again when an event makes its answer stale, and after a loss of the stream.
 *
 * Events come in bursts (work on a hundred files): one question follows a burst, at most one every `PAUSE`. The answer before stands
 * until the new one is there, so nothing flickers.
 */
import { onScopeDispose } from 'vue';
import { events, type Event } from '@/api/client';
import { useQuery, type Query } from './query';

/** Milliseconds a burst is waited for. */
const PAUSE = 150;

export function useLiveQuery<T>(
  ask: () => Promise<T>,
  stale: readonly Event['type'][] | ((event: Event) => boolean),
): Query<T> {
  const query = useQuery(ask);
  let timer: ReturnType<typeof setTimeout> | undefined;

  function askSoon(): void {
    timer ??= setTimeout(() => {
      timer = undefined;
      void query.run();
    }, PAUSE);
  }

  const stop = events.listen({
    event: (event) => {
      if (typeof stale === 'function' ? stale(event) : stale.includes(event.type)) askSoon();
    },
    resync: askSoon,
  });
  onScopeDispose(() => {
    stop();
    clearTimeout(timer);
  });
  void query.run();
  return query;
}
