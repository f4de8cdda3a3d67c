/** The zod schema of a machine's forwards, with the words for what is wrong. */
import { z } from 'zod';
import { forwardProblems, type ForwardProblem, type ForwardRow } from './rules';

type Translate = (key: string, values?: Record<string, unknown>) => string;

export function problemText(t: Translate, { problem, other }: ForwardProblem): string {
  return t(`forwards.problem.${problem}`, { row: (other ?? 0) + 1 });
}

export function forwardsSchema(t: Translate) {
  return z.custom<ForwardRow[]>(Array.isArray).superRefine((rows, context) => {
    for (const found of forwardProblems(rows)) {
      context.addIssue({ code: 'custom', path: [found.index, found.field], message: problemText(t, found) });
    }
  });
}
