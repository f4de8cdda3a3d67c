/** Values as a table that other programs read: RFC 4180, instants in UTC (ISO 8601), numbers as they are. Pure. */
import type { MetricUnit } from '@/api/client';
import type { Value } from './columns';
import type { Range } from './span';

export interface CsvColumn {
  /** What it is, without its unit. */
  readonly name: string;
  readonly unit: MetricUnit;
  readonly values: readonly Value[];
}

export interface CsvTable {
  /** Seconds since 1970. */
  readonly times: readonly number[];
  readonly columns: readonly CsvColumn[];
}

/** As programs write units, in every language. */
const UNITS: Readonly<Record<MetricUnit, string>> = {
  percent: '%',
  bytes: 'B',
  bytes_per_second: 'B/s',
  per_second: '1/s',
  milliseconds: 'ms',
  number: '',
};

function field(text: string): string {
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

export function isoInstant(second: number): string {
  return new Date(second * 1000).toISOString().replace('.000Z', 'Z');
}

/** The rows within `range`. A gap is an empty field. */
export function toCsv(table: CsvTable, timeName: string, [from, to]: Range): string {
  const head = [
    `${timeName} (UTC)`,
    ...table.columns.map(({ name, unit }) => (UNITS[unit] ? `${name} (${UNITS[unit]})` : name)),
  ];
  const lines = [head.map(field).join(',')];
  table.times.forEach((time, row) => {
    if (time < from || time > to) return;
    const values = table.columns.map((column) => {
      const value = column.values[row];
      return value == null ? '' : String(value);
    });
    lines.push([isoInstant(time), ...values].join(','));
  });
  return `${lines.join('\r\n')}\r\n`;
}
