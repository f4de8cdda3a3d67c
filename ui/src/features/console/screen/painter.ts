/** Draws the guest's screen onto a canvas, and its pointer as the pointer of the page. */
import type { CursorShape, ScreenSink } from './wire';

export interface ScreenSize {
  readonly width: number;
  readonly height: number;
}

export class Painter implements ScreenSink {
  readonly #canvas: HTMLCanvasElement;
  readonly #context: CanvasRenderingContext2D;
  readonly #resized: (size: ScreenSize) => void;

  constructor(canvas: HTMLCanvasElement, resized: (size: ScreenSize) => void) {
    // A canvas in the computer's memory: pixels come from there, and it is faster than through a graphics card.
    const context = canvas.getContext('2d', { alpha: false, willReadFrequently: true });
    if (!context) throw new Error('this browser draws no canvas');
    this.#canvas = canvas;
    this.#context = context;
    this.#resized = resized;
  }

  size(width: number, height: number): void {
    this.#canvas.width = width;
    this.#canvas.height = height;
    this.#resized({ width, height });
  }

  rectangle(
    x: number,
    y: number,
    width: number,
    height: number,
    pixels: Uint8ClampedArray<ArrayBuffer>,
  ): void {
    this.#context.putImageData(new ImageData(pixels, width, height), x, y);
  }

  cursor({ hotX, hotY, width, height, pixels }: CursorShape): void {
    const seen = pixels.some((value, at) => at % 4 === 3 && value > 0);
    this.#canvas.style.cursor = seen ? picture(width, height, hotX, hotY, pixels) : 'none';
  }

  /** The screen as it is now. */
  async png(): Promise<Blob> {
    return new Promise((resolve, reject) => {
      this.#canvas.toBlob((blob) => {
        if (blob) resolve(blob);
        else reject(new Error('the picture cannot be made'));
      }, 'image/png');
    });
  }
}

function picture(
  width: number,
  height: number,
  x: number,
  y: number,
  pixels: Uint8ClampedArray<ArrayBuffer>,
): string {
  const canvas = document.createElement('canvas');
  canvas.width = width;
  canvas.height = height;
  canvas.getContext('2d')?.putImageData(new ImageData(pixels, width, height), 0, 0);
  return `url(${canvas.toDataURL()}) ${String(x)} ${String(y)}, default`;
}
