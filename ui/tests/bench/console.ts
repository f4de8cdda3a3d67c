/** The console's canvas against a synthetic display; tests/bench/console.mjs drives it. */
import { Painter } from '../../src/features/console/screen/painter';
import { WireReader } from '../../src/features/console/screen/wire';

class TimedPainter extends Painter {
  drawn = 0;
  override rectangle(...all: Parameters<Painter['rectangle']>): void {
    super.rectangle(...all);
    this.drawn += 1;
  }
}

async function open(address: string) {
  const canvas = document.querySelector<HTMLCanvasElement>('#screen');
  if (!canvas) throw new Error('no canvas');
  const painter = new TimedPainter(canvas, () => undefined);
  const reader = new WireReader();
  const socket = new WebSocket(address);
  socket.binaryType = 'arraybuffer';
  const tally = { frames: 0, bytes: 0, busy: 0 };
  let waiting: (() => void) | undefined;
  socket.onmessage = ({ data }: MessageEvent<ArrayBuffer>) => {
    const start = performance.now();
    const picture = reader.read(data, painter);
    if (!picture) return;
    socket.send('{"type":"drawn"}');
    tally.frames += 1;
    tally.bytes += data.byteLength;
    tally.busy += performance.now() - start;
    waiting?.();
  };
  const next = () =>
    new Promise<void>((resolve) => {
      waiting = resolve;
    });
  await next();
  return { socket, tally, next };
}

/** Frames drawn per second, megabytes per frame, share of the time the page was busy with them. */
async function frames(address: string, seconds: number) {
  const { socket, tally } = await open(address);
  await new Promise((resolve) => setTimeout(resolve, 500));
  const before = { ...tally };
  const start = performance.now();
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  const passed = (performance.now() - start) / 1000;
  socket.close();
  const count = tally.frames - before.frames;
  return {
    fps: count / passed,
    megabytes: (tally.bytes - before.bytes) / count / 1e6,
    busy: (tally.busy - before.busy) / passed / 1000,
  };
}

/** Full frames of four bytes a pixel drawn per second: what the transport does without any of the console's work. */
async function plain(address: string, width: number, height: number, seconds: number) {
  const canvas = document.querySelector<HTMLCanvasElement>('#screen');
  const context = canvas?.getContext('2d', { alpha: false, willReadFrequently: true });
  if (!canvas || !context) throw new Error('no canvas');
  [canvas.width, canvas.height] = [width, height];
  const socket = new WebSocket(address);
  socket.binaryType = 'arraybuffer';
  let frames = 0;
  socket.onmessage = ({ data }: MessageEvent<ArrayBuffer>) => {
    context.putImageData(new ImageData(new Uint8ClampedArray(data), width, height), 0, 0);
    socket.send('');
    frames += 1;
  };
  await new Promise((resolve) => setTimeout(resolve, 500));
  const before = frames;
  const start = performance.now();
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  const fps = ((frames - before) * 1000) / (performance.now() - start);
  socket.close();
  return fps;
}

/** Milliseconds from a key to its pixels on the canvas. */
async function keys(address: string, count: number) {
  const { socket, next } = await open(address);
  const times: number[] = [];
  for (let left = count; left > 0; left -= 1) {
    await new Promise((resolve) => setTimeout(resolve, 20));
    const drawn = next();
    const start = performance.now();
    const event = (down: boolean) => ({ type: 'key', code: 'a', down });
    socket.send(JSON.stringify({ type: 'input', events: [event(true), event(false)] }));
    await drawn;
    times.push(performance.now() - start);
  }
  socket.close();
  return times.sort((a, b) => a - b);
}

Object.assign(window, { bench: { frames, plain, keys } });
