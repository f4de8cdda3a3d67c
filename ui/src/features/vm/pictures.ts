/**
 * Small pictures of the machines' screens, asked for only while somebody can see them. At most two questions are under way, so a
 * page of forty machines does not drown the engine; the newest answer is kept per machine.
 */
import { onScopeDispose, shallowReactive, watch } from 'vue';
import { call, type VmId } from '@/api/client';

/** Milliseconds between two pictures of the same live machine. */
const PERIOD = 4_000;
/** What is scrolled past in less than this, in milliseconds, is not asked for. */
const SETTLED = 120;
const AT_ONCE = 2;
/** Pictures kept for machines out of sight. */
const KEPT = 200;

interface Kept {
  readonly url: string;
  readonly width: number;
  readonly height: number;
  readonly at: string;
}

const pictures = shallowReactive(new Map<VmId, Kept | null>());
const waiting: VmId[] = [];
const under = new Set<VmId>();

export function pictureOf(id: VmId): Kept | null | undefined {
  return pictures.get(id);
}

async function ask(id: VmId): Promise<void> {
  under.add(id);
  try {
    const answer = await call('vm.thumbnail', { id });
    pictures.delete(id);
    pictures.set(
      id,
      answer && {
        url: `data:image/png;base64,${answer.png}`,
        width: answer.width,
        height: answer.height,
        at: answer.at,
      },
    );
    const [oldest] = pictures.keys();
    if (pictures.size > KEPT && oldest !== undefined) pictures.delete(oldest);
  } catch {
    // A picture that cannot be had is no matter to speak of: the last one, or none, stays.
  }
  under.delete(id);
  next();
}

function next(): void {
  while (under.size < AT_ONCE) {
    const id = waiting.shift();
    if (id === undefined) return;
    void ask(id);
  }
}

function want(id: VmId): void {
  if (under.has(id) || waiting.includes(id)) return;
  waiting.push(id);
  next();
}

function unwant(id: VmId): void {
  const at = waiting.indexOf(id);
  if (at >= 0) waiting.splice(at, 1);
}

/** Keeps a machine's picture fresh while `visible`: again and again while `live`, once otherwise. */
export function usePicture(id: () => VmId, visible: () => boolean, live: () => boolean): void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  watch(
    [id, visible, live],
    ([now, seen, fresh], [before]) => {
      clearTimeout(timer);
      if (before !== undefined) unwant(before);
      if (!seen) return;
      const look = () => {
        if (document.visibilityState === 'visible') want(now);
        if (fresh) timer = setTimeout(look, PERIOD);
      };
      timer = setTimeout(look, SETTLED);
    },
    { immediate: true },
  );
  onScopeDispose(() => {
    clearTimeout(timer);
    unwant(id());
  });
}
