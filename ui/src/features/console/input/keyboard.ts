/**
 * The keyboard while it belongs to a guest.
 *
 *   free ─ focus ─▶ grabbed ─ Ctrl+Alt let go alone, or blur ─▶ free (everything that is down is let go)
 *
 * A held key is sent once: the guest repeats it itself. What is pressed while a key is already down in the guest is known here, so
 * that nothing stays down when the focus goes.
 */
import type { InputEvent } from '@/api/client';
import { keyCode } from './keys';

export interface KeyboardTarget {
  send(events: InputEvent[]): void;
  /** The person asked to leave. */
  leave(): void;
}

const CONTROL = new Set(['ctrl', 'ctrl_r']);
const ALT = new Set(['alt', 'alt_r']);

export class Keyboard {
  readonly #target: KeyboardTarget;
  readonly #down = new Set<string>();
  /** Ctrl+Alt have been down together and no other key since: letting go leaves. */
  #leaving = false;

  constructor(target: KeyboardTarget) {
    this.#target = target;
  }

  /** Takes a key press or release. True when it was the guest's: nobody else may act on it. */
  take(event: Pick<KeyboardEvent, 'type' | 'code' | 'repeat'>): boolean {
    const code = keyCode(event.code);
    if (code === undefined) return false;
    if (event.type === 'keydown') this.#press(code, event.repeat);
    else this.#release(code);
    return true;
  }

  #press(code: string, repeat: boolean): void {
    if (repeat || this.#down.has(code)) return;
    this.#down.add(code);
    const names = [...this.#down];
    this.#leaving =
      names.some((name) => CONTROL.has(name)) &&
      names.some((name) => ALT.has(name)) &&
      names.every((name) => CONTROL.has(name) || ALT.has(name));
    this.#target.send([{ type: 'key', code, down: true }]);
  }

  #release(code: string): void {
    if (!this.#down.delete(code)) return;
    this.#target.send([{ type: 'key', code, down: false }]);
    if (!this.#leaving) return;
    this.#leaving = false;
    this.releaseAll();
    this.#target.leave();
  }

  /** Lets everything go that is down in the guest. */
  releaseAll(): void {
    this.#leaving = false;
    if (this.#down.size === 0) return;
    const events = [...this.#down].map((code): InputEvent => ({ type: 'key', code, down: false }));
    this.#down.clear();
    this.#target.send(events);
  }
}
