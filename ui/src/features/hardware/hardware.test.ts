import { describe, expect, it } from 'vitest';
import { memoryStops } from './rules';

describe('the slider for memory', () => {
  it('rises to the host and ends at it', () => {
    for (const most of [100, 512, 1024, 7_900, 16_384, 1_000_000]) {
      const stops = memoryStops(most);
      expect(stops.at(-1), String(most)).toBe(most);
      expect([...stops].sort((a, b) => a - b)).toEqual(stops);
      expect(new Set(stops).size).toBe(stops.length);
    }
  });

  it('has the sizes people use', () => {
    expect(memoryStops(4096)).toEqual([128, 256, 512, 1024, 1536, 2048, 3072, 4096]);
  });
});
