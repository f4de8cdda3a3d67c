import { describe, expect, it } from 'vitest';
import type { VmView } from '@/api/client';
import {
  conflicts,
  forwardProblems,
  suggestForward,
  takenBy,
  takenPorts,
  toForwards,
  type ForwardRow,
} from './rules';
import { forwardsSchema } from './schema';

const row = (
  hostPort: number | '',
  guestPort: number | '' = 80,
  more: Partial<ForwardRow> = {},
): ForwardRow => ({
  protocol: 'tcp',
  hostAddress: '127.0.0.1',
  hostPort,
  guestPort,
  ...more,
});
const machine = (name: string, ports: number[]) =>
  ({
    id: name,
    name,
    spec: {
      nics: [{ network: { kind: 'user', forwards: ports.map((port) => toForwards([row(port)])[0]) } }],
    },
  }) as unknown as VmView;

describe('port forwards', () => {
  it('conflict on the same port, protocol and address, and with an address that stands for all', () => {
    expect(conflicts(row(8080), row(8080))).toBe(true);
    expect(conflicts(row(8080), row(8081))).toBe(false);
    expect(conflicts(row(8080), row(8080, 80, { protocol: 'udp' }))).toBe(false);
    expect(conflicts(row(8080), row(8080, 80, { hostAddress: '0.0.0.0' }))).toBe(true);
    expect(conflicts(row(8080), row(8080, 80, { hostAddress: '127.0.0.2' }))).toBe(false);
    expect(conflicts(row(''), row(''))).toBe(false);
  });

  it('tell what is wrong at the later of two rows', () => {
    expect(forwardProblems([row(2222), row(8080), row(2222)])).toEqual([
      { index: 2, field: 'hostPort', problem: 'conflict', other: 0 },
    ]);
  });

  it('refuse ports outside the bounds, empty ones and fractions', () => {
    expect(forwardProblems([row(1023, 0)]).map(({ problem }) => problem)).toEqual([
      'host_range',
      'guest_range',
    ]);
    expect(forwardProblems([row('', '')]).map(({ problem }) => problem)).toEqual([
      'host_range',
      'guest_range',
    ]);
    expect(forwardProblems([row(2000.5)])).toHaveLength(1);
    expect(forwardProblems([row(65_536, 65_536)])).toHaveLength(2);
    expect(forwardProblems([row(1024, 1), row(65_535, 65_535)])).toEqual([]);
  });

  it('take IPv4 addresses only', () => {
    for (const hostAddress of ['', 'localhost', '256.0.0.1', '1.2.3', '::1', '1.2.3.4.']) {
      expect(
        forwardProblems([row(2222, 22, { hostAddress })]).map(({ problem }) => problem),
        hostAddress,
      ).toEqual(['address']);
    }
    expect(forwardProblems([row(2222, 22, { hostAddress: '192.168.1.20' })])).toEqual([]);
  });

  it('know which other machine names the port', () => {
    const taken = takenPorts([machine('web', [8080, 2222]), machine('own', [9090])], 'own');
    expect(takenBy(row(2222), taken)).toBe('web');
    expect(takenBy(row(9090), taken)).toBeUndefined();
    expect(takenBy(row(2222, 22, { protocol: 'udp' }), taken)).toBeUndefined();
  });

  it('suggest the first port that nobody names', () => {
    const taken = takenPorts([machine('web', [2222])]);
    expect(suggestForward(22, [], taken).hostPort).toBe(2223);
    expect(suggestForward(22, [row(2223)], taken).hostPort).toBe(2224);
    expect(suggestForward(80, [], []).hostPort).toBe(8080);
    expect(suggestForward(25, [], []).hostPort).toBe(8025);
    expect(suggestForward(5432, [], []).hostPort).toBe(5432);
  });

  it('put each problem at its field in the schema', () => {
    const result = forwardsSchema((key) => key).safeParse([row(2222), row(2222, '')]);
    expect(result.error?.issues.map(({ path, message }) => `${path.join('.')} ${message}`)).toEqual([
      '1.hostPort forwards.problem.conflict',
      '1.guestPort forwards.problem.guest_range',
    ]);
  });
});
