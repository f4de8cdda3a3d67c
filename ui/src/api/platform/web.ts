/**
 * The surface in a browser: commands by HTTP, events by WebSocket. Who asks is told by a cookie that scripts cannot read; the
 * server sets it for the link with the token, or for the token typed into the sign-in page.
 */
import { ApiError, localError } from '@/api/client/errors';
import type { ErrorBody, StreamItem } from '@/api/generated/commands';
import type { Platform } from './platform';
import { signedOut } from './session';
import type { Transport } from './transport';

const API = '/api/v1';

interface Envelope {
  readonly code: number;
  readonly data?: unknown;
  readonly error?: ErrorBody;
}

async function post(path: string, payload: unknown): Promise<unknown> {
  let response: Response;
  try {
    response = await fetch(`${API}${path}`, {
      method: 'POST',
      credentials: 'same-origin',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(payload),
    });
  } catch {
    throw localError('network_failed', 'The engine cannot be reached.', 'retryable');
  }
  if (response.status === 401) signedOut.value = true;
  let envelope: Envelope;
  try {
    envelope = (await response.json()) as Envelope;
  } catch {
    throw response.status === 401
      ? localError('unauthenticated', 'The engine does not know this browser.')
      : localError(
          'network_failed',
          `The engine answered with status ${String(response.status)}.`,
          'retryable',
        );
  }
  if (envelope.error) throw new ApiError(envelope.error);
  if (!response.ok) {
    throw localError(
      'network_failed',
      `The engine answered with status ${String(response.status)}.`,
      'retryable',
    );
  }
  return envelope.data;
}

/** Tells the engine the token; it answers with the cookie. Fails with `unauthenticated` where the token is wrong. */
export async function signIn(token: string): Promise<void> {
  await post('/session', { token });
  signedOut.value = false;
}

const transport: Transport = {
  send: (name, payload) => post(`/rpc/${name}`, payload),

  subscribe(since, sink) {
    const query = since === undefined ? '' : `?since=${String(since)}`;
    const scheme = location.protocol === 'https:' ? 'wss:' : 'ws:';
    const socket = new WebSocket(`${scheme}//${location.host}${API}/events${query}`);
    socket.onopen = () => {
      sink.opened();
    };
    socket.onmessage = (message: MessageEvent<string>) => {
      sink.item(JSON.parse(message.data) as StreamItem);
    };
    socket.onclose = () => {
      sink.closed();
    };
    return () => {
      socket.onclose = null;
      socket.close();
    };
  },
};

/** The host's files, chosen in a dialog of our own: the browser's would show the wrong computer's. */
async function browseHost(mode: 'file' | 'folder', options: Parameters<Platform['pickFile']>[0]) {
  const [{ openDialog }, { default: HostFileDialog }] = await Promise.all([
    import('@/shared/composables/dialogs'),
    import('./HostFileDialog.vue'),
  ]);
  return openDialog<string>(HostFileDialog, { mode, ...options });
}

export const browserPlatform: Platform = {
  kind: 'browser',
  transport,
  pickFile: (options) => browseHost('file', options),
  pickFolder: (options) => browseHost('folder', options),

  saveFile(options, content) {
    const url = URL.createObjectURL(content);
    const link = document.createElement('a');
    link.href = url;
    link.download = options.name;
    link.click();
    // The download has begun once the click is handled; the address may go then.
    setTimeout(() => {
      URL.revokeObjectURL(url);
    });
    return Promise.resolve(true);
  },

  openExternal(url) {
    window.open(url, '_blank', 'noopener,noreferrer');
    return Promise.resolve();
  },

  async notify(title, body) {
    if (!('Notification' in window)) return;
    if (Notification.permission === 'default') await Notification.requestPermission();
    if (Notification.permission === 'granted') new Notification(title, { body });
  },

  setTitle(title) {
    document.title = title;
  },

  async setFullscreen(state) {
    if (state === 'on') await document.documentElement.requestFullscreen();
    else if (document.fullscreenElement) await document.exitFullscreen();
  },

  painted: () => undefined,
  onCloseAsked: () => () => undefined,
  answerClose: () => Promise.resolve(),
  onFilesDropped: () => () => undefined,
  updates: undefined,
};
