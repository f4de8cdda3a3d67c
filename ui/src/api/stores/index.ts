/** What the engine told, kept for every page. Fed by the one event stream. */
import { events } from '@/api/client';
import { useMachines } from './machines';
import { useOperations } from './operations';
import { useSettings } from './settings';

export { useHost } from './host';
export { needsAttention, useMachines } from './machines';
export { isFinal, useOperations } from './operations';
export { useSettings } from './settings';

/** Fills the stores and keeps them, until the function it answers is called. */
export function followEngine(): () => void {
  const stores = [useMachines(), useOperations(), useSettings()];
  const loadAll = () => stores.forEach((store) => void store.load());
  const stopListening = events.listen({
    event: (event) => {
      for (const store of stores) store.apply(event);
    },
    resync: loadAll,
  });
  events.start();
  loadAll();
  return () => {
    stopListening();
    events.stop();
  };
}
