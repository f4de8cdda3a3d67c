import { describe, expect, it } from 'vitest';
import type { LibraryImage } from '@/api/client';
import { makeOperation } from '../../../tests/unit/examples';
import { losesFile, select, systemIcon } from './library';
import {
  downloadField,
  downloadRequest,
  downloadSchema,
  importSchema,
  isAddress,
  isMachine,
  isPacked,
  readChecksum,
  type DownloadDraft,
} from './source';
import { canGoOn, transfersOf } from './transfers';

const SHA256 = 'a'.repeat(64);
const SHA512 = 'B'.repeat(128);

function image(changes: Partial<LibraryImage>): LibraryImage {
  return {
    id: changes.name ?? 'one',
    name: 'one',
    description: '',
    kind: 'qcow2',
    path: '/images/one.qcow2',
    owned: true,
    state: 'ready',
    size: 1,
    virtualSize: 1,
    sha256: null,
    verified: 'none',
    os: null,
    cloudInit: false,
    source: null,
    usedBy: [],
    createdAt: '2026-01-01T00:00:00Z',
    ...changes,
  };
}

describe('the library', () => {
  const debian = { id: 'debian12', name: 'Debian 12', family: 'linux', version: '12' };
  const images = [
    image({ name: 'disk 10', os: debian }),
    image({ name: 'disk 9', state: 'missing' }),
    image({ name: 'installer', kind: 'iso', os: debian }),
  ];
  const names = (...args: Parameters<typeof select>) => select(...args).map(({ name }) => name);

  it('stands in the order people count in', () => {
    expect(names(images, 'all', '')).toEqual(['disk 9', 'disk 10', 'installer']);
  });

  it('is found by kind, state, name and system', () => {
    expect(names(images, 'iso', '')).toEqual(['installer']);
    expect(names(images, 'attention', '')).toEqual(['disk 9']);
    expect(names(images, 'disk', 'debian')).toEqual(['disk 10']);
  });

  it('says whether a file goes with the entry', () => {
    expect(losesFile(image({}))).toBe(true);
    expect(losesFile(image({ owned: false }))).toBe(false);
    expect(losesFile(image({ state: 'missing' }))).toBe(false);
  });

  it('shows the system, else the kind', () => {
    expect(systemIcon(debian, 'qcow2')).toBe('tux');
    expect(systemIcon({ id: 'win11', family: 'winnt' }, 'iso')).toBe('windows');
    expect(systemIcon(null, 'iso')).toBe('disc');
  });
});

describe('a download', () => {
  const draft = (changes: Partial<DownloadDraft>): DownloadDraft => ({
    url: 'https://example.org/disk.qcow2',
    checksum: '',
    name: '',
    mirrors: '',
    signature: '',
    ...changes,
  });
  const problems = (changes: Partial<DownloadDraft>) =>
    downloadSchema(
      (key, values) => key.replace('images.download.problem.', '') + JSON.stringify(values ?? {}),
    )
      .safeParse(draft(changes))
      .error?.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`) ?? [];

  it('tells sums by their length and files by their address', () => {
    expect(readChecksum('')).toEqual({ kind: 'none' });
    expect(readChecksum(` ${SHA256} `)).toEqual({ kind: 'sha256', value: SHA256 });
    expect(readChecksum(`${SHA256}  disk.qcow2`)).toEqual({ kind: 'sha256', value: SHA256 });
    expect(readChecksum(`sha512:${SHA512}`)).toEqual({ kind: 'sha512', value: SHA512.toLowerCase() });
    expect(readChecksum('https://example.org/SHA256SUMS').kind).toBe('url');
    for (const wrong of ['abc', 'g'.repeat(64), 'a'.repeat(40), '/home/SHA256SUMS', 'ftp://example.org/x'])
      expect(readChecksum(wrong).kind, wrong).toBe('wrong');
  });

  it('comes over http or https alone', () => {
    for (const right of ['http://h/x', 'https://example.org:8443/a?b=c']) expect(isAddress(right)).toBe(true);
    for (const wrong of ['', 'example.org/x', 'file:///etc/passwd', 'https://', 'javascript:alert(1)'])
      expect(isAddress(wrong), wrong).toBe(false);
  });

  it('names the field that does not hold', () => {
    expect(problems({})).toEqual([]);
    expect(problems({ url: 'disk.qcow2' })).toEqual(['url: url{}']);
    expect(problems({ checksum: 'x' })).toEqual(['checksum: checksum{}']);
    expect(problems({ mirrors: 'https://a/x\n\nb' })).toEqual(['mirrors: mirrors{"line":2}']);
    expect(problems({ signature: 'https://a/x.sig', checksum: SHA256 })).toEqual(['signature: signature{}']);
    expect(problems({ signature: 'https://a/x.sig', checksum: 'https://a/SUMS' })).toEqual([]);
  });

  it('asks only for what was given', () => {
    expect(downloadRequest(draft({}))).toEqual({ url: 'https://example.org/disk.qcow2' });
    expect(
      downloadRequest(draft({ checksum: SHA256, name: ' base ', mirrors: 'https://a/x\n https://b/x ' })),
    ).toEqual({
      url: 'https://example.org/disk.qcow2',
      sha256: SHA256,
      name: 'base',
      mirrors: ['https://a/x', 'https://b/x'],
    });
  });

  it('shows what the engine refuses where it was typed', () => {
    expect(['sha512', 'checksumUrl', 'signatureUrl', 'mirrors[1]', 'url'].map(downloadField)).toEqual([
      'checksum',
      'checksum',
      'signature',
      'mirrors',
      'url',
    ]);
  });
});

describe('an import', () => {
  it('wants a whole path', () => {
    const schema = importSchema((key) => key);
    expect(schema.safeParse({ path: 'disk.qcow2', mode: 'copy', name: '' }).success).toBe(false);
    expect(schema.safeParse({ path: '/disk.qcow2', mode: 'in_place', name: '' }).success).toBe(true);
  });

  it('knows packed files and whole machines by their ending', () => {
    expect([isPacked('/a/disk.img.XZ'), isPacked('/a/disk.img')]).toEqual([true, false]);
    expect([isMachine('/a/x.ova'), isMachine('/a/x.iso')]).toEqual([true, false]);
  });
});

describe('images on their way', () => {
  const now = Date.parse('2026-01-02T00:00:00Z');
  const download = (changes: Parameters<typeof makeOperation>[0]) =>
    makeOperation({
      kind: 'image_download',
      vmId: null,
      subject: 'debian',
      finishedAt: '2026-01-01T23:00:00Z',
      ...changes,
    });

  it('are those at work and those that broke off lately', () => {
    const active = download({ status: 'running', subject: 'fedora', finishedAt: null });
    const failed = download({ status: 'failed' });
    const start = makeOperation({ kind: 'start', status: 'running' });
    expect(transfersOf([active, failed, start], now)).toEqual([active, failed]);
  });

  it('are no longer shown as broken once tried again, or after a day', () => {
    const failed = download({ status: 'failed' });
    expect(transfersOf([download({ status: 'succeeded' }), failed], now)).toEqual([]);
    expect(transfersOf([failed], now + 2 * 86_400_000)).toEqual([]);
    expect(transfersOf([download({ status: 'cancelled' })], now)).toEqual([]);
  });

  it('go on where the line broke, not where the file was wrong', () => {
    const error = { message: '', retryable: false, traceId: '' };
    expect(canGoOn(download({ status: 'interrupted' }))).toBe(true);
    expect(canGoOn(download({ status: 'failed', error: { ...error, code: 'network_failed' } }))).toBe(true);
    expect(canGoOn(download({ status: 'failed', error: { ...error, code: 'checksum_mismatch' } }))).toBe(
      false,
    );
  });
});
