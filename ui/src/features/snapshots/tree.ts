/**
 * A machine's snapshots as rows of a drawing, the present among them. Pure.
 *
 * ```text
 *  lane 0   1
 *       ●          installed
 *       ├───●      before the experiment      (a branch, one lane further in)
 *       ●          updated
 *       ○          present
 * ```
 * Of several children one goes on in its parent's lane: the one the present came from, else the one that was worked on last. The
 * others are branches and stand before it, so a lane is never crossed: left of a row every lane passes through.
 */
import type { Snapshot, SnapshotId, SnapshotTree } from '@/api/client';

export interface TreeRow {
  /** None for the present. */
  readonly snapshot: Snapshot | undefined;
  readonly parent: SnapshotId | undefined;
  /** Generations above it, from 1: what assistive technology is told. */
  readonly level: number;
  readonly lane: number;
  /** How it hangs on what is above. */
  readonly above: 'nothing' | 'line' | 'branch';
  /** Its own lane goes on below. */
  readonly goesOn: boolean;
}

interface Node {
  readonly snapshot: Snapshot | undefined;
  readonly children: Node[];
  /** The newest instant in it; the present is newer than everything. */
  latest: number;
}

export function treeRows(tree: SnapshotTree): TreeRow[] {
  const nodes = new Map<SnapshotId, Node>();
  const roots: Node[] = [];
  for (const snapshot of tree.snapshots) {
    const node: Node = { snapshot, children: [], latest: Date.parse(snapshot.createdAt) };
    nodes.set(snapshot.id, node);
    const parent = snapshot.parent === null ? undefined : nodes.get(snapshot.parent);
    (parent?.children ?? roots).push(node);
  }
  const present: Node = { snapshot: undefined, children: [], latest: Number.POSITIVE_INFINITY };
  const current = tree.snapshots.find((snapshot) => snapshot.current);
  ((current && nodes.get(current.id)?.children) ?? roots).push(present);

  // Children come after their parents, so from the end each is complete when it is looked at.
  for (const node of [...nodes.values()].reverse())
    node.latest = Math.max(node.latest, ...node.children.map((child) => child.latest));
  const byLatest = (a: Node, b: Node) => a.latest - b.latest;

  const rows: TreeRow[] = [];
  const walk = (
    first: Node,
    lane: number,
    startLevel: number,
    hangs: TreeRow['above'],
    from?: SnapshotId,
  ) => {
    let node: Node | undefined = first;
    let above = hangs;
    let parent = from;
    for (let level = startLevel; node; level += 1) {
      const children: Node[] = node.children.toSorted(byLatest);
      const next: Node | undefined = children.pop();
      const { snapshot } = node;
      rows.push({ snapshot, parent, level, lane, above, goesOn: next !== undefined });
      for (const branch of children) walk(branch, lane + 1, level + 1, 'branch', snapshot?.id);
      parent = snapshot?.id;
      above = 'line';
      node = next;
    }
  };
  for (const root of roots.toSorted(byLatest)) walk(root, 0, 1, 'nothing');
  return rows;
}
