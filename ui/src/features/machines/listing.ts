/**
 * Which machines are shown, and in what order. Filter and words live in the address, so that back, forward and links work; the
 * order is a choice of this device. The order is found anew when machines come or go or the question changes, not when a state
 * does: nothing jumps away under the pointer.
 */
import { useLocalStorage } from '@vueuse/core';
import { computed, shallowRef, watch } from 'vue';
import { useRoute, useRouter } from 'vue-router';
import type { VmId, VmState, VmView } from '@/api/client';
import { needsAttention, useMachines } from '@/api/stores';
import { matchScore } from '@/shared/composables/searchText';

export const filters = ['all', 'running', 'paused', 'stopped', 'attention'] as const;
export type Filter = (typeof filters)[number];

export const sortKeys = ['name', 'state', 'changed', 'memory'] as const;
export type SortKey = (typeof sortKeys)[number];

export type Layout = 'cards' | 'table';

export const groupings = ['none', 'group', 'tag'] as const;
export type Grouping = (typeof groupings)[number];

const LIVE: ReadonlySet<VmState> = new Set<VmState>([
  'starting',
  'running',
  'stopping',
  'adopting',
  'unresponsive',
]);

export function passes(vm: VmView, filter: Filter): boolean {
  if (filter === 'all') return true;
  if (filter === 'attention') return needsAttention(vm);
  if (filter === 'running') return LIVE.has(vm.state);
  if (filter === 'paused') return vm.state === 'paused' || vm.state === 'suspended';
  return vm.state === 'stopped' || vm.state === 'crashed' || vm.state === 'broken';
}

/** What is most worth looking at comes first. */
const STATE_ORDER: readonly VmState[] = [
  'broken',
  'crashed',
  'unresponsive',
  'running',
  'starting',
  'stopping',
  'adopting',
  'paused',
  'suspended',
  'stopped',
];

const compare: Record<SortKey, (a: VmView, b: VmView) => number> = {
  name: () => 0, // the store's own order
  state: (a, b) => STATE_ORDER.indexOf(a.state) - STATE_ORDER.indexOf(b.state),
  changed: (a, b) => Date.parse(b.stateSince) - Date.parse(a.stateSince),
  memory: (a, b) => b.spec.memory - a.spec.memory,
};

const byWord = new Intl.Collator(undefined, { numeric: true, sensitivity: 'base' });

/** The heading a machine stands under; '' is the end, where those without one stand. */
export function headingOf(vm: VmView, grouping: Grouping): string {
  if (grouping === 'group') return vm.meta.group ?? '';
  return grouping === 'tag' ? (vm.meta.tags[0] ?? '') : '';
}

/** Under headings, favourites first in each; else as `key` says. */
export function sorted(list: readonly VmView[], key: SortKey, grouping: Grouping = 'none'): VmView[] {
  return [...list].sort((a, b) => {
    const [one, other] = [headingOf(a, grouping), headingOf(b, grouping)];
    if (one !== other) return one === '' ? 1 : other === '' ? -1 : byWord.compare(one, other);
    return Number(b.meta.favourite) - Number(a.meta.favourite) || compare[key](a, b);
  });
}

/** What a machine is found by. */
export function wordsOf(vm: VmView): string {
  const { tags, group } = vm.meta;
  return [vm.name, vm.description, vm.osType ?? '', group ?? '', ...tags].join(' ');
}

/** The list cut at its headings; one part without a heading where nothing is grouped. */
export function parts(
  list: readonly VmView[],
  grouping: Grouping,
): { readonly heading: string | undefined; readonly from: number; readonly machines: VmView[] }[] {
  const found: { heading: string | undefined; from: number; machines: VmView[] }[] = [];
  list.forEach((vm, at) => {
    const heading = grouping === 'none' ? undefined : headingOf(vm, grouping);
    const last = found.at(-1);
    if (last && last.heading === heading) last.machines.push(vm);
    else found.push({ heading, from: at, machines: [vm] });
  });
  return found;
}

export function useListing() {
  const machines = useMachines();
  const route = useRoute();
  const router = useRouter();
  const sortKey = useLocalStorage<SortKey>('voidvm.machines.sort', 'name');
  const layout = useLocalStorage<Layout>('voidvm.machines.layout', 'cards');
  const grouping = useLocalStorage<Grouping>('voidvm.machines.grouping', 'none');

  const filter = computed<Filter>({
    get: () => filters.find((name) => name === route.query.state) ?? 'all',
    set: (name) =>
      void router.replace({ query: { ...route.query, state: name === 'all' ? undefined : name } }),
  });
  const words = computed<string>({
    get: () => (typeof route.query.q === 'string' ? route.query.q : ''),
    set: (text) => void router.replace({ query: { ...route.query, q: text === '' ? undefined : text } }),
  });

  const counts = computed(() => {
    const found: Record<Filter, number> = { all: 0, running: 0, paused: 0, stopped: 0, attention: 0 };
    for (const vm of machines.list) for (const name of filters) if (passes(vm, name)) found[name] += 1;
    return found;
  });

  /** What somebody changes by hand, and may see move at once. */
  const marks = computed(() =>
    machines.list.map((vm) => `${String(vm.meta.favourite)} ${headingOf(vm, grouping.value)}`).join('\n'),
  );
  const order = shallowRef<readonly VmId[]>([]);
  watch(
    [() => machines.order, sortKey, filter, words, grouping, marks],
    () => {
      order.value = sorted(machines.list, sortKey.value, grouping.value).map((vm) => vm.id);
    },
    { immediate: true },
  );

  const shown = computed(() =>
    order.value.flatMap((id) => {
      const vm = machines.byId.get(id);
      if (!vm || !passes(vm, filter.value)) return [];
      return words.value === '' || matchScore(wordsOf(vm), words.value) > 0 ? vm : [];
    }),
  );

  return { machines, filter, words, sortKey, layout, grouping, counts, shown };
}
