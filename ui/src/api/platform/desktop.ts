/** The surface in the desktop window: one bridge command for the contract, a channel for events, the desktop's own dialogs. */
import { Channel, invoke } from '@tauri-apps/api/core';
import { listen } from '@tauri-apps/api/event';
import { getCurrentWebview } from '@tauri-apps/api/webview';
import { getCurrentWindow } from '@tauri-apps/api/window';
import { toApiError } from '@/api/client/errors';
import type { StreamItem } from '@/api/generated/commands';
import type { CloseChoice, FileKind, Platform, UpdateProgress, UpdateState } from './platform';
import type { Transport } from './transport';

const transport: Transport = {
  async send(name, payload) {
    try {
      return await invoke('rpc', { name, payload });
    } catch (cause) {
      throw toApiError(cause);
    }
  },

  subscribe(since, sink) {
    let live = true;
    const channel = new Channel<StreamItem>();
    channel.onmessage = (item) => {
      if (live) sink.item(item);
    };
    invoke<number>('subscribe', { since: since ?? null, channel }).then(
      () => {
        if (live) sink.opened();
      },
      () => {
        if (live) sink.closed();
      },
    );
    return () => {
      live = false;
      void invoke('unsubscribe', { channel: channel.id }).catch(() => undefined);
    };
  },
};

function filters(kinds: readonly FileKind[] | undefined) {
  return (kinds ?? []).map((kind) => ({ name: kind.name, extensions: [...kind.extensions] }));
}

async function pick(
  options: Parameters<Platform['pickFile']>[0],
  directory: boolean,
): Promise<string | undefined> {
  const { open } = await import('@tauri-apps/plugin-dialog');
  const chosen = await open({
    title: options.title,
    directory,
    multiple: false,
    filters: filters(options.kinds),
    ...(options.folder === undefined ? {} : { defaultPath: options.folder }),
  });
  return chosen ?? undefined;
}

/** Listens to what the shell tells; the listener is removed even when it is not yet in place. */
function whenTold(promise: Promise<() => void>): () => void {
  return () =>
    void promise.then((stop) => {
      stop();
    });
}

/** A call of the shell that fails with an `ApiError` alone. */
async function ask<Reply>(...call: Parameters<typeof invoke>): Promise<Reply> {
  try {
    return await invoke<Reply>(...call);
  } catch (cause) {
    throw toApiError(cause);
  }
}

export const desktopPlatform: Platform = {
  kind: 'desktop',
  transport,
  pickFile: (options) => pick(options, false),
  pickFolder: (options) => pick(options, true),

  // The shell shows the dialog and writes: the page never names a path to write to.
  async saveFile(options, content) {
    const headers = { title: encodeURIComponent(options.title), name: encodeURIComponent(options.name) };
    return ask<boolean>('save_file', new Uint8Array(await content.arrayBuffer()), { headers });
  },

  async openExternal(url) {
    const { openUrl } = await import('@tauri-apps/plugin-opener');
    await openUrl(url);
  },

  async notify(title, body) {
    const plugin = await import('@tauri-apps/plugin-notification');
    let granted = await plugin.isPermissionGranted();
    if (!granted) granted = (await plugin.requestPermission()) === 'granted';
    if (granted) plugin.sendNotification({ title, body });
  },

  setTitle(title) {
    document.title = title;
    void getCurrentWindow()
      .setTitle(title)
      .catch(() => undefined);
  },

  setFullscreen: (state) => getCurrentWindow().setFullscreen(state === 'on'),
  onCloseAsked: (listener) =>
    whenTold(
      listen('close-asked', () => {
        listener();
      }),
    ),

  answerClose: (choice: CloseChoice, memory) =>
    invoke('close_choice', { choice, remember: memory === 'remember' }),

  onFilesDropped: (listener) =>
    whenTold(
      getCurrentWebview().onDragDropEvent((event) => {
        if (event.payload.type === 'drop') listener(event.payload.paths);
      }),
    ),

  painted() {
    void invoke('painted').catch(() => undefined);
  },

  updates: {
    check: () => ask<UpdateState>('updater_check'),
    install: (onProgress) => {
      const channel = new Channel<UpdateProgress>();
      channel.onmessage = onProgress;
      return ask('updater_install', { channel });
    },
    restart: () => ask('updater_restart'),
  },
};
