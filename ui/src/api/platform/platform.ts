/** What the surface asks of the place it runs in. Two places exist: the desktop window and a browser. */
import type { Transport } from './transport';

export interface FileKind {
  /** What people call it; shown by the dialog. */
  readonly name: string;
  /** Endings without the dot. */
  readonly extensions: readonly string[];
}

export interface PickOptions {
  readonly title: string;
  readonly kinds?: readonly FileKind[];
  /** Where to begin; the home directory without. */
  readonly folder?: string;
}

export interface SaveOptions {
  readonly title: string;
  readonly name: string;
  readonly kinds?: readonly FileKind[];
}

/** What a person chose when the window was asked to close. */
export type CloseChoice = 'tray' | 'quit' | 'stay';

/** What looking for an update of the app came to. */
export type UpdateState =
  | { readonly state: 'off'; readonly reason: 'no_endpoint' | 'no_key' }
  | { readonly state: 'current'; readonly version: string }
  | {
      readonly state: 'available';
      readonly version: string;
      readonly current: string;
      /** Plain text, as its publisher wrote it. */
      readonly notes: string | null;
    };

export interface UpdateProgress {
  readonly downloaded: number;
  /** Bytes in all, where the server says. */
  readonly total: number | null;
}

/** Updates of the app itself. Each call fails with an `ApiError` alone. */
export interface Updates {
  check(): Promise<UpdateState>;
  /** Downloads, verifies and installs what `check` found last. */
  install(onProgress: (progress: UpdateProgress) => void): Promise<void>;
  /** Ends the app and starts what was installed. */
  restart(): Promise<void>;
}

export interface Platform {
  readonly kind: 'desktop' | 'browser';
  readonly transport: Transport;
  /** Path on the host, or undefined when nothing was chosen. */
  pickFile(options: PickOptions): Promise<string | undefined>;
  pickFolder(options: PickOptions): Promise<string | undefined>;
  /** Writes `content` where the person says; false when nothing was chosen. */
  saveFile(options: SaveOptions, content: Blob): Promise<boolean>;
  openExternal(url: string): Promise<void>;
  /** A notice of the desktop; nothing happens where that is not permitted. */
  notify(title: string, body: string): Promise<void>;
  setTitle(title: string): void;
  setFullscreen(state: 'on' | 'off'): Promise<void>;
  /** The window is asked to close and the setting says to ask. Answers how to stop listening. */
  onCloseAsked(listener: () => void): () => void;
  /** Ends the question; `remember` makes it the setting. */
  answerClose(choice: CloseChoice, memory: 'once' | 'remember'): Promise<void>;
  /** Files dropped onto the window, as paths on the host; never in a browser. */
  onFilesDropped(listener: (paths: string[]) => void): () => void;
  /** The first page with machines stands: the desktop notes it, for that is where a start ends. */
  painted(): void;
  /** Undefined in a browser: whoever runs the engine updates it. */
  readonly updates: Updates | undefined;
}
