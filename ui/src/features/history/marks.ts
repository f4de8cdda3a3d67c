/** What happened, as marks on graphs. Pure. */
import type { Operation } from '@/api/client';
import { eventTone, type EventTone } from '@/features/operations';

export interface GraphMark {
  readonly id: string;
  /** Seconds since 1970. */
  readonly at: number;
  readonly tone: EventTone;
  readonly words: string;
}

/** The marks of operations, oldest first. */
export function graphMarks(
  operations: readonly Operation[],
  words: (operation: Operation) => string,
): GraphMark[] {
  return operations
    .flatMap((operation): GraphMark[] => {
      const tone =
        operation.kind === 'snapshot_create' && operation.status === 'succeeded'
          ? 'busy'
          : eventTone(operation);
      const at = Date.parse(operation.finishedAt ?? operation.startedAt ?? operation.requestedAt) / 1000;
      return tone ? [{ id: operation.id, at, tone, words: words(operation) }] : [];
    })
    .sort((a, b) => a.at - b.at);
}

/** The mark nearest to a moment, where one is no further than `reach` seconds; trouble before the rest. */
export function markNear(marks: readonly GraphMark[], at: number, reach: number): GraphMark | undefined {
  let best: GraphMark | undefined;
  for (const mark of marks) {
    if (Math.abs(mark.at - at) > reach) continue;
    const closer = best === undefined || Math.abs(mark.at - at) < Math.abs(best.at - at);
    const graver = mark.tone === 'trouble' && best?.tone !== 'trouble';
    if (graver || (closer && (mark.tone === 'trouble' || best?.tone !== 'trouble'))) best = mark;
  }
  return best;
}
