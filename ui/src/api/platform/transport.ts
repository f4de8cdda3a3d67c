/** What carries commands and events: the desktop's bridge, or HTTP and a WebSocket in a browser. */
import type { StreamItem } from '@/api/generated/commands';

export interface EventSink {
  /** The stream stands; events since the number asked for follow. */
  readonly opened: () => void;
  readonly item: (item: StreamItem) => void;
  /** The stream is gone; nobody tries again but the caller. */
  readonly closed: () => void;
}

export interface Transport {
  /** Sends a command. Fails with an `ApiError` alone. */
  send(name: string, payload: unknown): Promise<unknown>;
  /** Listens to events after number `since` (everything new without). Answers how to stop. */
  subscribe(since: number | undefined, sink: EventSink): () => void;
}
