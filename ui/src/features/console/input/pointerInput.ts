/**
 * Mouse, pen and touch on the guest's screen.
 *
 * A mouse is passed on as it is. A finger: a tap is a click, moving drags, holding still is a click with the right button, two
 * fingers turn the wheel.
 *
 *   finger down ─▶ undecided ─ moved ─▶ dragging (left button down) ─ up ─▶ let go
 *                     ├─ up ─▶ click
 *                     ├─ held ─▶ right click
 *                     └─ second finger ─▶ turning the wheel
 */
import type { InputEvent, PointerButton } from '@/api/client';
import { buttonName, toGuest, Wheel, type Box } from './pointer';

/** Milliseconds until a finger held still is a right click. */
const HOLD = 500;
/** Pixels a finger may move and still be held still. */
const STILL = 8;

/** The bits of `MouseEvent.buttons`, by the number of the button. */
const BITS = [1, 4, 2, 8, 16];

type Touch = 'undecided' | 'dragging' | 'done' | 'turning';

export class PointerInput {
  readonly #send: (events: InputEvent[]) => void;
  readonly #box: () => Box;
  readonly #wheel = new Wheel();
  #down = new Set<PointerButton>();
  #touch: Touch = 'done';
  #fingers = new Map<number, { x: number; y: number }>();
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(box: () => Box, send: (events: InputEvent[]) => void) {
    this.#box = box;
    this.#send = send;
  }

  /** Takes any pointer event on the screen. */
  take(event: PointerEvent): void {
    if (event.pointerType === 'touch') this.#finger(event);
    else this.#mouse(event);
  }

  /** Takes a turn of the wheel. */
  turn(event: WheelEvent): void {
    this.#send([this.#place(event.clientX, event.clientY), ...this.#wheel.turn(event)]);
  }

  /** Lets every button go. */
  releaseAll(): void {
    clearTimeout(this.#timer);
    this.#touch = 'done';
    this.#fingers.clear();
    this.#send([...this.#down].map((button): InputEvent => ({ type: 'button', button, down: false })));
    this.#down = new Set();
  }

  #place(x: number, y: number): InputEvent {
    return { type: 'pointer', ...toGuest(x, y, this.#box()) };
  }

  #press(button: PointerButton): InputEvent {
    this.#down.add(button);
    return { type: 'button', button, down: true };
  }

  #release(button: PointerButton): InputEvent {
    this.#down.delete(button);
    return { type: 'button', button, down: false };
  }

  #mouse(event: PointerEvent): void {
    const events = [this.#place(event.clientX, event.clientY)];
    // Only the first button tells its press; the others are seen by what is down.
    BITS.forEach((bit, number) => {
      const button = buttonName(number);
      if (!button) return;
      const down = event.type !== 'pointercancel' && (event.buttons & bit) !== 0;
      if (down === this.#down.has(button)) return;
      events.push(down ? this.#press(button) : this.#release(button));
    });
    this.#send(events);
  }

  #finger(event: PointerEvent): void {
    const place = { x: event.clientX, y: event.clientY };
    if (event.type === 'pointerdown') this.#fingerDown(event.pointerId, place);
    else if (event.type === 'pointermove') this.#fingerMoved(event.pointerId, place);
    else if (event.type === 'pointerup') this.#fingerUp(event.pointerId, place);
    else if (event.type === 'pointercancel') this.releaseAll();
  }

  #fingerDown(id: number, place: { x: number; y: number }): void {
    this.#fingers.set(id, place);
    clearTimeout(this.#timer);
    if (this.#fingers.size > 1) {
      if (this.#touch === 'dragging') this.#send([this.#release('left')]);
      this.#touch = 'turning';
      return;
    }
    this.#touch = 'undecided';
    this.#timer = setTimeout(() => {
      this.#touch = 'done';
      this.#send([this.#place(place.x, place.y), this.#press('right'), this.#release('right')]);
    }, HOLD);
  }

  #fingerMoved(id: number, place: { x: number; y: number }): void {
    const from = this.#fingers.get(id);
    if (!from) return;
    if (this.#touch === 'undecided' && Math.hypot(place.x - from.x, place.y - from.y) > STILL) {
      clearTimeout(this.#timer);
      this.#touch = 'dragging';
      this.#send([this.#place(from.x, from.y), this.#press('left')]);
    }
    if (this.#touch === 'dragging') this.#send([this.#place(place.x, place.y)]);
    if (this.#touch === 'turning') {
      this.#fingers.set(id, place);
      // Both fingers move: each counts for half. What is under them follows them.
      const turn = { deltaX: (from.x - place.x) / 2, deltaY: (from.y - place.y) / 2, deltaMode: 0 };
      this.#send(this.#wheel.turn(turn));
    }
  }

  #fingerUp(id: number, place: { x: number; y: number }): void {
    this.#fingers.delete(id);
    clearTimeout(this.#timer);
    const at = this.#place(place.x, place.y);
    if (this.#touch === 'undecided') this.#send([at, this.#press('left'), this.#release('left')]);
    if (this.#touch === 'dragging') this.#send([at, this.#release('left')]);
    if (this.#touch !== 'turning' || this.#fingers.size === 0) this.#touch = 'done';
  }
}
