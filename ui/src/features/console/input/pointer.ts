/** The pointer: where it is in the guest, which buttons are down, how far the wheel turned. */
import type { InputEvent, PointerButton, WheelDirection } from '@/api/client';

/** The largest coordinate of the guest's pointer. */
const EDGE = 32767;
/** Pixels of a smooth wheel or a touchpad that are one notch. */
const NOTCH = 100;
/** Pixels in a line and in a page, for browsers that count in those. */
const UNITS = [1, NOTCH / 3, NOTCH * 3];
/** Notches sent at once; a flick of a touchpad is no more. */
const MOST_NOTCHES = 8;

/** By the number of `MouseEvent.button`. */
const buttons: readonly PointerButton[] = ['left', 'middle', 'right', 'side', 'extra'];

export interface Box {
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
}

/** A place on the page as the guest's, cut to its screen. */
export function toGuest(x: number, y: number, box: Box): { x: number; y: number } {
  const scale = (at: number, size: number) =>
    size <= 1 ? 0 : Math.round(Math.min(1, Math.max(0, at / (size - 1))) * EDGE);
  return { x: scale(x - box.left, box.width), y: scale(y - box.top, box.height) };
}

export function buttonName(button: number): PointerButton | undefined {
  return buttons[button];
}

/** Collects the turns of a wheel until they are whole notches. */
export class Wheel {
  #x = 0;
  #y = 0;

  turn(event: Pick<WheelEvent, 'deltaX' | 'deltaY' | 'deltaMode'>): InputEvent[] {
    const unit = UNITS[event.deltaMode] ?? 1;
    // A turn the other way starts anew: what was left over would be felt as lag.
    if (event.deltaX * this.#x < 0) this.#x = 0;
    if (event.deltaY * this.#y < 0) this.#y = 0;
    this.#x += event.deltaX * unit;
    this.#y += event.deltaY * unit;
    const notches = [...this.#take('y', 'up', 'down'), ...this.#take('x', 'left', 'right')];
    return notches.map((direction) => ({ type: 'wheel', direction }));
  }

  #take(axis: 'x' | 'y', back: WheelDirection, on: WheelDirection): WheelDirection[] {
    const turned = axis === 'x' ? this.#x : this.#y;
    const whole = Math.trunc(turned / NOTCH);
    if (axis === 'x') this.#x -= whole * NOTCH;
    else this.#y -= whole * NOTCH;
    return Array.from({ length: Math.min(Math.abs(whole), MOST_NOTCHES) }, () => (whole < 0 ? back : on));
  }
}
