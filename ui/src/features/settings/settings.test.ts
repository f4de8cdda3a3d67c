import { describe, expect, it } from 'vitest';
import { fileKeyOf, settingSchema, variableOf, type Key } from './rules';

const holds = (key: Key, value: unknown) =>
  settingSchema(key, (name) => name, { mib: String })?.safeParse(value).success ?? true;

describe('settings', () => {
  it('keep the engine’s bounds', () => {
    for (const [key, least, most] of [
      ['defaultMemory', 32, 4_194_304],
      ['defaultCpus', 1, 255],
      ['maxConcurrentStarts', 1, 64],
      ['maxConcurrentStops', 1, 64],
      ['preparedSnapshots', 0, 20],
      ['maxDiskLayers', 8, 150],
      ['stopTimeoutSeconds', 1, 3600],
      ['localApiPort', 1024, 65_535],
    ] as const) {
      expect([holds(key, least), holds(key, most)], key).toEqual([true, true]);
      for (const value of [least - 1, most + 1, '', least + 0.5])
        expect(holds(key, value), `${key} ${String(value)}`).toBe(false);
    }
  });

  it('take an absolute path or none for QEMU, and https or nothing for updates', () => {
    expect([
      holds('qemuBinary', ''),
      holds('qemuBinary', '/usr/bin/qemu'),
      holds('qemuBinary', 'qemu'),
    ]).toEqual([true, true, false]);
    expect(
      ['', 'https://example.org/latest.json', 'http://example.org', 'nonsense'].map((url) =>
        holds('updateEndpoint', url),
      ),
    ).toEqual([true, true, false, false]);
  });

  it('are named as in the file and in the environment', () => {
    expect(variableOf('stopTimeoutSeconds')).toBe('VOIDVM_STOP_TIMEOUT_SECONDS');
    expect(fileKeyOf('localApiPort')).toBe('local_api_port');
  });
});
