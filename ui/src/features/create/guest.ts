/** Who can sign in to a cloud guest, and what else cloud-init shall do at its first start. Pure but for the texts. */
import type { CloudInit } from '@/api/client';

export interface GuestDraft {
  user: string;
  /** A key of the machine's own, the person's own, or none. */
  keys: 'generate' | 'paste' | 'none';
  /** One a line. */
  sshKeys: string;
  password: string;
  hostname: string;
  /** Between spaces or commas. */
  packages: string;
  userData: string;
}

export const USER = 'user';

export function guestDraft(): GuestDraft {
  return {
    user: USER,
    keys: 'generate',
    sshKeys: '',
    password: '',
    hostname: '',
    packages: '',
    userData: '',
  };
}

export function linesOf(text: string): string[] {
  return text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '');
}

export function packagesOf(text: string): string[] {
  return [...new Set(text.split(/[\s,，]+/).filter((name) => name !== ''))];
}

export type GuestField = keyof GuestDraft;
export type GuestProblem = 'user' | 'sshKeys' | 'noKey' | 'noWayIn' | 'hostname' | 'packages' | 'userData';

const KEY = /^(ssh-(rsa|ed25519|dss)|ecdsa-sha2-\S+|sk-\S+) [a-z0-9+/]+=*( .*)?$/i;

export function guestProblems(draft: GuestDraft): [GuestField, GuestProblem][] {
  const found: [GuestField, GuestProblem][] = [];
  if (!/^[a-z_][a-z0-9_-]{0,31}$/.test(draft.user.trim())) found.push(['user', 'user']);
  if (draft.keys === 'paste') {
    const keys = linesOf(draft.sshKeys);
    if (keys.length === 0) found.push(['sshKeys', 'noKey']);
    else if (!keys.every((key) => KEY.test(key))) found.push(['sshKeys', 'sshKeys']);
  } else if (draft.keys === 'none' && draft.password === '' && draft.userData.trim() === '') {
    found.push(['password', 'noWayIn']);
  }
  if (draft.hostname.trim() !== '' && !/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/i.test(draft.hostname.trim()))
    found.push(['hostname', 'hostname']);
  if (!packagesOf(draft.packages).every((name) => /^[a-z0-9][\w.+:=~-]*$/i.test(name)))
    found.push(['packages', 'packages']);
  if (draft.userData.trim() !== '' && !/^#cloud-config\s*(\n|$)/.test(draft.userData.trimStart()))
    found.push(['userData', 'userData']);
  return found;
}

export function toCloudInit(draft: GuestDraft): CloudInit {
  const hostname = draft.hostname.trim();
  const packages = packagesOf(draft.packages);
  return {
    user: draft.user.trim(),
    ...(draft.keys === 'generate' ? { generateKey: true } : {}),
    ...(draft.keys === 'paste' ? { sshKeys: linesOf(draft.sshKeys) } : {}),
    ...(draft.password === '' ? {} : { password: draft.password }),
    ...(hostname === '' ? {} : { hostname }),
    ...(packages.length === 0 ? {} : { packages }),
    ...(draft.userData.trim() === '' ? {} : { userData: draft.userData }),
  };
}
