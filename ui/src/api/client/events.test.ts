import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { StreamItem } from '@/api/generated/commands';
import type { EventSink, Transport } from '@/api/platform';
import { EventStream } from './events';

class FakeTransport implements Transport {
  readonly asked: (number | undefined)[] = [];
  sink: EventSink | undefined;
  send = () => Promise.reject(new Error('not used'));

  subscribe(since: number | undefined, sink: EventSink) {
    this.asked.push(since);
    this.sink = sink;
    return () => {
      this.sink = undefined;
    };
  }
}

function event(seq: number): StreamItem {
  return {
    item: 'event',
    seq,
    at: '2026-01-01T00:00:00Z',
    origin: 'system',
    event: { type: 'settings_changed' },
  };
}

describe('the stream of events', () => {
  beforeEach(() => {
    vi.useFakeTimers();
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  function open() {
    const transport = new FakeTransport();
    const stream = new EventStream(transport);
    const seen: number[] = [];
    const resync = vi.fn();
    stream.listen({ event: (_, envelope) => seen.push(envelope.seq), resync });
    stream.start();
    transport.sink?.opened();
    return { transport, stream, seen, resync };
  }

  it('goes on after the last number seen', () => {
    const { transport, seen } = open();
    transport.sink?.item(event(41));
    transport.sink?.item(event(42));
    transport.sink?.closed();
    vi.advanceTimersByTime(250);
    expect(transport.asked).toEqual([undefined, 42]);
    transport.sink?.item(event(42));
    transport.sink?.item(event(43));
    expect(seen).toEqual([41, 42, 43]);
  });

  it('asks for everything anew when told so, and takes the new numbers, even smaller ones', () => {
    const { transport, seen, resync } = open();
    transport.sink?.item(event(900));
    transport.sink?.item({ item: 'resync', seq: 7 });
    expect(resync).toHaveBeenCalledOnce();
    transport.sink?.item(event(8));
    expect(seen).toEqual([900, 8]);
  });

  it('waits longer from attempt to attempt, five seconds at most, and starts over once it stands', () => {
    const { transport, stream } = open();
    transport.sink?.closed();
    for (const pause of [250, 500, 1_000, 2_000, 5_000, 5_000]) {
      expect(stream.state.value).toBe('waiting');
      vi.advanceTimersByTime(pause - 1);
      expect(stream.state.value).toBe('waiting');
      vi.advanceTimersByTime(1);
      expect(stream.state.value).toBe('connecting');
      transport.sink?.closed();
    }
    vi.advanceTimersByTime(5_000);
    transport.sink?.opened();
    expect(stream.state.value).toBe('live');
    transport.sink?.closed();
    vi.advanceTimersByTime(250);
    expect(stream.state.value).toBe('connecting');
  });

  it('tries at once when asked to', () => {
    const { transport, stream } = open();
    transport.sink?.closed();
    stream.retryNow();
    expect(transport.asked).toHaveLength(2);
    vi.advanceTimersByTime(10_000);
    expect(transport.asked).toHaveLength(2);
  });

  it('says nothing after it was stopped', () => {
    const { transport, stream } = open();
    const sink = transport.sink;
    stream.stop();
    sink?.closed();
    vi.advanceTimersByTime(60_000);
    expect(transport.asked).toHaveLength(1);
  });
});
