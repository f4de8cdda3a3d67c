/** The place the surface runs in, found out once. The only folder that speaks to Tauri. */
import { desktopPlatform } from './desktop';
import type { Platform } from './platform';
import { browserPlatform } from './web';

export type {
  CloseChoice,
  FileKind,
  PickOptions,
  Platform,
  SaveOptions,
  UpdateProgress,
  Updates,
  UpdateState,
} from './platform';
export type { EventSink, Transport } from './transport';
export { signedOut } from './session';
export { signIn } from './web';

export const platform: Platform = '__TAURI_INTERNALS__' in window ? desktopPlatform : browserPlatform;
