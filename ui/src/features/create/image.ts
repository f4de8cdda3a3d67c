/** The file or image a machine is made from, and why it may not fit what is wanted of it. */
import { call, type ImageInfo } from '@/api/client';
import { useLook, type Look } from './looking';

export type ImageLook = Look<ImageInfo>;

export function useImage(path: () => string): ImageLook {
  return useLook(path, (file) => call('image.inspect', { path: file }));
}

export type ImageTrouble = 'is_iso' | 'is_disk' | 'in_use' | 'not_writable' | 'foreign';

/** Why a file that could be read does not fit what is wanted of it. */
export function imageTrouble(
  info: ImageInfo,
  wanted: { readonly source: 'iso' | 'image'; readonly usage: 'copy' | 'in_place' },
): ImageTrouble | undefined {
  if (wanted.source === 'iso') return info.kind === 'iso' ? undefined : 'is_disk';
  if (info.kind === 'iso') return 'is_iso';
  if (wanted.usage === 'copy') return undefined;
  if (info.kind !== 'qcow2' && info.kind !== 'raw') return 'foreign';
  if (info.usedBy !== null) return 'in_use';
  return info.writable ? undefined : 'not_writable';
}
