/** The newest operations, newest first, and those at work. Filled once, then kept by events. */
import { defineStore } from 'pinia';
import { computed, shallowRef } from 'vue';
import {
  call,
  toApiError,
  type ApiError,
  type Event,
  type Operation,
  type OperationId,
  type OperationStatus,
} from '@/api/client';

/** As many are kept here; older ones are asked for by the pages that show them. */
const KEPT = 200;

const FINAL: ReadonlySet<OperationStatus> = new Set<OperationStatus>([
  'succeeded',
  'failed',
  'cancelled',
  'interrupted',
]);

export function isFinal(operation: Operation): boolean {
  return FINAL.has(operation.status);
}

export const useOperations = defineStore('operations', () => {
  const recent = shallowRef<readonly Operation[]>([]);
  const loaded = shallowRef(false);
  const error = shallowRef<ApiError>();
  let generation = 0;
  let told: Map<OperationId, Operation> | undefined;

  const active = computed(() => recent.value.filter((operation) => !isFinal(operation)).reverse());

  function put(operation: Operation): void {
    const rest = recent.value;
    const at = rest.findIndex((other) => other.id === operation.id);
    if (at >= 0) {
      recent.value = rest.with(at, operation);
      return;
    }
    // Ids sort by time, and nearly every new one is the newest.
    const place = rest.findIndex((other) => other.id < operation.id);
    recent.value = rest.toSpliced(place < 0 ? rest.length : place, 0, operation).slice(0, KEPT);
  }

  async function load(): Promise<void> {
    const own = ++generation;
    const heard = (told = new Map<OperationId, Operation>());
    try {
      const answer = await call('operation.list', { limit: 50 });
      if (own !== generation) return;
      recent.value = [...answer].sort((a, b) => (a.id < b.id ? 1 : -1));
      for (const operation of heard.values()) put(operation);
      loaded.value = true;
      error.value = undefined;
    } catch (cause) {
      if (own === generation) error.value = toApiError(cause);
    }
    if (own === generation) told = undefined;
  }

  function apply(event: Event): void {
    if (event.type !== 'operation_changed') return;
    told?.set(event.operation.id, event.operation);
    put(event.operation);
  }

  return { recent, active, loaded, error, load, apply };
});
