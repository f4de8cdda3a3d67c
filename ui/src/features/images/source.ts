/** Where an image may come from: what people type, read and checked before the engine is asked. */
import { z } from 'zod';
import type { ImageDownloadRequest, ImageImportRequest, ImportMode } from '@/api/client';

export const NAME_MAX = 200;

/** What somebody pasted to check a download by. */
export type Checksum =
  | { readonly kind: 'none' | 'wrong' }
  | { readonly kind: 'sha256' | 'sha512' | 'url'; readonly value: string };

/** An address the engine can load. */
export function isAddress(text: string): boolean {
  return /^https?:\/\//i.test(text) && URL.canParse(text) && new URL(text).hostname !== '';
}

/** Tells a sum by its length; what follows a sum (a file's name, as in SHA256SUMS) is left out. */
export function readChecksum(text: string): Checksum {
  const given = text.trim();
  if (given === '') return { kind: 'none' };
  if (isAddress(given)) return { kind: 'url', value: given };
  const sum = /^(?:sha(?:256|512)[:=])?\s*([0-9a-f]+)(?:\s.*)?$/i.exec(given)?.[1]?.toLowerCase();
  if (sum?.length === 64) return { kind: 'sha256', value: sum };
  if (sum?.length === 128) return { kind: 'sha512', value: sum };
  return { kind: 'wrong' };
}

/** One address a line; empty lines are nothing. */
export function readLines(text: string): string[] {
  return text
    .split('\n')
    .map((line) => line.trim())
    .filter(Boolean);
}

export interface DownloadDraft {
  url: string;
  checksum: string;
  name: string;
  mirrors: string;
  signature: string;
}

type Translate = (key: string, values?: Record<string, unknown>) => string;

export function downloadSchema(t: Translate) {
  const problem = (key: string, values?: Record<string, unknown>) =>
    t(`images.download.problem.${key}`, values);
  return z
    .object({
      url: z.string().refine((url) => isAddress(url.trim()), problem('url')),
      checksum: z.string().refine((text) => readChecksum(text).kind !== 'wrong', problem('checksum')),
      name: z.string().max(NAME_MAX, problem('name', { most: NAME_MAX })),
      mirrors: z.string().superRefine((text, context) => {
        const line = readLines(text).findIndex((one) => !isAddress(one));
        if (line >= 0) context.addIssue({ code: 'custom', message: problem('mirrors', { line: line + 1 }) });
      }),
      signature: z.string().refine((text) => text.trim() === '' || isAddress(text.trim()), problem('url')),
    })
    .superRefine((draft, context) => {
      if (draft.signature.trim() !== '' && readChecksum(draft.checksum).kind !== 'url')
        context.addIssue({ code: 'custom', path: ['signature'], message: problem('signature') });
    });
}

export function downloadRequest(draft: DownloadDraft): ImageDownloadRequest {
  const checksum = readChecksum(draft.checksum);
  const mirrors = readLines(draft.mirrors);
  const name = draft.name.trim();
  const signatureUrl = draft.signature.trim();
  return {
    url: draft.url.trim(),
    ...(mirrors.length > 0 ? { mirrors } : {}),
    ...(name === '' ? {} : { name }),
    ...(checksum.kind === 'sha256' ? { sha256: checksum.value } : {}),
    ...(checksum.kind === 'sha512' ? { sha512: checksum.value } : {}),
    ...(checksum.kind === 'url' ? { checksumUrl: checksum.value } : {}),
    ...(signatureUrl === '' ? {} : { signatureUrl }),
  };
}

/** Where the form shows what the engine says of a field of the request. */
export function downloadField(field: string): string {
  if (['sha256', 'sha512', 'checksumUrl'].includes(field)) return 'checksum';
  return field === 'signatureUrl' ? 'signature' : field.replace(/[[.].*$/, '');
}

export interface ImportDraft {
  path: string;
  mode: ImportMode;
  name: string;
}

export function importSchema(t: Translate) {
  return z.object({
    path: z.string().refine((path) => path.startsWith('/'), t('images.download.problem.path')),
    mode: z.enum(['copy', 'move', 'in_place']),
    name: z.string().max(NAME_MAX, t('images.download.problem.name', { most: NAME_MAX })),
  });
}

export function importRequest({ path, mode, name }: ImportDraft): ImageImportRequest {
  const given = name.trim();
  return {
    path,
    mode,
    ...(given === '' ? {} : { name: given }),
  };
}

/** Compressed: what is inside is not known before it is unpacked. */
export function isPacked(path: string): boolean {
  return /\.(gz|xz|zst|bz2)$/i.test(path);
}

/** A machine of another program rather than an image. */
export function isMachine(path: string): boolean {
  return /\.(ova|ovf|vmx|vbox|xml|conf)$/i.test(path);
}
