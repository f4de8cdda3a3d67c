/** The screens of snapshots. They never change, so each is asked for once, when it is first seen, and few at a time. */
import { shallowReactive } from 'vue';
import { call, type Snapshot, type SnapshotId } from '@/api/client';

interface Kept {
  readonly url: string;
  readonly width: number;
  readonly height: number;
}

const AT_ONCE = 2;
const KEPT = 200;

const pictures = shallowReactive(new Map<SnapshotId, Kept | null>());
const waiting: Snapshot[] = [];
const under = new Set<SnapshotId>();

/** None yet, or none at all. */
export function pictureOf(id: SnapshotId): Kept | null | undefined {
  return pictures.get(id);
}

async function ask({ id, vmId }: Snapshot): Promise<void> {
  under.add(id);
  try {
    const answer = await call('snapshot.picture', { id: vmId, snapshot: id });
    pictures.set(
      id,
      answer && {
        url: `data:image/png;base64,${answer.png}`,
        width: answer.width,
        height: answer.height,
      },
    );
    const [oldest] = pictures.keys();
    if (pictures.size > KEPT && oldest !== undefined) pictures.delete(oldest);
  } catch {
    // A picture that cannot be had is no matter to speak of; it is asked for again when it is next seen.
  }
  under.delete(id);
  next();
}

function next(): void {
  while (under.size < AT_ONCE) {
    const snapshot = waiting.shift();
    if (!snapshot) return;
    void ask(snapshot);
  }
}

/** Asks for the picture of a snapshot that somebody sees. */
export function wantPicture(snapshot: Snapshot): void {
  const { id } = snapshot;
  if (pictures.has(id) || under.has(id) || waiting.some((other) => other.id === id)) return;
  waiting.push(snapshot);
  next();
}
