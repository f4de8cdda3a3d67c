/**
 * What was measured in the time a page shows, asked for anew as the engine has more of it, and finer when it is zoomed.
 *
 *   asked ──▶ shown ──(time chosen, zoomed, its pace)──▶ asked; what was shown stands until the answer is there
 *       └──▶ failed ──(its pace, try again)──▶ asked
 */
import { onScopeDispose, shallowRef, watch, type ShallowRef } from 'vue';
import {
  call,
  toApiError,
  type ApiError,
  type Metric,
  type MetricHistory,
  type MetricSubject,
} from '@/api/client';
import { timesOf } from './columns';
import { pace, type Range } from './span';
import type { TimeView } from './useTime';

/** Points of an answer at most: more than a graph has pixels, so that a first zoom has something to show at once. */
const POINTS = 1500;
/** The engine answers for so many at most. */
const SUBJECTS = 200;
/** What is asked for beyond a zoom's edges, as a share of it, so that lines go on to the edge. */
const MARGIN = 0.02;

export interface Shown {
  readonly range: Range;
  readonly history: MetricHistory;
  readonly times: readonly number[];
}
export interface Question {
  readonly subjects: readonly MetricSubject[];
  readonly metrics: readonly Metric[];
}
export interface History {
  readonly shown: ShallowRef<Shown | undefined>;
  readonly error: ShallowRef<ApiError | undefined>;
  readonly ask: () => Promise<void>;
}

export function useHistory(time: TimeView, question: () => Question): History {
  const shown = shallowRef<Shown>();
  const error = shallowRef<ApiError>();
  let timer: ReturnType<typeof setTimeout> | undefined;
  let generation = 0;

  async function read(own: number): Promise<void> {
    const { subjects, metrics } = question();
    let step = 15;
    if (subjects.length > 0 && (document.visibilityState === 'visible' || !shown.value)) {
      const range = time.zoom.value ?? time.whole();
      const margin = time.zoom.value ? (range[1] - range[0]) * MARGIN : 0;
      try {
        const history = await call('metrics.history', {
          subjects: subjects.slice(0, SUBJECTS),
          metrics: [...metrics],
          from: instant(range[0] - margin),
          to: instant(range[1] + margin),
          points: POINTS,
        });
        if (own !== generation) return;
        shown.value = { range, history, times: timesOf(history) };
        error.value = undefined;
        step = history.step;
      } catch (cause) {
        if (own !== generation) return;
        error.value = toApiError(cause);
      }
    }
    timer = setTimeout(() => void read(own), pace(step) * 1000);
  }

  async function ask(): Promise<void> {
    clearTimeout(timer);
    await read(++generation);
  }

  watch(() => JSON.stringify([question(), time.span.value, time.zoom.value]), ask, { immediate: true });
  onScopeDispose(() => {
    generation += 1;
    clearTimeout(timer);
  });
  return { shown, error, ask };
}

function instant(second: number): string {
  return new Date(second * 1000).toISOString();
}
