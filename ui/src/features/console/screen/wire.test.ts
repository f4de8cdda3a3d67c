/// <reference types="node" />
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { WireError, WireReader, type CursorShape, type ScreenSink } from './wire';

/** Written by crates/console/tests/wire.rs: messages after their lengths, then the picture they make. */
const bytes = new Uint8Array(readFileSync(`${process.cwd()}/../crates/console/tests/golden/messages.bin`));

class Canvas implements ScreenSink {
  width = 0;
  height = 0;
  pixels = new Uint8ClampedArray(0);
  shape: CursorShape | undefined;

  size(width: number, height: number): void {
    [this.width, this.height] = [width, height];
    this.pixels = new Uint8ClampedArray(width * height * 4);
  }

  rectangle(x: number, y: number, width: number, height: number, pixels: Uint8ClampedArray): void {
    for (let row = 0; row < height; row += 1) {
      const source = pixels.subarray(row * width * 4, (row + 1) * width * 4);
      this.pixels.set(source, ((y + row) * this.width + x) * 4);
    }
  }

  cursor(shape: CursorShape): void {
    this.shape = shape;
  }
}

function messages(count: number): { parts: ArrayBuffer[]; rest: Uint8Array } {
  const parts: ArrayBuffer[] = [];
  let at = 0;
  for (let left = count; left > 0; left -= 1) {
    const length = new DataView(bytes.buffer, bytes.byteOffset + at).getUint32(0, true);
    parts.push(bytes.slice(at + 4, at + 4 + length).buffer);
    at += 4 + length;
  }
  return { parts, rest: bytes.slice(at) };
}

function words(...list: number[]): ArrayBuffer {
  return Uint32Array.from(list, (word) => word >>> 0).buffer;
}

describe('the console wire', () => {
  it('draws what the session encoded', () => {
    const { parts, rest } = messages(4);
    const canvas = new Canvas();
    const reader = new WireReader();
    const drawn = parts.map((part) => reader.read(part, canvas));
    expect(drawn).toEqual([false, true, true, false]);
    expect([canvas.width, canvas.height]).toEqual([96, 48]);
    expect(canvas.pixels.length).toBe(rest.length);
    expect(canvas.pixels.every((value, at) => value === rest[at])).toBe(true);
    expect(canvas.shape).toMatchObject({ hotX: 1, hotY: 2, width: 2, height: 3 });
    // Sent as blue, green, red, alpha 0, 1, 2, 3.
    expect([...(canvas.shape?.pixels.subarray(0, 4) ?? [])]).toEqual([2, 1, 0, 3]);
  });

  it('copies rows from above further than one row', () => {
    const canvas = new Canvas();
    const reader = new WireReader();
    reader.read(words(1, 3 | (4 << 16)), canvas);
    const [red, green] = [0xff0000ff, 0xff00ff00];
    reader.read(
      words(2, 1, 0, 3 | (4 << 16), 5, (1 << 30) | 1, red, (1 << 30) | 2, green, (2 << 30) | 9),
      canvas,
    );
    const pixels = [...new Uint32Array(canvas.pixels.buffer)];
    expect(pixels).toEqual([1, 2, 3, 4].flatMap(() => [red, green, green]));
  });

  it.each([
    ['nothing', new ArrayBuffer(0)],
    ['half a word', new ArrayBuffer(9)],
    ['an unknown kind', words(9, 0)],
    ['a rectangle cut off', words(2, 1, 0, 1 | (1 << 16), 7)],
    ['too many pixels', words(2, 1, 0, 1 | (1 << 16), 2, (1 << 30) | 2, 0)],
    ['too few pixels', words(2, 1, 0, 2 | (1 << 16), 2, (1 << 30) | 1, 0)],
    ['nothing above', words(2, 1, 0, 1 | (1 << 16), 1, (2 << 30) | 1)],
    ['an unknown piece', words(2, 1, 0, 1 | (1 << 16), 1, (3 << 30) | 1)],
    ['a literal cut off', words(2, 1, 0, 2 | (1 << 16), 2, 2, 0)],
    ['an empty piece', words(2, 1, 0, 1 | (1 << 16), 1, 0)],
    ['more after the end', words(2, 0, 0)],
    ['a pointer of another size', words(3, 0, 2 | (2 << 16), 0)],
  ])('refuses %s', (_, message) => {
    const reader = new WireReader();
    expect(() => reader.read(message, new Canvas())).toThrow(WireError);
  });
});
