import { describe, expect, it } from 'vitest';
import type { Operation, Snapshot, SnapshotTree } from '@/api/client';
import { freeSnapshotName, snapshotNameSchema } from '@/features/vm';
import { makeOperation, makeRun, makeSpec } from '../../../tests/unit/examples';
import {
  dayMarks,
  EDGE,
  lineMarks,
  missingRuns,
  nearestMark,
  nextPicture,
  PICTURE,
  placeMarks,
} from './line';
import { blockedBy, forkNames } from './rules';
import { treeRows } from './tree';

const HOUR = 3_600_000;
const BASE = Date.parse('2026-06-01T12:00:00Z');

function snapshot(id: string, hours: number, changes: Partial<Snapshot> = {}): Snapshot {
  return {
    id,
    vmId: 'vm',
    name: id,
    description: '',
    tags: [],
    reason: 'manual',
    keep: false,
    groupSnapshot: null,
    parent: null,
    current: false,
    createdAt: new Date(BASE + hours * HOUR).toISOString(),
    memory: true,
    consistency: 'whole',
    pauseMs: 20,
    totalMs: 1000,
    size: 1,
    frees: 1,
    spec: makeSpec(),
    trouble: null,
    ...changes,
  };
}

const treeOf = (...snapshots: Snapshot[]): SnapshotTree => ({ snapshots, unmerged: 0, depth: 1 });
const drawn = (tree: SnapshotTree) =>
  treeRows(tree).map(
    ({ snapshot: one, lane, above, goesOn, level }) =>
      `${one?.id ?? 'present'} ${String(lane)} ${above}${goesOn ? ' on' : ''} ${String(level)}`,
  );

describe('the tree', () => {
  it('keeps a chain in one lane, the present at its end', () => {
    const tree = treeOf(snapshot('a', 0), snapshot('b', 1, { parent: 'a', current: true }));
    expect(drawn(tree)).toEqual(['a 0 nothing on 1', 'b 0 line on 2', 'present 0 line 3']);
  });

  it('goes on in its lane to the present; branches stand before it, one lane further in', () => {
    const tree = treeOf(
      snapshot('a', 0),
      snapshot('b', 1, { parent: 'a', current: true }),
      snapshot('c', 9, { parent: 'a' }),
      snapshot('d', 10, { parent: 'c' }),
    );
    expect(drawn(tree)).toEqual([
      'a 0 nothing on 1',
      'c 1 branch on 2',
      'd 1 line 3',
      'b 0 line on 2',
      'present 0 line 3',
    ]);
  });

  it('shows the present of a machine that came back between others', () => {
    const tree = treeOf(snapshot('a', 0, { current: true }), snapshot('b', 1, { parent: 'a' }));
    expect(drawn(tree)).toEqual(['a 0 nothing on 1', 'b 1 branch 2', 'present 0 line 2']);
  });

  it('has more than one root where the first was deleted, and a present that came from none', () => {
    const tree = treeOf(snapshot('a', 0), snapshot('b', 1));
    expect(drawn(tree)).toEqual(['a 0 nothing 1', 'b 0 nothing 1', 'present 0 nothing 1']);
    // A parent that is not there is no reason to lose a snapshot.
    expect(drawn(treeOf(snapshot('a', 0, { parent: 'gone' })))).toEqual([
      'a 0 nothing 1',
      'present 0 nothing 1',
    ]);
  });

  it('shows every snapshot once, each below its parent and lanes never crossed, whatever its shape', () => {
    let seed = 7;
    const random = (below: number) => (seed = (seed * 48_271) % 2_147_483_647) % below;
    for (let round = 0; round < 50; round += 1) {
      const all: Snapshot[] = [];
      for (let n = 0; n < 40; n += 1) {
        const parent = n > 0 && random(12) > 0 ? (all[random(n)]?.id ?? null) : null;
        all.push(snapshot(`s${String(n)}`, n, { parent }));
      }
      const rows = treeRows(treeOf(...all));
      const order = rows.map((row) => row.snapshot?.id);
      expect(new Set(order).size).toBe(all.length + 1);
      rows.forEach((row, at) => {
        if (row.parent !== undefined) expect(order.indexOf(row.parent)).toBeLessThan(at);
        // Left of a branch its parent's lane still goes on further down.
        if (row.lane > 0) {
          const below = rows.slice(at + 1).find(({ lane }) => lane < row.lane);
          expect(below?.lane).toBe(row.lane - 1);
          expect(below?.above).not.toBe('nothing');
        }
      });
    }
  });

  it('takes a chain of thousands', () => {
    const all = Array.from({ length: 5_000 }, (_, n) =>
      snapshot(`s${String(n)}`, n, n > 0 ? { parent: `s${String(n - 1)}` } : {}),
    );
    expect(treeRows(treeOf(...all))).toHaveLength(5_001);
  });
});

describe('the line', () => {
  const vm = { state: 'running', stateSince: new Date(BASE).toISOString() } as const;
  const operation = (kind: Operation['kind'], hours: number, status: Operation['status'] = 'succeeded') =>
    makeOperation({ kind, status, requestedAt: new Date(BASE + hours * HOUR).toISOString() });
  const now = BASE + 100 * HOUR;

  it('has snapshots and what happened in order, the present last', () => {
    const marks = lineMarks(
      vm,
      [snapshot('a', 5)],
      [
        operation('start', 6),
        operation('stop', 2),
        operation('pause', 3),
        operation('start', 4, 'cancelled'),
      ],
      [],
      now,
    );
    expect(marks.map(({ kind }) => kind)).toEqual(['event', 'snapshot', 'event', 'now']);
  });

  it('tells failures and crashes, of snapshots too', () => {
    const marks = lineMarks(
      { state: 'crashed', stateSince: new Date(BASE + 9 * HOUR).toISOString() },
      [],
      [
        operation('snapshot_create', 1, 'failed'),
        operation('snapshot_create', 2),
        operation('pause', 3, 'failed'),
      ],
      [],
      now,
    );
    expect(marks.map((mark) => (mark.kind === 'event' ? mark.tone : mark.kind))).toEqual([
      'trouble',
      'crash',
      'now',
    ]);
  });

  it('has backups that came about, and runs that left the machine without a snapshot', () => {
    const at = (hours: number) => new Date(BASE + hours * HOUR).toISOString();
    const failure = { code: 'disk_full', message: '', retryable: false, traceId: '' } as const;
    const machine = {
      vmId: 'vm',
      vmName: 'vm',
      snapshot: null,
      snapshotName: null,
      backup: null,
      skipped: null,
      attempts: 4,
      error: failure,
      pruned: [],
    };
    const runs = [
      makeRun({ id: 'ok', startedAt: at(1), machines: [{ ...machine, error: null, snapshot: 's' }] }),
      makeRun({ id: 'failed', startedAt: at(3), outcome: 'failed', machines: [machine] }),
      // Another machine's failure is no mark on this one's line.
      makeRun({
        id: 'other',
        startedAt: at(4),
        outcome: 'failed',
        machines: [
          { ...machine, vmId: 'b' },
          { ...machine, error: null, snapshot: 's' },
        ],
      }),
      makeRun({ id: 'overlap', startedAt: at(5), outcome: 'skipped', skipped: 'overlap' }),
      makeRun({ id: 'unchanged', startedAt: at(6), outcome: 'skipped', skipped: 'unchanged' }),
      makeRun({ id: 'cut', startedAt: at(7), outcome: 'interrupted' }),
    ];
    const missing = missingRuns('vm', 'nightly', runs);
    expect(missing.map(({ run }) => run.id)).toEqual(['failed', 'overlap', 'cut']);
    const marks = lineMarks(
      vm,
      [],
      [operation('backup_run', 2), operation('backup_run', 8, 'failed')],
      missing,
      now,
    );
    expect(marks.map(({ kind }) => kind)).toEqual([
      'backup',
      'missing',
      'missing',
      'missing',
      'event',
      'now',
    ]);
  });

  it('never lets pictures cover one another, and fills the room there is', () => {
    const close = Array.from({ length: 12 }, (_, n) => snapshot(`s${String(n)}`, n / 60));
    const marks = lineMarks(vm, close, [operation('start', 0.05), operation('stop', 50)], [], now);
    const { places, width } = placeMarks(marks, 900);
    const pictures = places.filter((_, at) => marks[at]?.kind !== 'event');
    pictures
      .slice(1)
      .forEach((place, at) => expect(place - (pictures[at] ?? 0)).toBeGreaterThanOrEqual(PICTURE));
    expect(places.toSorted((a, b) => a - b)).toEqual(places);
    expect(width).toBe((places.at(-1) ?? 0) + EDGE);
    const few = placeMarks(lineMarks(vm, [snapshot('a', 0)], [], [], now), 900);
    expect(few).toEqual({ places: [EDGE, 900 - EDGE], width: 900 });
    expect(placeMarks(lineMarks(vm, [], [], [], now), 900).places).toEqual([900 - EDGE]);
  });

  it('finds the nearest, and goes from picture to picture', () => {
    const marks = lineMarks(vm, [snapshot('a', 0), snapshot('b', 50)], [operation('start', 1)], [], now);
    const layout = placeMarks(marks, 900);
    expect(layout.places.map((place) => nearestMark(layout, place))).toEqual([0, 1, 2, 3]);
    expect(nearestMark(layout, -50)).toBe(0);
    expect(nextPicture(marks, 0, 1)).toBe(2);
    expect(nextPicture(marks, 3, -1)).toBe(2);
    expect(nextPicture(marks, 3, 1)).toBe(3);
  });

  it('names each day once, where there is room', () => {
    const marks = lineMarks(vm, [snapshot('a', 0), snapshot('b', 1), snapshot('c', 48)], [], [], now);
    const days = dayMarks(marks, placeMarks(marks, 900));
    expect(days).toHaveLength(2);
  });
});

describe('what can be done with a snapshot', () => {
  const vm = { state: 'running', operation: null } as const;
  const trouble = { code: 'internal', message: '', retryable: false, traceId: '' } as const;

  it('is blocked by its trouble, by other work, and by states nobody is sure of', () => {
    expect(blockedBy('restore', vm, { trouble: null })).toBeUndefined();
    expect(blockedBy('restore', vm, { trouble })).toBe('trouble');
    expect(blockedBy('fork', vm, { trouble })).toBe('trouble');
    expect(blockedBy('delete', vm, { trouble })).toBeUndefined();
    expect(blockedBy('delete', { ...vm, operation: makeOperation() }, { trouble: null })).toBe('busy');
    expect(blockedBy('restore', { ...vm, state: 'stopping' }, { trouble: null })).toBe('state');
    expect(blockedBy('compare', { ...vm, state: 'adopting' }, { trouble })).toBeUndefined();
  });

  it('numbers forks only where there are several', () => {
    expect(forkNames('a', 1)).toEqual(['a']);
    expect(forkNames('a', 3)).toEqual(['a-1', 'a-2', 'a-3']);
  });
});

describe('a snapshot’s name', () => {
  const words = (time: string) => `snapshot ${time}`;
  const noon = new Date(2026, 10, 22, 9, 5);

  it('is the minute’s, numbered where that is taken', () => {
    expect(freeSnapshotName(words, noon, new Set())).toBe('snapshot 2026-11-22 09:05');
    expect(freeSnapshotName(words, noon, new Set(['snapshot 2026-11-22 09:05']))).toBe(
      'snapshot 2026-11-22 09:05 (2)',
    );
  });

  it.each([
    ['', 'name'],
    [' a', 'name'],
    ['a\nb', 'name'],
    ['x'.repeat(101), 'name'],
    ['taken', 'taken'],
    ['“quoted” 快照', undefined],
  ])('%j: %s', (name, problem) => {
    const found = snapshotNameSchema((key) => key, new Set(['taken'])).safeParse(name).error?.issues[0]
      ?.message;
    expect(found).toBe(problem && `snapshots.problem.${problem}`);
  });
});
