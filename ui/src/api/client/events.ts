/**
 * The engine's ordered stream of events, kept alive.
 *
 *   connecting ──▶ live ──(lost)──▶ waiting ──(back-off)──▶ connecting
 *
 * After a loss the stream is taken up at the last number seen. What cannot be replayed is announced as a resync: everything is
 * asked for anew. Events that were seen already are dropped, so listeners get each once and in order.
 */
import { readonly, shallowRef } from 'vue';
import type { Event, EventEnvelope } from '@/api/generated/commands';
import type { Transport } from '@/api/platform';

export type StreamState = 'connecting' | 'live' | 'waiting';

export interface EventListener {
  readonly event?: (event: Event, envelope: EventEnvelope) => void;
  /** Something was missed: ask for everything anew. */
  readonly resync?: () => void;
}

/** Pauses between attempts, in milliseconds; the last one repeats. */
const BACK_OFF = [250, 500, 1_000, 2_000, 5_000] as const;

export class EventStream {
  private readonly listeners = new Set<EventListener>();
  private readonly current = shallowRef<StreamState>('connecting');
  private seen: number | undefined;
  private attempts = 0;
  private stopStream: (() => void) | undefined;
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly transport: Transport) {}

  readonly state = readonly(this.current);

  listen(listener: EventListener): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  start(): void {
    if (this.stopStream || this.timer) return;
    this.connect();
  }

  stop(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    this.stopStream?.();
    this.stopStream = undefined;
    this.current.value = 'waiting';
  }

  /** Tries now instead of after the pause. */
  retryNow(): void {
    if (this.current.value !== 'waiting') return;
    clearTimeout(this.timer);
    this.timer = undefined;
    this.connect();
  }

  private connect(): void {
    this.current.value = 'connecting';
    let over = false;
    const stop = this.transport.subscribe(this.seen, {
      opened: () => {
        this.attempts = 0;
        this.current.value = 'live';
      },
      item: (item) => {
        if (item.item === 'resync') {
          this.seen = item.seq;
          for (const listener of this.listeners) listener.resync?.();
          return;
        }
        if (this.seen !== undefined && item.seq <= this.seen) return;
        this.seen = item.seq;
        for (const listener of this.listeners) listener.event?.(item.event, item);
      },
      closed: () => {
        if (over) return;
        over = true;
        this.stopStream = undefined;
        this.current.value = 'waiting';
        const pause = BACK_OFF[Math.min(this.attempts, BACK_OFF.length - 1)] ?? 5_000;
        this.attempts += 1;
        this.timer = setTimeout(() => {
          this.timer = undefined;
          this.connect();
        }, pause);
      },
    });
    this.stopStream = () => {
      over = true;
      stop();
    };
  }
}
