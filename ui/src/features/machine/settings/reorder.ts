/**
 * The order of a list, by keyboard and by dragging. The handle of each member takes the arrow keys; dragging it over another
 * member puts it there.
 */
import { nextTick, shallowRef } from 'vue';
import { moved } from './edit';

export function useReorder<T>(
  list: () => T[],
  set: (list: T[]) => void,
  /** The handle of a member, to keep the focus on it. */
  handle: (at: number) => HTMLElement | null | undefined,
) {
  /** The one that is dragged. */
  const dragged = shallowRef<number>();

  function move(from: number, to: number): void {
    if (to >= 0 && to < list().length) set(moved(list(), from, to));
  }

  async function onKey(event: KeyboardEvent, at: number): Promise<void> {
    const to = event.key === 'ArrowUp' ? at - 1 : event.key === 'ArrowDown' ? at + 1 : undefined;
    if (to === undefined || to < 0 || to >= list().length) return;
    event.preventDefault();
    move(at, to);
    await nextTick();
    handle(to)?.focus();
  }

  function onDragStart(event: DragEvent, at: number): void {
    dragged.value = at;
    if (!event.dataTransfer) return;
    event.dataTransfer.effectAllowed = 'move';
    event.dataTransfer.setData('text/plain', String(at));
  }

  function onDragOver(event: DragEvent, at: number): void {
    if (dragged.value === undefined) return;
    event.preventDefault();
    if (dragged.value === at) return;
    move(dragged.value, at);
    dragged.value = at;
  }

  function onDragEnd(): void {
    dragged.value = undefined;
  }

  return { dragged, onKey, onDragStart, onDragOver, onDragEnd };
}
