/** How uPlot draws a graph here. Colours are read from the style sheet when it is made: a canvas does not follow by itself. */
import uPlot from 'uplot';
import { timeTicks } from './axis';
import { alone, type Value } from './columns';
import type { GraphMark } from './marks';
import type { Range } from './span';

export interface PlotLine {
  readonly values: readonly Value[];
  /** The highest of each step. */
  readonly peak?: readonly Value[] | undefined;
  /** Name of the variable that holds the colour: `--v-chart-1`. */
  readonly colour: string;
  readonly dashed?: boolean;
}
export interface PlotView {
  readonly times: readonly number[];
  readonly series: readonly PlotLine[];
  readonly window: Range;
  readonly format: (value: number) => string;
  readonly ticks: (top: number) => number[];
  readonly max?: number | undefined;
  readonly least: number;
  readonly height: number;
  readonly marks: readonly GraphMark[];
  readonly group: string;
  readonly zoomable?: boolean;
}
export interface PlotEvents {
  readonly looked: (self: uPlot) => void;
  readonly zoomed: (self: uPlot) => void;
  readonly whole: () => void;
  readonly ready: (self: uPlot) => void;
  readonly scaled: (self: uPlot) => void;
}

/** Pixels a mark of the time axis has for itself. */
const TICK_ROOM = 64;
const TONES = {
  running: '--v-running-dot',
  idle: '--v-idle',
  busy: '--v-busy',
  trouble: '--v-trouble',
} as const;

function colour(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** Each line, behind it the one of its highest values. */
export function dataOf({ times, series }: PlotView): uPlot.AlignedData {
  return [
    times,
    ...series.flatMap((one) => (one.peak ? [one.peak, one.values] : [one.values])),
  ] as uPlot.AlignedData;
}

function linesOf(view: PlotView): { series: uPlot.Series[]; bands: uPlot.Band[] } {
  const series: uPlot.Series[] = [{}];
  const bands: uPlot.Band[] = [];
  for (const one of view.series) {
    const stroke = colour(one.colour);
    if (one.peak) {
      bands.push({ series: [series.length, series.length + 1], fill: `${stroke}24` });
      series.push({ stroke: `${stroke}59`, width: 0.75, points: { show: false } });
    }
    series.push({
      stroke,
      width: 1.5,
      ...(one.dashed ? { dash: [4, 3] } : {}),
      points: {
        show: false,
        size: 4,
        fill: stroke,
        filter: (self, index) => {
          const found = alone(self.data[index] as Value[]);
          return found.length > 0 ? found : null;
        },
      },
    });
  }
  return { series, bands };
}

/** Ticks at the foot of the graph; trouble goes all the way up. Of those in one place the gravest is seen. */
function drawMarks(self: uPlot, marks: readonly GraphMark[], colours: ReadonlyMap<string, string>): void {
  const { ctx, bbox } = self;
  const { min, max } = self.scales.x ?? {};
  if (marks.length === 0 || min == null || max == null) return;
  const scale = uPlot.pxRatio;
  ctx.save();
  const grave = [...marks].sort((a, b) => Number(a.tone === 'trouble') - Number(b.tone === 'trouble'));
  for (const { at, tone } of grave) {
    if (at < min || at > max) continue;
    const x = Math.round(self.valToPos(at, 'x', true));
    ctx.fillStyle = colours.get(tone) ?? '';
    ctx.fillRect(x - scale, bbox.top + bbox.height - 8 * scale, 2 * scale, 8 * scale);
    if (tone !== 'trouble') continue;
    ctx.globalAlpha = 0.45;
    ctx.fillRect(x - scale / 2, bbox.top, scale, bbox.height);
    ctx.globalAlpha = 1;
  }
  ctx.restore();
}

/** What is said to be the most is not always: QEMU itself takes memory beside the guest's. */
export function topOf({ max, least }: Pick<PlotView, 'max' | 'least'>, highest: number): number {
  if (max !== undefined && highest <= max) return max;
  return Math.max(least, highest * 1.1);
}

/** `view` is read anew with each drawing, so it may change. */
export function plotOptions(element: HTMLElement, view: PlotView, events: PlotEvents): uPlot.Options {
  const font = `11px ${getComputedStyle(element).fontFamily}`;
  const stroke = colour('--bs-secondary-color');
  const tones = new Map(Object.entries(TONES).map(([tone, name]) => [tone, colour(name)]));
  const moves = (type: string) => type === 'mousemove' || type === 'mouseleave';
  return {
    width: element.clientWidth,
    height: view.height,
    legend: { show: false },
    padding: [8, 0, 0, 0],
    cursor: {
      y: false,
      points: { size: 6 },
      drag: { x: view.zoomable ?? false, y: false, setScale: false, dist: 4 },
      // Moves alone are told to the others: what is dragged over here is marked here.
      sync: { key: view.group, filters: { pub: moves, sub: moves } },
      bind: {
        dblclick: () => () => {
          events.whole();
          return null;
        },
      },
    },
    scales: {
      x: { range: () => [...view.window] },
      y: {
        range: (_, __, highest) => [0, topOf(view, highest ?? 0)],
      },
    },
    axes: [
      {
        stroke,
        font,
        size: 22,
        gap: 4,
        grid: { show: false },
        ticks: { show: false },
        splits: (self) => ticksOf(self, view.window).map(({ at }) => at),
        values: (self, splits) => {
          const labels = new Map(ticksOf(self, view.window).map(({ at, label }) => [at, label]));
          return splits.map((split) => labels.get(split) ?? '');
        },
      },
      {
        stroke,
        font,
        size: 62,
        gap: 6,
        grid: { stroke: colour('--bs-border-color'), width: 1 },
        ticks: { show: false },
        splits: (_, __, ___, top) => view.ticks(top),
        values: (_, splits) => splits.map(view.format),
      },
    ],
    ...linesOf(view),
    hooks: {
      ready: [events.ready],
      setScale: [(self, key) => key === 'x' && events.scaled(self)],
      setCursor: [events.looked],
      setSelect: [(self) => self.select.width > 0 && events.zoomed(self)],
      draw: [(self) => drawMarks(self, view.marks, tones)],
    },
  };
}

function ticksOf(self: uPlot, window: Range) {
  // Labels in the corners would be cut.
  const width = self.bbox.width / uPlot.pxRatio || self.width;
  const edge = (26 / Math.max(width, 1)) * (window[1] - window[0]);
  return timeTicks([window[0], window[1] - edge], Math.max(2, Math.floor(width / TICK_ROOM)));
}
