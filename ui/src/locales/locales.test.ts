import { describe, expect, it } from 'vitest';
import { errorCodes, vmStates } from '@/api/generated/commands';
import en from './en';
import zh from './zh-CN';

function flatten(messages: object, prefix = ''): Map<string, string> {
  const found = new Map<string, string>();
  for (const [key, value] of Object.entries(messages)) {
    if (typeof value === 'string') found.set(prefix + key, value);
    else for (const [inner, text] of flatten(value as object, `${prefix}${key}.`)) found.set(inner, text);
  }
  return found;
}

const english = flatten(en);
const chinese = flatten(zh);

function placeholders(text: string): string[] {
  return [...new Set([...text.matchAll(/\{(\w+)\}/g)].map((match) => match[1] ?? ''))].sort();
}

describe('languages', () => {
  it('have exactly the same keys', () => {
    expect([...chinese.keys()].sort()).toEqual([...english.keys()].sort());
  });

  it('name the same facts', () => {
    for (const [key, text] of english) {
      expect(placeholders(chinese.get(key) ?? ''), key).toEqual(placeholders(text));
    }
  });

  it('leave nothing empty', () => {
    for (const [key, text] of [...english, ...chinese]) expect(text.trim(), key).not.toBe('');
  });

  it('have words for every state of a machine and every error', () => {
    for (const state of vmStates) expect(english.has(`vm.state.${state}`), state).toBe(true);
    for (const code of errorCodes) expect(english.has(`errors.${code}.sentence`), code).toBe(true);
    expect(Object.keys(en.errors).sort()).toEqual([...errorCodes].sort());
  });
});
