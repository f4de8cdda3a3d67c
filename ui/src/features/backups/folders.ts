/**
 * The folders with backups that somebody has opened on this device. The engine keeps no list of them: a folder is named by where it is
 * mounted now. Only paths are remembered, never a password.
 */
import { useLocalStorage } from '@vueuse/core';

/** As it is written in one way only. */
export function plainPath(path: string): string {
  const plain = path.trim().replace(/\/+$/, '');
  return plain === '' && path.includes('/') ? '/' : plain;
}

export const folders = useLocalStorage<string[]>('voidvm.backups.folders', []);

export function rememberFolder(path: string): void {
  const plain = plainPath(path);
  if (!folders.value.includes(plain)) folders.value = [...folders.value, plain];
}

export function leaveFolder(path: string): void {
  folders.value = folders.value.filter((folder) => folder !== path);
}

/** What a folder is called where its path stands beside it. */
export function folderName(path: string): string {
  return path.split('/').pop() || path;
}
