/** Units that fields of a machine are given in. */
import type { Unit } from '@/shared/components/QuantityField.vue';

/** The base unit is MiB. */
export const MEMORY_UNITS: readonly Unit[] = [
  { name: 'MB', factor: 1 },
  { name: 'GB', factor: 1024 },
];

/** The base unit is the byte. */
export const DISK_UNITS: readonly Unit[] = [
  { name: 'MB', factor: 2 ** 20 },
  { name: 'GB', factor: 2 ** 30 },
  { name: 'TB', factor: 2 ** 40 },
];
