/** Port forwards as they are edited, what is wrong with them, and which host ports are free. Pure: no texts, no I/O. */
import type { Nic, PortForward, Protocol, VmId, VmView } from '@/api/client';

/** A forward while it is edited: a number field that was emptied is ''. */
export interface ForwardRow {
  protocol: Protocol;
  hostAddress: string;
  hostPort: number | '';
  guestPort: number | '';
}

export type ForwardField = 'hostPort' | 'guestPort' | 'hostAddress';

export interface ForwardProblem {
  readonly index: number;
  readonly field: ForwardField;
  readonly problem: 'host_range' | 'guest_range' | 'address' | 'conflict';
  /** The earlier row that holds the same host port. */
  readonly other?: number;
}

/** A host port that another machine leads into its guest. */
export interface TakenPort {
  readonly forward: PortForward;
  readonly vmName: string;
}

export const LOOPBACK = '127.0.0.1';
export const EVERYWHERE = '0.0.0.0';
/** An ordinary user cannot open host ports below. */
export const HOST_PORT_MIN = 1024;
export const PORT_MAX = 65_535;
/** More forwards than this on one card are a mistake. */
export const FORWARDS_MAX = 100;

/** Guest ports people forward most, with the host port to try first. */
export const WELL_KNOWN: readonly { readonly name: string; readonly guest: number; readonly host: number }[] =
  [
    { name: 'SSH', guest: 22, host: 2222 },
    { name: 'HTTP', guest: 80, host: 8080 },
    { name: 'HTTPS', guest: 443, host: 8443 },
    { name: 'RDP', guest: 3389, host: 3389 },
  ];

const IPV4 = /^(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)(?:\.(?!$)|$)){4}$/;

function isPort(port: number | '', from: number): port is number {
  return typeof port === 'number' && Number.isInteger(port) && port >= from && port <= PORT_MAX;
}

/** Both cannot be bound at the same time. */
export function conflicts(a: ForwardRow, b: ForwardRow): boolean {
  return (
    a.protocol === b.protocol &&
    a.hostPort !== '' &&
    a.hostPort === b.hostPort &&
    (a.hostAddress === b.hostAddress || a.hostAddress === EVERYWHERE || b.hostAddress === EVERYWHERE)
  );
}

/** Everything wrong within one machine. `rows` are the forwards of all its cards, one after the other. */
export function forwardProblems(rows: readonly ForwardRow[]): ForwardProblem[] {
  const problems: ForwardProblem[] = [];
  rows.forEach((row, index) => {
    if (!IPV4.test(row.hostAddress)) problems.push({ index, field: 'hostAddress', problem: 'address' });
    if (!isPort(row.hostPort, HOST_PORT_MIN))
      problems.push({ index, field: 'hostPort', problem: 'host_range' });
    else {
      const other = rows.slice(0, index).findIndex((earlier) => conflicts(row, earlier));
      if (other >= 0) problems.push({ index, field: 'hostPort', problem: 'conflict', other });
    }
    if (!isPort(row.guestPort, 1)) problems.push({ index, field: 'guestPort', problem: 'guest_range' });
  });
  return problems;
}

/** The forwards of a card; one that is plugged into nothing has none. */
export function forwardsOf(nic: Nic): readonly PortForward[] {
  return nic.network.kind === 'user' ? nic.network.forwards : [];
}

/** The host ports of every machine but `except`. Two machines may name the same port; they cannot run at the same time. */
export function takenPorts(machines: readonly VmView[], except?: VmId): TakenPort[] {
  return machines
    .filter((vm) => vm.id !== except)
    .flatMap((vm) =>
      vm.spec.nics.flatMap((nic) => forwardsOf(nic).map((forward) => ({ forward, vmName: vm.name }))),
    );
}

/** The other machine that names this row's host port. */
export function takenBy(row: ForwardRow, taken: readonly TakenPort[]): string | undefined {
  return taken.find(({ forward }) => conflicts(row, forward))?.vmName;
}

/** A new forward to `guestPort` from the first host port nobody names, beginning with the one people expect. */
export function suggestForward(
  guestPort: number,
  rows: readonly ForwardRow[],
  taken: readonly TakenPort[],
): ForwardRow {
  const known = WELL_KNOWN.find(({ guest }) => guest === guestPort);
  let hostPort = known?.host ?? (guestPort >= HOST_PORT_MIN ? guestPort : guestPort + 8_000);
  const at = (port: number): ForwardRow => ({
    protocol: 'tcp',
    hostAddress: LOOPBACK,
    hostPort: port,
    guestPort,
  });
  const isTaken = (port: number) =>
    rows.some((row) => conflicts(row, at(port))) || takenBy(at(port), taken) !== undefined;
  while (isTaken(hostPort) && hostPort < PORT_MAX) hostPort += 1;
  return at(hostPort);
}

/** Rows without problems, as the engine takes them. */
export function toForwards(rows: readonly ForwardRow[]): PortForward[] {
  return rows.map((row) => ({ ...row, hostPort: Number(row.hostPort), guestPort: Number(row.guestPort) }));
}
