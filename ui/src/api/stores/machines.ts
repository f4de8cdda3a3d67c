/**
 * Every machine, as the engine shows it. Filled once, then kept by events; the order is by name and changes only when machines
 * come, go or are renamed, so a list holds still while its machines work.
 */
import { defineStore } from 'pinia';
import { computed, shallowReactive, shallowRef } from 'vue';
import {
  call,
  toApiError,
  type ApiError,
  type Event,
  type VmId,
  type VmState,
  type VmView,
} from '@/api/client';

const byName = new Intl.Collator(undefined, { numeric: true, sensitivity: 'base' });

/** States in which a person has to look. */
const TROUBLE: ReadonlySet<VmState> = new Set<VmState>(['crashed', 'unresponsive', 'broken']);

export function needsAttention(vm: VmView): boolean {
  return vm.attention !== null || TROUBLE.has(vm.state);
}

export const useMachines = defineStore('machines', () => {
  const byId = shallowReactive(new Map<VmId, VmView>());
  const order = shallowRef<readonly VmId[]>([]);
  const loaded = shallowRef(false);
  const error = shallowRef<ApiError>();
  /** What events told while a list was on its way: newer than the list. */
  let told: Map<VmId, 'changed' | 'removed'> | undefined;

  const list = computed(() => order.value.flatMap((id) => byId.get(id) ?? []));

  function sort(): void {
    order.value = [...byId.values()]
      .sort((a, b) => byName.compare(a.name, b.name) || (a.id < b.id ? -1 : 1))
      .map((vm) => vm.id);
  }

  function put(vm: VmView): void {
    const before = byId.get(vm.id);
    byId.set(vm.id, vm);
    if (before?.name !== vm.name) sort();
  }

  async function load(): Promise<void> {
    const own = (told = new Map());
    try {
      const answer = await call('vm.list');
      if (told !== own) return; // a newer question is on its way
      const present = new Set(answer.map((vm) => vm.id));
      for (const id of [...byId.keys()]) {
        if (!present.has(id) && own.get(id) !== 'changed') byId.delete(id);
      }
      for (const vm of answer) {
        if (!own.has(vm.id)) byId.set(vm.id, vm);
      }
      sort();
      loaded.value = true;
      error.value = undefined;
    } catch (cause) {
      if (told === own) error.value = toApiError(cause);
    }
    if (told === own) told = undefined;
  }

  function apply(event: Event): void {
    if (event.type === 'vm_changed') {
      told?.set(event.vm.id, 'changed');
      put(event.vm);
    } else if (event.type === 'vm_removed') {
      told?.set(event.id, 'removed');
      if (byId.delete(event.id)) sort();
    }
  }

  return { byId, order, list, loaded, error, load, apply };
});
