/** Keeping what graphs show as a CSV file. */
import { platform } from '@/api/platform';
import { isoInstant, toCsv, type CsvTable } from './csv';
import type { Range } from './span';

/** False where there is nothing to keep, or the person chose no place. */
export async function saveTable(
  words: { readonly title: string; readonly time: string; readonly name: string },
  table: CsvTable,
  range: Range,
): Promise<boolean> {
  const stamp = isoInstant(Math.round(range[1])).replaceAll(/[:-]/g, '');
  const name = `${words.name.replaceAll(/[/\\\0]/g, '_')}-${stamp}.csv`;
  return platform.saveFile(
    { title: words.title, name, kinds: [{ name: 'CSV', extensions: ['csv'] }] },
    new Blob([toCsv(table, words.time, range)], { type: 'text/csv;charset=utf-8' }),
  );
}
