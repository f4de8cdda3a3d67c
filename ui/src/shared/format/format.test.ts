import { afterEach, describe, expect, it } from 'vitest';
import { formatBytes, formatDuration, formatLocale, formatMiB, formatPercent, formatRelative } from '.';

afterEach(() => {
  formatLocale.value = 'en';
});

const spaces = (text: string) => text.replace(/\s/gu, ' ');

describe('quantities', () => {
  it('use the largest unit that fits, as the engine does', () => {
    expect(formatBytes(0)).toBe('0 B');
    expect(formatBytes(512)).toBe('512 B');
    expect(formatBytes(3 * 2 ** 29)).toBe('1.5 GB');
    expect(formatBytes(2 ** 40)).toBe('1 TB');
    expect(formatBytes(150.6 * 2 ** 20)).toBe('151 MB');
    expect(formatMiB(2048)).toBe('2 GB');
  });

  it('never round up to 1,024 of a unit', () => {
    expect(formatBytes(1023.99 * 2 ** 20)).toBe('1 GB');
  });

  it('show small shares as they are', () => {
    expect(formatPercent(0)).toBe('0%');
    expect(formatPercent(0.4)).toBe('0.4%');
    expect(formatPercent(99.6)).toBe('100%');
  });
});

describe('times', () => {
  const now = Date.parse('2026-06-15T12:00:00Z');

  it('are said as people say them', () => {
    expect(formatRelative(now - 10_000, now)).toBe('now');
    expect(formatRelative(now - 50_000, now)).toBe('1 min. ago');
    expect(formatRelative(now - 7_200_000, now)).toBe('2 hr. ago');
    expect(formatRelative(now - 86_400_000, now)).toBe('yesterday');
    expect(formatRelative(now + 3_600_000, now)).toBe('in 1 hr.');
  });

  it('follow the language', () => {
    formatLocale.value = 'zh-CN';
    expect(formatRelative(now - 7_200_000, now)).toBe('2小时前');
  });

  it('have no empty parts when something took long', () => {
    expect(spaces(formatDuration(340))).toBe('340 ms');
    expect(spaces(formatDuration(2_440))).toBe('2.4 sec');
    expect(spaces(formatDuration(185_000))).toBe('3 min 5 sec');
    expect(spaces(formatDuration(3_600_000))).toBe('1 hr 0 min');
  });
});
