import { describe, expect, it } from 'vitest';
import type { Operation } from '@/api/client';
import { withNews } from './pages';

const operation = (id: string, status = 'succeeded') => ({ id, status, vmId: 'a' }) as Operation;

describe('the history', () => {
  it('takes changes in place and newer ones on top', () => {
    const rows = [operation('3', 'running'), operation('1')];
    const news = [operation('4'), operation('3'), operation('2')];
    expect(withNews(rows, news, () => true).map(({ id, status }) => `${id} ${status}`)).toEqual([
      '4 succeeded',
      '3 succeeded',
      '1 succeeded',
    ]);
  });

  it('leaves out what does not fit and stays the same where nothing is new', () => {
    const rows = [operation('3')];
    expect(withNews(rows, [operation('4')], () => false)).toBe(rows);
  });
});
