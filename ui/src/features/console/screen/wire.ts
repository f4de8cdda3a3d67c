/**
 * What a console session sends, read without moving a byte. The description is at the head of crates/console/src/wire.rs; a golden
 * file is read by the tests of both sides.
 */

const SIZE = 1;
const PICTURE = 2;
const CURSOR = 3;

const LITERAL = 0;
const RUN = 1;
const ABOVE = 2;

const OPAQUE = 0xff000000;

export interface CursorShape {
  readonly hotX: number;
  readonly hotY: number;
  readonly width: number;
  readonly height: number;
  /** Bytes R, G, B, A. */
  readonly pixels: Uint8ClampedArray<ArrayBuffer>;
}

/** Where the pictures go. */
export interface ScreenSink {
  /** The screen has this size now and is black. */
  size(width: number, height: number): void;
  /** Pixels as bytes R, G, B, A; they are only there during the call. */
  rectangle(
    x: number,
    y: number,
    width: number,
    height: number,
    pixels: Uint8ClampedArray<ArrayBuffer>,
  ): void;
  cursor(shape: CursorShape): void;
}

export class WireError extends Error {
  override readonly name = 'WireError';
}

/** A reader of messages. It keeps the room it needs for the largest rectangle so far. */
export class WireReader {
  #room = new Uint32Array(0);

  /** Reads one message; answers whether it was a picture, which is to be acknowledged. */
  read(message: ArrayBuffer, sink: ScreenSink): boolean {
    if (message.byteLength % 4 !== 0 || message.byteLength < 8)
      throw new WireError('a message that is cut off');
    const words = new Uint32Array(message);
    switch (at(words, 0)) {
      case SIZE:
        sink.size(low(at(words, 1)), high(at(words, 1)));
        return false;
      case PICTURE:
        this.#picture(words, sink);
        return true;
      case CURSOR: {
        const [hot, size] = [at(words, 1), at(words, 2)];
        const pixels = new Uint8ClampedArray(message, 12);
        if (pixels.length !== low(size) * high(size) * 4) throw new WireError('a pointer of another size');
        sink.cursor({ hotX: low(hot), hotY: high(hot), width: low(size), height: high(size), pixels });
        return false;
      }
      default:
        throw new WireError('a message of an unknown kind');
    }
  }

  #picture(words: Uint32Array, sink: ScreenSink): void {
    let next = 2;
    for (let left = at(words, 1); left > 0; left -= 1) {
      const [place, size, length] = [at(words, next), at(words, next + 1), at(words, next + 2)];
      const [width, height] = [low(size), high(size)];
      const end = next + 3 + length;
      if (end > words.length) throw new WireError('a rectangle that is cut off');
      if (this.#room.length < width * height) this.#room = new Uint32Array(width * height);
      const pixels = this.#room.subarray(0, width * height);
      unpack(words.subarray(next + 3, end), pixels, width);
      const bytes = new Uint8ClampedArray(this.#room.buffer, 0, width * height * 4);
      sink.rectangle(low(place), high(place), width, height, bytes);
      next = end;
    }
    if (next !== words.length) throw new WireError('something after the last rectangle');
  }
}

function at(words: Uint32Array, index: number): number {
  const word = words[index];
  if (word === undefined) throw new WireError('a message that is cut off');
  return word;
}

const low = (word: number) => word & 0xffff;
const high = (word: number) => word >>> 16;

/** Fills `pixels`, a rectangle `width` across, from its pieces. */
function unpack(words: Uint32Array, pixels: Uint32Array, width: number): void {
  let from = 0;
  let to = 0;
  while (from < words.length) {
    const piece = at(words, from);
    const kind = piece >>> 30;
    const count = piece & 0x3fffffff;
    from += 1;
    const end = to + count;
    if (end > pixels.length || count === 0) throw new WireError('more pixels than the rectangle has');
    if (kind === LITERAL) {
      const length = (count * 3 + 3) >>> 2;
      if (from + length > words.length) throw new WireError('a piece that is cut off');
      literal(words, from, pixels, to, end);
      from += length;
    } else if (kind === RUN) {
      pixels.fill(at(words, from), to, end);
      from += 1;
    } else if (kind === ABOVE) {
      if (to < width) throw new WireError('nothing is above the first row');
      // In steps of a row: the next row is copied from the one that has just been made.
      for (let start = to; start < end; start += width) {
        pixels.copyWithin(start, start - width, Math.min(start, end - width));
      }
    } else {
      throw new WireError('a piece of an unknown kind');
    }
    to = end;
  }
  if (to !== pixels.length) throw new WireError('fewer pixels than the rectangle has');
}

/** Three words are four pixels without their alpha. The bounds have been checked. */
function literal(words: Uint32Array, from: number, pixels: Uint32Array, start: number, end: number): void {
  let next = from;
  let to = start;
  for (const last = end - 3; to < last; to += 4, next += 3) {
    const a = words[next] as number;
    const b = words[next + 1] as number;
    const c = words[next + 2] as number;
    pixels[to] = a | OPAQUE;
    pixels[to + 1] = (a >>> 24) | (b << 8) | OPAQUE;
    pixels[to + 2] = (b >>> 16) | (c << 16) | OPAQUE;
    pixels[to + 3] = (c >>> 8) | OPAQUE;
  }
  const bytes = new Uint8Array(words.buffer, words.byteOffset + next * 4);
  for (let byte = 0; to < end; to += 1, byte += 3) {
    pixels[to] =
      (bytes[byte] as number) |
      ((bytes[byte + 1] as number) << 8) |
      ((bytes[byte + 2] as number) << 16) |
      OPAQUE;
  }
}
