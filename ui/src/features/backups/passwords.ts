/**
 * Passwords of encrypted backups that the keychain does not have. They are in memory alone, and only while the page of backups is
 * open: every request brings the one it needs.
 */
import { onScopeDispose, shallowReactive } from 'vue';

const given = shallowReactive(new Map<string, string>());

/** The part of a request that names the folder and, where one was given, its password. */
export function folderRequest(directory: string): { directory: string; password?: string } {
  const password = given.get(directory);
  return { directory, ...(password === undefined ? {} : { password }) };
}

export function givePassword(directory: string, password: string): void {
  given.set(directory, password);
}

/** Forgets every password when the caller's component ends. */
export function usePasswords(): void {
  onScopeDispose(() => {
    given.clear();
  });
}
