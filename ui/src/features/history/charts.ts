/** What graphs there are of a machine and of the host, and how numbers of each unit are told. */
import type { Metric, MetricSubject, MetricUnit, Pool, VmId } from '@/api/client';
import {
  formatBytes,
  formatMilliseconds,
  formatNumber,
  formatPerSecond,
  formatPercent,
  formatRate,
} from '@/shared/format';

export interface Line {
  readonly subject: MetricSubject;
  readonly metric: Metric;
  readonly label: string;
  /** Name of the variable that holds the colour: `--v-chart-1`. */
  readonly colour: string;
}
export interface Graph {
  readonly id: string;
  readonly label: string;
  readonly unit: MetricUnit;
  readonly lines: readonly Line[];
  /** Top of the axis; what was highest without. */
  readonly max?: number | undefined;
  /** Why there is nothing to show; a graph without it is left out then. */
  readonly missing?: string;
}
type Translate = (key: string, values?: Record<string, unknown>) => string;

export const FORMATS: Readonly<Record<MetricUnit, (value: number) => string>> = {
  percent: formatPercent,
  bytes: formatBytes,
  bytes_per_second: formatRate,
  per_second: formatPerSecond,
  milliseconds: formatMilliseconds,
  number: formatNumber,
};

/** What can be looked at of several machines at once. */
export const MACHINE_METRICS: readonly { readonly metric: Metric; readonly unit: MetricUnit }[] = [
  { metric: 'cpu', unit: 'percent' },
  { metric: 'memory_used', unit: 'bytes' },
  { metric: 'memory_resident', unit: 'bytes' },
  { metric: 'disk_read', unit: 'bytes_per_second' },
  { metric: 'disk_write', unit: 'bytes_per_second' },
  { metric: 'disk_read_ops', unit: 'per_second' },
  { metric: 'disk_write_ops', unit: 'per_second' },
  { metric: 'disk_read_latency', unit: 'milliseconds' },
  { metric: 'disk_write_latency', unit: 'milliseconds' },
  { metric: 'disk_allocated', unit: 'bytes' },
  { metric: 'network_in', unit: 'bytes_per_second' },
  { metric: 'network_out', unit: 'bytes_per_second' },
];

function graph(
  t: Translate,
  subject: MetricSubject,
  id: string,
  unit: MetricUnit,
  lines: readonly (readonly [Metric, label: string, colour: 1 | 2 | 3 | 4])[],
  more: { readonly max?: number | undefined; readonly missing?: string } = {},
): Graph {
  return {
    id,
    label: t(`history.graph.${id}`),
    unit,
    lines: lines.map(([metric, label, colour]) => ({
      subject,
      metric,
      label: t(`history.line.${label}`),
      colour: `--v-chart-${String(colour)}`,
    })),
    ...more,
  };
}

/** A machine's graphs; `memory` is what it has, in bytes. */
export function machineGraphs(t: Translate, id: VmId, memory: number): Graph[] {
  const of = graph.bind(undefined, t, { kind: 'vm', id });
  const missing = t('history.missing');
  return [
    of('cpu', 'percent', [['cpu', 'used', 1]], { max: 100, missing }),
    of(
      'memory',
      'bytes',
      [
        ['memory_used', 'guest', 1],
        ['memory_resident', 'host', 2],
      ],
      { max: memory, missing },
    ),
    of(
      'disk',
      'bytes_per_second',
      [
        ['disk_read', 'read', 1],
        ['disk_write', 'written', 3],
      ],
      { missing },
    ),
    of(
      'network',
      'bytes_per_second',
      [
        ['network_in', 'in', 1],
        ['network_out', 'out', 3],
      ],
      {
        missing: t('machine.load.needsAgent'),
      },
    ),
    of('operations', 'per_second', [
      ['disk_read_ops', 'reads', 1],
      ['disk_write_ops', 'writes', 3],
    ]),
    of('latency', 'milliseconds', [
      ['disk_read_latency', 'reads', 1],
      ['disk_write_latency', 'writes', 3],
    ]),
    of('allocated', 'bytes', [['disk_allocated', 'allocated', 2]]),
  ];
}

/** The host's graphs; `memory` is what it has, in bytes, where that is known. */
export function hostGraphs(t: Translate, memory: number | undefined): Graph[] {
  const of = graph.bind(undefined, t, { kind: 'host' });
  const missing = t('history.missing');
  return [
    of('cpu', 'percent', [['cpu', 'used', 1]], { max: 100, missing }),
    of('load', 'number', [['load', 'load', 1]], { missing }),
    of('memory', 'bytes', [['memory_used', 'used', 1]], { max: memory, missing }),
    of(
      'pressure',
      'percent',
      [
        ['cpu_pressure', 'cpu', 1],
        ['memory_pressure', 'memory', 2],
        ['io_pressure', 'disks', 3],
      ],
      {
        missing: t('history.noPressure'),
      },
    ),
    of(
      'disk',
      'bytes_per_second',
      [
        ['disk_read', 'read', 1],
        ['disk_write', 'written', 3],
      ],
      { missing: t('history.noDisks') },
    ),
    of(
      'network',
      'bytes_per_second',
      [
        ['network_in', 'in', 1],
        ['network_out', 'out', 3],
      ],
      { missing },
    ),
  ];
}

/** What was free in a pool; as high as it is large. */
export function poolGraph(t: Translate, { id, name, capacity }: Pool): Graph {
  return {
    id: `pool-${id}`,
    label: t('history.freeIn', { name }),
    unit: 'bytes',
    lines: [
      {
        subject: { kind: 'pool', id },
        metric: 'space_free',
        label: t('history.line.free'),
        colour: '--v-chart-2',
      },
    ],
    max: capacity > 0 ? capacity : undefined,
    missing: t('history.missing'),
  };
}

/** Colours of many lines in one graph, one after the other. */
export const COLOURS = [
  '--v-chart-1',
  '--v-chart-3',
  '--v-chart-2',
  '--v-chart-4',
  '--v-mark-green',
  '--v-mark-red',
  '--v-mark-blue',
  '--v-mark-yellow',
  '--v-mark-purple',
  '--v-mark-grey',
] as const;
