/**
 * One console of a machine over a WebSocket, opened again when it is lost.
 *
 *   closed ─ open() ─▶ connecting ─▶ live ─ lost ─▶ waiting ─ back-off ─▶ connecting
 *      ▲                                                │
 *      └──────────────── close() ◀──────────────────────┘
 *
 * Each try asks for a ticket of its own, which is good for one connection. Waiting grows from a quarter of a second to five, and
 * starts anew once a connection has held.
 */
import { shallowRef, type ShallowRef } from 'vue';
import { call, localError, toApiError, type ApiError, type ErrorCode, type VmId } from '@/api/client';

export type ConsoleKind = 'screen' | 'serial';
export type ConsoleState = 'closed' | 'connecting' | 'live' | 'waiting';

const FIRST_WAIT = 250;
const LONGEST_WAIT = 5_000;
/** A connection that held so long was a good one. */
const HELD = 3_000;
/** The close code of a console that ended by itself; the reason is the error code. */
const ENDED = 4000;

export interface ConsoleSink {
  opened(): void;
  message(data: ArrayBuffer): void;
}

/** An address of a ticket as a WebSocket's: it is absolute in the desktop window and a path on the local API. */
export function socketAddress(address: string, page: string): string {
  const url = new URL(address, page);
  if (url.protocol === 'http:') url.protocol = 'ws:';
  else if (url.protocol === 'https:') url.protocol = 'wss:';
  return url.href;
}

export class ConsoleConnection {
  readonly state: ShallowRef<ConsoleState> = shallowRef('closed');
  /** Why it was lost last. */
  readonly error: ShallowRef<ApiError | undefined> = shallowRef();
  readonly #id: VmId;
  readonly #kind: ConsoleKind;
  readonly #sink: ConsoleSink;
  #socket: WebSocket | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #wait = FIRST_WAIT;
  /** Grows with each try, so that an answer to an older one is known as such. */
  #try = 0;

  constructor(id: VmId, kind: ConsoleKind, sink: ConsoleSink) {
    this.#id = id;
    this.#kind = kind;
    this.#sink = sink;
  }

  /** Opens it, now even if it waits. */
  open(): void {
    if (this.state.value === 'connecting' || this.state.value === 'live') return;
    this.#wait = FIRST_WAIT;
    void this.#connect();
  }

  close(): void {
    this.#try += 1;
    clearTimeout(this.#timer);
    const socket = this.#socket;
    this.#socket = undefined;
    socket?.close();
    this.state.value = 'closed';
    this.error.value = undefined;
  }

  /** Sends if it is live; what a person does on a lost console is gone. */
  send(message: string | Uint8Array<ArrayBuffer>): void {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(message);
  }

  /** The machine sent what cannot be shown: this connection ends and another is tried. */
  fail(cause: unknown): void {
    this.#lost(toApiError(cause));
  }

  async #connect(): Promise<void> {
    const own = ++this.#try;
    clearTimeout(this.#timer);
    this.state.value = 'connecting';
    let address: string;
    try {
      address = socketAddress((await call('vm.console', { id: this.#id }))[this.#kind], location.href);
    } catch (cause) {
      if (own === this.#try) this.#lost(toApiError(cause));
      return;
    }
    if (own !== this.#try) return;
    const socket = new WebSocket(address);
    socket.binaryType = 'arraybuffer';
    this.#socket = socket;
    let since = Infinity;
    socket.onopen = () => {
      since = performance.now();
      this.state.value = 'live';
      this.error.value = undefined;
      this.#sink.opened();
    };
    socket.onmessage = (message: MessageEvent<ArrayBuffer>) => {
      this.#sink.message(message.data);
    };
    socket.onclose = (event) => {
      if (this.#socket !== socket) return;
      if (performance.now() - since > HELD) this.#wait = FIRST_WAIT;
      const code = (event.code === ENDED ? event.reason : 'network_failed') as ErrorCode;
      this.#lost(
        localError(
          code,
          event.code === ENDED ? 'The console has ended.' : 'The console was lost.',
          'retryable',
        ),
      );
    };
  }

  #lost(error: ApiError): void {
    const socket = this.#socket;
    this.#socket = undefined;
    socket?.close();
    this.error.value = error;
    this.state.value = 'waiting';
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#connect(), this.#wait);
    this.#wait = Math.min(LONGEST_WAIT, this.#wait * 2);
  }
}
