/** A finger that moves sideways over a graph marks a part of it, as the mouse does; up and down it scrolls the page. */
import type uPlot from 'uplot';

export function followFinger(plot: uPlot, done: (plot: uPlot) => void): void {
  const { over } = plot;
  let begin: number | undefined;
  const place = (event: PointerEvent) =>
    Math.min(over.clientWidth, Math.max(0, event.clientX - over.getBoundingClientRect().left));
  const mark = (from: number, to: number) => {
    const [left, width] = [Math.min(from, to), Math.abs(to - from)];
    plot.setSelect({ left, width, top: 0, height: over.clientHeight }, false);
  };

  over.addEventListener('pointerdown', (event) => {
    if (event.pointerType === 'mouse' || !event.isPrimary) return;
    begin = place(event);
    over.setPointerCapture(event.pointerId);
  });
  over.addEventListener('pointermove', (event) => {
    if (begin === undefined || event.pointerType === 'mouse') return;
    mark(begin, place(event));
    plot.setCursor({ left: place(event), top: 1 });
  });
  over.addEventListener('pointerup', (event) => {
    if (begin === undefined) return;
    mark(begin, place(event));
    begin = undefined;
    done(plot);
  });
  // The page scrolls: it was not meant for the graph.
  over.addEventListener('pointercancel', () => {
    begin = undefined;
    mark(0, 0);
  });
}
