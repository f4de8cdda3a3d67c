/** A live machine's newest load in words, for cards and rows. */
import { computed, type ComputedRef } from 'vue';
import type { VmSample, VmView } from '@/api/client';
import { useSamples } from '@/features/vm';
import { formatBytes, formatMiB, formatPercent } from '@/shared/format';

export interface Load {
  readonly cpu: string;
  readonly memory: string;
  readonly curve: readonly (number | null)[];
}

/** Readings a minute's curve has. */
export const CURVE = 30;

export function useLoad(vm: () => VmView, seen: () => boolean): ComputedRef<Load | undefined> {
  const samples = useSamples(
    () => vm().id,
    () => seen() && vm().state === 'running',
    { period: 2_000, kept: 60 },
  );
  return computed(() => {
    const last: VmSample | undefined = samples.value.at(-1);
    if (!last) return undefined;
    const used = last.memoryUsed ?? last.memoryResident;
    return {
      cpu: last.cpu === null ? '–' : formatPercent(last.cpu),
      memory:
        used === null ? formatMiB(vm().spec.memory) : `${formatBytes(used)} / ${formatMiB(vm().spec.memory)}`,
      curve: samples.value.slice(-CURVE).map((sample) => sample.cpu),
    };
  });
}
