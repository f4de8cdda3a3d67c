/** Operations back to a moment, page by page. */
import type { Operation, OperationId } from '@/api/client';

/** More are not asked for: a machine that did more than so many things has too many marks as it is. */
const PAGES = 8;

export async function pagesBack(
  ask: (before: OperationId | undefined) => Promise<readonly Operation[]>,
  since: number,
): Promise<Operation[]> {
  const found: Operation[] = [];
  for (let page = 0; page < PAGES; page += 1) {
    const next = await ask(found.at(-1)?.id);
    found.push(...next);
    const oldest = next.at(-1);
    if (!oldest || Date.parse(oldest.requestedAt) < since) break;
  }
  return found;
}
