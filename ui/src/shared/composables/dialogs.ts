/**
 * The stack of open dialogs. A dialog is opened from anywhere and answers through a promise; the shell draws the stack.
 *
 *   openDialog ──▶ on the stack ──▶ closed with an answer ──▶ promise settles ──▶ off the stack
 *
 * Closing without an answer (Escape, the cross) answers `undefined`.
 */
import { markRaw, shallowReactive, type Component } from 'vue';

export interface OpenDialog {
  readonly id: number;
  readonly component: Component;
  readonly props: Record<string, unknown>;
  readonly close: (answer?: unknown) => void;
}

export const dialogStack = shallowReactive<OpenDialog[]>([]);

let lastId = 0;

/** Opens `component` as a dialog; it gets `props` and closes itself with the event `close` and its answer. */
export function openDialog<Answer>(
  component: Component,
  props: Record<string, unknown> = {},
): Promise<Answer | undefined> {
  return new Promise((resolve) => {
    const id = ++lastId;
    const close = (answer?: unknown) => {
      const at = dialogStack.findIndex((dialog) => dialog.id === id);
      if (at < 0) return;
      dialogStack.splice(at, 1);
      resolve(answer as Answer | undefined);
    };
    dialogStack.push({ id, component: markRaw(component), props, close });
  });
}
