/**
 * The time a page shows: one of a few lengths up to now, kept in the address (`?time=day`), and within it what was zoomed to. One for
 * all graphs of a page.
 */
import { computed, shallowRef, watch, type ComputedRef, type ShallowRef } from 'vue';
import { useRoute, useRouter } from 'vue-router';
import { LENGTH, scaled, within, type Range, type Span } from './span';

export interface TimeView {
  readonly spans: readonly Span[];
  readonly span: ComputedRef<Span>;
  readonly choose: (span: Span) => void;
  /** What is zoomed to; without, everything up to now. */
  readonly zoom: ShallowRef<Range | undefined>;
  /** All that can be looked at now. */
  readonly whole: () => Range;
  readonly zoomTo: (range: Range | undefined) => void;
  /** Longer or shorter by a factor, around a moment or the middle. */
  readonly scale: (factor: number, around?: number) => void;
  /** Earlier or later by a share of what is shown. */
  readonly move: (share: number) => void;
}

/** `first` is shown where the address says none. */
export function useTime(spans: readonly Span[], first: Span): TimeView {
  const route = useRoute();
  const router = useRouter();
  const zoom = shallowRef<Range>();

  const span = computed(() => spans.find((one) => one === route.query.time) ?? first);
  function choose(chosen: Span): void {
    const query = { ...route.query, time: chosen };
    void router.replace({ query });
  }
  watch(span, () => (zoom.value = undefined));

  function whole(): Range {
    const now = Date.now() / 1000;
    return [now - LENGTH[span.value], now];
  }
  function scale(factor: number, around?: number): void {
    const all = whole();
    const range = zoom.value ?? all;
    zoom.value = scaled(range, factor, around ?? (range[0] + range[1]) / 2, all);
  }
  function move(share: number): void {
    const range = zoom.value;
    if (!range) return;
    const by = (range[1] - range[0]) * share;
    zoom.value = within([range[0] + by, range[1] + by], whole());
  }
  return { spans, span, choose, zoom, whole, zoomTo: (range) => (zoom.value = range), scale, move };
}
