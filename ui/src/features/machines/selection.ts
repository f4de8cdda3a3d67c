/** Which machines are selected. Selection is by id, so it survives sorting and filtering; machines that are gone fall out. */
import { computed, shallowReactive, shallowRef } from 'vue';
import type { VmId, VmView } from '@/api/client';

export function useSelection(shown: () => readonly VmView[], find: (id: VmId) => VmView | undefined) {
  const ids = shallowReactive(new Set<VmId>());
  const anchor = shallowRef<VmId>();
  const machines = computed(() => [...ids].flatMap((id) => find(id) ?? []));

  function toggle(id: VmId): void {
    if (!ids.delete(id)) ids.add(id);
    anchor.value = id;
  }

  /** Everything from the last one toggled to this one. */
  function extendTo(id: VmId): void {
    const list = shown();
    const from = list.findIndex((vm) => vm.id === anchor.value);
    const to = list.findIndex((vm) => vm.id === id);
    if (from < 0 || to < 0) {
      toggle(id);
      return;
    }
    for (const vm of list.slice(Math.min(from, to), Math.max(from, to) + 1)) ids.add(vm.id);
  }

  function all(): void {
    for (const vm of shown()) ids.add(vm.id);
  }

  function clear(): void {
    ids.clear();
    anchor.value = undefined;
  }

  return { ids, machines, toggle, extendTo, all, clear };
}

export type Selection = ReturnType<typeof useSelection>;
