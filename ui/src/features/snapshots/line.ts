/**
 * A machine's past as marks on one line, and where each stands. Pure.
 *
 * The line is elastic: a week takes more room than an hour, but not a hundred times as much, and pictures never cover one another.
 */
import type { MachineRun, Operation, ScheduleRun, Snapshot, VmView } from '@/api/client';
import { eventTone, type EventTone } from '@/features/operations';

export type LineMark =
  | { readonly kind: 'snapshot'; readonly id: string; readonly at: number; readonly snapshot: Snapshot }
  | {
      readonly kind: 'event';
      readonly id: string;
      readonly at: number;
      readonly operation: Operation;
      readonly tone: EventTone;
    }
  | { readonly kind: 'backup'; readonly id: string; readonly at: number; readonly operation: Operation }
  | {
      readonly kind: 'missing';
      readonly id: string;
      readonly at: number;
      readonly run: MissingRun;
    }
  | { readonly kind: 'crash'; readonly id: string; readonly at: number }
  | { readonly kind: 'now'; readonly id: 'now'; readonly at: number };

/** A scheduled run after which the machine has no snapshot that it was to have. */
export interface MissingRun {
  readonly schedule: string;
  readonly run: ScheduleRun;
  readonly machine: MachineRun | undefined;
}

/** Runs of a schedule that left the machine without its snapshot: those that failed, were cut, or came too late or too early. */
export function missingRuns(vmId: string, schedule: string, runs: readonly ScheduleRun[]): MissingRun[] {
  return runs.flatMap((run) => {
    const machine = run.machines.find((one) => one.vmId === vmId);
    const cut = run.outcome === 'interrupted' && machine?.snapshot == null;
    const failed = run.outcome === 'failed' && (machine ? machine.error !== null : run.machines.length === 0);
    const left = run.skipped === 'overlap' || run.skipped === 'missed';
    return cut || failed || left ? [{ schedule, run, machine }] : [];
  });
}

/** Everything that happened, oldest first, the present last. */
export function lineMarks(
  vm: Pick<VmView, 'state' | 'stateSince'>,
  snapshots: readonly Snapshot[],
  operations: readonly Operation[],
  missing: readonly MissingRun[],
  now: number,
): LineMark[] {
  const marks: LineMark[] = snapshots.map((snapshot) => ({
    kind: 'snapshot',
    id: snapshot.id,
    at: Date.parse(snapshot.createdAt),
    snapshot,
  }));
  for (const operation of operations) {
    const tone = eventTone(operation);
    const at = Date.parse(operation.finishedAt ?? operation.startedAt ?? operation.requestedAt);
    if (operation.kind === 'backup_run' && operation.status === 'succeeded')
      marks.push({ kind: 'backup', id: operation.id, at, operation });
    else if (tone) marks.push({ kind: 'event', id: operation.id, at, operation, tone });
  }
  for (const run of missing)
    marks.push({ kind: 'missing', id: run.run.id, at: Date.parse(run.run.startedAt), run });
  if (vm.state === 'crashed') marks.push({ kind: 'crash', id: 'crash', at: Date.parse(vm.stateSince) });
  marks.sort((a, b) => a.at - b.at);
  marks.push({ kind: 'now', id: 'now', at: Math.max(now, marks.at(-1)?.at ?? now) });
  return marks;
}

/** Pixels from the line's ends to the middle of what stands there. */
export const EDGE = 72;
/** Between the middles of two pictures. */
export const PICTURE = 120;
/** Between any two marks. */
const TICK = 14;
/** How much room each doubling of the time between two marks takes. */
const DOUBLING = 7;

export interface LineLayout {
  /** Where each mark's middle stands. */
  readonly places: readonly number[];
  readonly width: number;
}

export function placeMarks(marks: readonly LineMark[], least: number): LineLayout {
  const places: number[] = [];
  let lastPicture = Number.NEGATIVE_INFINITY;
  marks.forEach((mark, at) => {
    const before = marks[at - 1];
    const minutes = before ? Math.max(0, mark.at - before.at) / 60_000 : 0;
    let place = before ? (places[at - 1] ?? EDGE) + TICK + DOUBLING * Math.log2(1 + minutes) : EDGE;
    if (mark.kind === 'snapshot' || mark.kind === 'now') {
      place = Math.max(place, lastPicture + PICTURE);
      lastPicture = place;
    }
    places.push(place);
  });
  const last = places.at(-1) ?? EDGE;
  const stretch = last > EDGE ? Math.max(1, (least - 2 * EDGE) / (last - EDGE)) : 1;
  const stretched = places.map((place) => Math.round(EDGE + (place - EDGE) * stretch));
  const width = Math.max(least, (stretched.at(-1) ?? EDGE) + EDGE);
  // A line with one mark alone: it stands at the end, where the present belongs.
  return { places: marks.length === 1 ? [width - EDGE] : stretched, width };
}

/** The mark nearest to a place; pictures are easier to hit than ticks are. */
export function nearestMark({ places }: LineLayout, x: number): number {
  let best = 0;
  places.forEach((place, at) => {
    if (Math.abs(place - x) < Math.abs((places[best] ?? 0) - x)) best = at;
  });
  return best;
}

/** The next mark with a picture in a direction; the same where there is none. */
export function nextPicture(marks: readonly LineMark[], from: number, step: 1 | -1): number {
  for (let at = from + step; at >= 0 && at < marks.length; at += step) {
    const kind = marks[at]?.kind;
    if (kind === 'snapshot' || kind === 'now') return at;
  }
  return from;
}

/** The days written under the line: where one begins, as far as they leave each other room. */
export function dayMarks(marks: readonly LineMark[], { places }: LineLayout): { at: number; x: number }[] {
  const ROOM = 96;
  const days: { at: number; x: number }[] = [];
  let day = '';
  marks.forEach((mark, index) => {
    const own = new Date(mark.at).toDateString();
    const x = places[index] ?? 0;
    const last = days.at(-1);
    if (own === day || mark.kind === 'now' || (last && x - last.x < ROOM)) return;
    day = own;
    days.push({ at: mark.at, x });
  });
  return days;
}
