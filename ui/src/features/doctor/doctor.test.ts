// @vitest-environment node
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import en from '@/locales/en';

/** The engine's own list of findings, from the source that makes them. */
function findings(): [check: string, findings: string[]][] {
  const source = readFileSync(new URL('../../../../crates/host/src/doctor/mod.rs', import.meta.url), 'utf8');
  const list = /FINDINGS[^=]*= &\[(.*?)\n\];/s.exec(source)?.[1] ?? '';
  const snake = (name: string) => name.replaceAll(/(?<!^)[A-Z]/g, '_$&').toLowerCase();
  return [...list.matchAll(/CheckId::(\w+), &\[([^\]]*)\]/g)].map(([, check = '', names = '']) => [
    snake(check),
    [...names.matchAll(/"(\w+)"/g)].map((match) => match[1] ?? ''),
  ]);
}

describe('doctor', () => {
  it('has words for every finding the engine can make, and no others', () => {
    const known = findings();
    expect(known.length).toBeGreaterThan(10);
    const words = Object.entries(en.doctor.finding).map(([check, found]) => [
      check,
      Object.keys(found).sort(),
    ]);
    expect(words).toEqual(known.map(([check, found]) => [check, [...found].sort()]));
    expect(Object.keys(en.doctor.check)).toEqual(known.map(([check]) => check));
  });

  it('says what to do about everything that is not in order', () => {
    const fine = ['ok', 'absent', 'none', 'not_needed'];
    for (const [check, found] of Object.entries(en.doctor.finding)) {
      for (const [finding, words] of Object.entries(found)) {
        expect('remedy' in words, `${check}.${finding}`).toBe(!fine.includes(finding));
      }
    }
  });
});
