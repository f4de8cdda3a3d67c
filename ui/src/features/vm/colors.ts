/** The colours a machine's icon can have; the engine knows the same words. */
export const COLORS = ['grey', 'red', 'orange', 'yellow', 'green', 'teal', 'blue', 'purple'] as const;
export type Color = (typeof COLORS)[number];

/** The CSS colour of a machine's icon; undefined where it has none of its own. */
export function colorOf(color: string | null): string | undefined {
  return COLORS.some((known) => known === color) ? `var(--v-mark-${color ?? ''})` : undefined;
}
