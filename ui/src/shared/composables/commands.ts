/**
 * What can be done now, by keyboard, from the palette, or both. A component tells its commands for as long as it lives; the shell
 * listens for their keys, the palette lists them, the shortcut sheet explains them. There is no second list.
 */
import { computed, onScopeDispose, shallowReactive, shallowRef } from 'vue';
import type { IconName } from '@/shared/components/icons';

export interface Command {
  readonly id: string;
  readonly title: string;
  /** Heading it stands under in the shortcut sheet and in the palette. */
  readonly group: string;
  readonly icon?: IconName;
  /** `Mod+K` (Ctrl, or Cmd on a Mac), `Shift+S`, `/`, `?`. Single keys do nothing while somebody types. */
  readonly keys?: string;
  /** Other words people may look for. */
  readonly words?: string;
  /** Keys only: of no use in the palette (it is about what has the focus). */
  readonly only?: 'keys';
  readonly disabled?: boolean;
  readonly run: () => unknown;
}

const sources = shallowReactive(new Set<() => readonly Command[]>());

/** Every command there is now; the ones told last win where keys are the same. */
export const allCommands = computed(() => [...sources].reverse().flatMap((source) => source()));

/** Offers commands while the caller's component lives. */
export function useCommands(source: () => readonly Command[]): void {
  sources.add(source);
  onScopeDispose(() => sources.delete(source));
}

/** Whether the palette, and whether the shortcut sheet, is open. */
export const paletteOpen = shallowRef(false);
export const shortcutsOpen = shallowRef(false);

function comboOf(event: KeyboardEvent): string {
  const parts: string[] = [];
  if (event.ctrlKey || event.metaKey) parts.push('mod');
  if (event.altKey) parts.push('alt');
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key.toLowerCase().replace('arrow', '');
  // A sign such as ? has its Shift in it already.
  if (event.shiftKey && (event.key.length > 1 || /\p{L}/u.test(event.key))) parts.push('shift');
  parts.push(key === ' ' ? 'space' : key);
  return parts.join('+');
}

function isTyping(target: EventTarget | null): boolean {
  return (
    target instanceof HTMLElement &&
    target.closest('input, textarea, select, [contenteditable=true]') !== null
  );
}

/** Runs the command that a key stands for, if there is one; true when it did. */
export function runByKey(event: KeyboardEvent): boolean {
  if (event.defaultPrevented || event.isComposing) return false;
  const combo = comboOf(event);
  const withModifier = combo.startsWith('mod+') || combo.startsWith('alt+');
  if (!withModifier && (isTyping(event.target) || document.querySelector('dialog[open]'))) return false;
  const found = allCommands.value.find(
    (command) => !command.disabled && command.keys?.toLowerCase() === combo,
  );
  if (!found) return false;
  event.preventDefault();
  found.run();
  return true;
}
