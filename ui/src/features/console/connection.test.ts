import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { call } from '@/api/client';
import { ConsoleConnection, socketAddress } from './connection';

vi.mock('@/api/client', async (original) => ({ ...(await original<object>()), call: vi.fn() }));

describe('the address of a console', () => {
  it('is absolute in the desktop window and a path on the local API', () => {
    expect(socketAddress('ws://127.0.0.1:9/console/x', 'tauri://localhost/')).toBe(
      'ws://127.0.0.1:9/console/x',
    );
    expect(socketAddress('/console/x', 'http://127.0.0.1:7770/machines/1')).toBe(
      'ws://127.0.0.1:7770/console/x',
    );
    expect(socketAddress('/console/x', 'https://host/')).toBe('wss://host/console/x');
  });
});

class FakeSocket {
  static readonly OPEN = 1;
  static made: FakeSocket[] = [];
  binaryType = '';
  readyState = 0;
  closed = false;
  sent: unknown[] = [];
  onopen?: () => void;
  onmessage?: (event: { data: ArrayBuffer }) => void;
  onclose?: (event: { code: number; reason: string }) => void;

  constructor(readonly address: string) {
    FakeSocket.made.push(this);
  }

  open(): void {
    this.readyState = 1;
    this.onopen?.();
  }

  lose(code = 1006, reason = ''): void {
    this.readyState = 3;
    this.onclose?.({ code, reason });
  }

  send(message: unknown): void {
    this.sent.push(message);
  }

  close(): void {
    this.closed = true;
    this.lose();
  }
}

describe('a console', () => {
  const sink = { opened: vi.fn(), message: vi.fn() };
  let asked = 0;

  beforeEach(() => {
    vi.useFakeTimers();
    vi.stubGlobal('WebSocket', FakeSocket);
    FakeSocket.made = [];
    asked = 0;
    vi.mocked(call).mockImplementation(() => {
      asked += 1;
      const path = `/console/${String(asked)}`;
      return Promise.resolve({ screen: path, serial: `${path}s` }) as never;
    });
  });
  afterEach(() => {
    vi.useRealTimers();
    vi.unstubAllGlobals();
    vi.clearAllMocks();
  });

  const settle = () => vi.advanceTimersByTimeAsync(0);
  const newest = () => FakeSocket.made.at(-1) as FakeSocket;

  it('is opened with a ticket of its own and opened again when it is lost', async () => {
    const connection = new ConsoleConnection('id', 'serial', sink);
    connection.open();
    expect(connection.state.value).toBe('connecting');
    await settle();
    expect(newest().address).toMatch(/\/console\/1s$/);
    newest().open();
    expect([connection.state.value, sink.opened.mock.calls.length]).toEqual(['live', 1]);
    newest().lose(4000, 'console_unavailable');
    expect(connection.state.value).toBe('waiting');
    expect(connection.error.value?.code).toBe('console_unavailable');
    await vi.advanceTimersByTimeAsync(249);
    expect(asked).toBe(1);
    await vi.advanceTimersByTimeAsync(1);
    expect(newest().address).toMatch(/\/console\/2s$/);
    newest().open();
    expect([connection.state.value, connection.error.value]).toEqual(['live', undefined]);
    connection.close();
  });

  it('waits longer each time, to five seconds, and a person need not wait', async () => {
    vi.mocked(call).mockRejectedValue(new Error('gone'));
    const connection = new ConsoleConnection('id', 'screen', sink);
    connection.open();
    await settle();
    for (const wait of [250, 500, 1000, 2000, 4000, 5000, 5000]) {
      const before = vi.mocked(call).mock.calls.length;
      await vi.advanceTimersByTimeAsync(wait - 1);
      expect(vi.mocked(call).mock.calls.length).toBe(before);
      await vi.advanceTimersByTimeAsync(1);
      expect(vi.mocked(call).mock.calls.length).toBe(before + 1);
    }
    const before = vi.mocked(call).mock.calls.length;
    connection.open();
    expect(vi.mocked(call).mock.calls.length).toBe(before + 1);
    connection.close();
  });

  it('stays closed, whatever was on its way', async () => {
    const connection = new ConsoleConnection('id', 'screen', sink);
    connection.open();
    connection.close();
    await settle();
    expect(FakeSocket.made).toHaveLength(0);
    connection.open();
    await settle();
    const socket = newest();
    socket.open();
    connection.close();
    await vi.advanceTimersByTimeAsync(10_000);
    expect([socket.closed, connection.state.value, asked]).toEqual([true, 'closed', 2]);
    connection.send('late');
    expect(socket.sent).toEqual([]);
  });
});
