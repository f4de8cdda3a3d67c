import { describe, expect, it } from 'vitest';
import type { ErrorBody, MachineSpec, Nic, Operation, PortForward, VmSample, VmView } from '@/api/client';
import { changeWords } from '@/features/hardware';
import { makeDisk, makeSpec } from '../../../tests/unit/examples';
import { compare } from './log/compare';
import { plainText } from './log/plainText';
import { shellCommand, shellQuote } from './log/shellWords';
import { waysOf } from './overview/addresses';
import { known, newest, toColumns } from './overview/columns';
import {
  editFrom,
  fieldOf,
  freeDeviceId,
  freeMac,
  moved,
  toSpec,
  wordsOf,
  type HardwareEdit,
} from './settings/edit';
import { editSchema } from './settings/schema';
import { missedStop } from './stopping';

const forward = (hostPort: number, guestPort: number) =>
  ({ protocol: 'tcp', hostAddress: '127.0.0.1', hostPort, guestPort }) as const;
const card = (id: string, mac: string, ...forwards: PortForward[]): Nic => ({
  id,
  mac,
  model: 'virtio',
  link: true,
  network: { kind: 'user', stack: 'slirp', forwards },
});
const spec: MachineSpec = makeSpec({
  memory: 2048,
  firmware: 'uefi',
  disks: [makeDisk('disk0')],
  cdroms: [{ id: 'cdrom0', file: null }],
  nics: [
    card('nic0', '52:54:00:00:00:01', forward(2222, 22)),
    card('nic1', '52:54:00:00:00:02', forward(8080, 80)),
  ],
});
describe('readings as columns', () => {
  const sample = (second: number, cpu: number | null): VmSample => ({
    at: new Date(second * 1000).toISOString(),
    cpu,
    memoryResident: null,
    memoryUsed: null,
    diskRead: null,
    diskWrite: null,
    diskReadOps: null,
    diskWriteOps: null,
    diskReadLatency: null,
    diskWriteLatency: null,
    networkIn: null,
    networkOut: null,
  });

  it('are gaps where nothing was read', () => {
    const samples = [sample(1, 10), sample(2, null), sample(3, 30), sample(60, 40)];
    expect(toColumns(samples, [(one) => one.cpu])).toEqual({
      times: [1, 2, 3, 4, 60],
      values: [[10, null, 30, null, 40]],
    });
  });

  it('keep neighbours at the slow pace together and drop what is not newer', () => {
    const samples = [sample(0, 1), sample(15, 2), sample(15, 9), sample(30, 3)];
    expect(toColumns(samples, [(one) => one.cpu]).times).toEqual([0, 15, 30]);
  });

  it('tell what was ever known', () => {
    const samples = [sample(1, 5), sample(2, null)];
    expect(known(samples, (one) => one.cpu)).toBe(true);
    expect(known(samples, (one) => one.networkIn)).toBe(false);
    expect(newest(samples, (one) => one.cpu)).toBeNull();
  });
});

describe('an edit of the hardware', () => {
  const check = (edit: ReturnType<typeof editFrom>) =>
    editSchema((key) => key, 8192, String)
      .safeParse(edit)
      .error?.issues.map(({ path, message }) => `${path.join('.')} ${message}`) ?? [];

  it('changes nothing by itself', () => {
    expect(toSpec(spec, editFrom(spec))).toEqual(spec);
    expect(check(editFrom(spec))).toEqual([]);
  });

  it('does not touch what it began with', () => {
    const edit = editFrom(spec);
    edit.nics[0]?.forwards.splice(0);
    if (edit.cdroms[0]) edit.cdroms[0].file = '/iso/a.iso';
    expect(spec.nics[0]?.network).toHaveProperty('forwards.length', 1);
    expect(toSpec(spec, edit).cdroms).toEqual([{ id: 'cdrom0', file: '/iso/a.iso' }]);
    expect(toSpec(spec, edit).nics[0]?.network).toHaveProperty('forwards', []);
  });

  it('finds a port named by two cards, at the later one', () => {
    const edit = editFrom(spec);
    edit.nics[1]?.forwards.push({ ...forward(2222, 443) });
    expect(check(edit)).toEqual(['nics.1.forwards.1.hostPort forwards.problem.conflict']);
  });

  it('knows the engine’s names of its fields', () => {
    expect(fieldOf('spec.nics[1].network.forwards[0].hostPort')).toBe('nics[1].forwards[0].hostPort');
    expect(fieldOf('spec.cdroms[0].file')).toBe('cdroms[0].file');
    expect(fieldOf('spec.memory')).toBe('memory');
  });

  it('gives a new drive an id nobody has', () => {
    const edit = editFrom(spec);
    expect(freeDeviceId('cdrom', spec, edit)).toBe('cdrom1');
    expect(freeDeviceId('disk', spec, edit)).toBe('disk1');
  });

  it('keeps everything of a machine that has everything', () => {
    const full = makeSpec({
      machineVersion: 'pc-q35-7.2',
      cpus: 4,
      maxCpus: 8,
      topology: { sockets: 1, cores: 4, threads: 2 },
      cpuModel: { kind: 'named', name: 'qemu64' },
      maxMemory: 8192,
      firmware: 'uefi_secure',
      tpm: true,
      disks: [makeDisk('disk0', { bus: 'scsi', iothread: true }), makeDisk('disk1', { bus: 'nvme' })],
      nics: [{ ...card('nic0', '52:54:00:00:00:09'), network: { kind: 'none' }, link: false }],
      usb: [{ id: 'usb0', vendorId: 1, productId: 2, name: 'key' }],
      shares: [{ id: 'share0', tag: 'home', folder: '/home/ada', kind: 'nine_p', readOnly: true }],
      channels: [
        { id: 'channel0', kind: 'serial', name: '' },
        { id: 'channel1', kind: 'virtio', name: 'org.example.0' },
      ],
      watchdog: 'none',
      vsock: true,
      clipboard: true,
      extraArgs: ['-device', 'edu'],
    });
    expect(toSpec(full, editFrom(full))).toEqual(full);
    expect(check(editFrom(full))).toEqual([]);
  });

  it.each<[string, string, (edit: HardwareEdit) => void]>([
    ['cpuModel', 'cpuModel', (edit) => (edit.cpuModel = 'host')],
    ['maxCpus', 'most', (edit) => (edit.maxCpus = 1)],
    ['sockets', 'arrangement', (edit) => Object.assign(edit, { arrangement: 'own', sockets: 1, cores: 1 })],
    ['maxMemory', 'most', (edit) => (edit.maxMemory = 64)],
    ['firmware', 'secureQ35', (edit) => Object.assign(edit, { firmware: 'uefi_secure', machine: 'i440fx' })],
    ['disks.0.bus', 'ide', (edit) => edit.disks.forEach((disk) => (disk.bus = 'ide'))],
    [
      'nics.0.mac',
      'mac',
      (edit) => edit.nics.forEach((nic, at) => (nic.mac = at ? nic.mac : '01:00:00:00:00:01')),
    ],
    ['nics.1.mac', 'twice', (edit) => edit.nics.forEach((nic) => (nic.mac = '52:54:00:00:00:01'))],
    ['extraArgs', 'extraFirst', (edit) => (edit.extraArgs = 'edu')],
    [
      'shares.0.tag',
      'tag',
      (edit) => edit.shares.push({ id: 's', tag: '1', folder: '/a', kind: 'virtiofs', readOnly: false }),
    ],
    ['channels.0.name', 'portName', (edit) => edit.channels.push({ id: 'c', kind: 'virtio', name: '' })],
  ])('says at %s what does not hold: %s', (path, problem, change) => {
    const edit = editFrom(spec);
    change(edit);
    expect(check(edit)).toContain(`${path} hardware.problem.${problem}`);
  });

  it('drops what a bus cannot do, and the revision of another chipset', () => {
    const edit = editFrom(makeSpec({ machineVersion: 'pc-q35-7.2', disks: [makeDisk('disk0')] }));
    edit.disks.forEach((disk) => Object.assign(disk, { iothread: true, readOnly: true, bus: 'ide' }));
    edit.machine = 'i440fx';
    const after = toSpec(makeSpec({ machineVersion: 'pc-q35-7.2' }), edit);
    expect(after.disks[0]).toMatchObject({ iothread: false, readOnly: false });
    expect(after.machineVersion).toBeNull();
  });

  it('takes each line as one argument', () => {
    expect(wordsOf(' -device \n\n edu,id=a b ')).toEqual(['-device', 'edu,id=a b']);
  });

  it('gives a card an address nobody has', () => {
    const numbers = [0, 0, 0, 0.5, 0.5, 0.5];
    const random = () => numbers.shift() ?? 0;
    expect(freeMac(new Set(['52:54:00:00:00:00']), random)).toBe('52:54:00:80:80:80');
  });

  it('moves one and leaves the rest in order', () => {
    expect(moved(['a', 'b', 'c'], 0, 2)).toEqual(['b', 'c', 'a']);
    expect(moved(['a', 'b', 'c'], 2, 0)).toEqual(['c', 'a', 'b']);
    expect(moved(['a', 'b'], 0, 2)).toEqual(['a', 'b']);
  });
});

describe('what waits for a restart', () => {
  const known = new Set(['hardware.field.bus', 'hardware.value.bus.virtio', 'hardware.field.memory']);
  const words = (field: string, running: string | null, next: string | null) =>
    changeWords(
      (key) => key,
      (key) => known.has(key),
      { field, running, next },
    );

  it('is told with the device and the field, in words where there are some', () => {
    expect(words('memory', '1 GB', '2 GB')).toEqual({
      what: 'hardware.field.memory',
      from: '1 GB',
      to: '2 GB',
    });
    expect(words('disks.disk0.bus', 'odd', 'virtio')).toEqual({
      what: 'hardware.one.disks disk0 · hardware.field.bus',
      from: 'odd',
      to: 'hardware.value.bus.virtio',
    });
  });

  it('names devices that come and go, and says yes and no', () => {
    expect(words('disks.disk1', null, '/vms/a/data.qcow2')).toEqual({
      what: 'hardware.one.disks disk1',
      from: 'common.none',
      to: 'data.qcow2',
    });
    expect(words('tpm', 'false', 'true')).toMatchObject({ from: 'common.no', to: 'common.yes' });
  });
});

describe('addresses', () => {
  it('are what one would copy', () => {
    expect(waysOf(spec).map(({ kind, text }) => [kind, text])).toEqual([
      ['ssh', 'ssh -p 2222 127.0.0.1'],
      ['web', 'http://127.0.0.1:8080/'],
    ]);
  });
});

describe('a stop that missed its deadline', () => {
  const vm = { id: 'a', state: 'running', operation: null } as unknown as VmView;
  const stop = {
    vmId: 'a',
    kind: 'stop',
    status: 'failed',
    error: { code: 'guest_did_not_stop' } as ErrorBody,
  } as Operation;

  it('asks while it is the last thing that was done', () => {
    expect(missedStop(vm, [stop])).toBe(stop);
    expect(missedStop(vm, [{ ...stop, vmId: 'b' } as Operation, stop])).toBe(stop);
  });

  it('asks no more once something else was done, or is under way, or it stopped', () => {
    expect(missedStop(vm, [{ ...stop, kind: 'pause', status: 'succeeded' }, stop])).toBeUndefined();
    expect(missedStop({ ...vm, operation: stop }, [stop])).toBeUndefined();
    expect(missedStop({ ...vm, state: 'stopped' }, [stop])).toBeUndefined();
    expect(missedStop(vm, [{ ...stop, error: { code: 'qemu_unresponsive' } as ErrorBody }])).toBeUndefined();
  });
});

describe('two commands', () => {
  const told = (before: string[], after: string[]) =>
    compare(before, after).map(({ kind, text }) => `${{ same: ' ', added: '+', removed: '-' }[kind]}${text}`);

  it('are compared line by line, what went before what came', () => {
    expect(told(['qemu', '-m 1G', '-S'], ['qemu', '-m 2G', '-S', '-device edu'])).toEqual([
      ' qemu',
      '--m 1G',
      '+-m 2G',
      ' -S',
      '+-device edu',
    ]);
    expect(told(['a'], ['a'])).toEqual([' a']);
    expect(told([], ['a'])).toEqual(['+a']);
    expect(told(['a'], [])).toEqual(['-a']);
  });

  it('keep every line of both, in order, however different', () => {
    const before = ['a', 'b', 'a', 'c', 'd'];
    const after = ['b', 'a', 'd', 'e', 'a'];
    const lines = compare(before, after);
    const side = (kind: string) => lines.filter((line) => line.kind !== kind).map(({ text }) => text);
    expect(side('added')).toEqual(before);
    expect(side('removed')).toEqual(after);
  });
});

describe('logs and commands', () => {
  it('read without escape sequences and overwritten text', () => {
    expect(plainText('\u001b[0;1;31mfail\u001b[0m\r\nnext')).toBe('fail\nnext');
    expect(plainText('10%\r50%\r100%\n')).toBe('100%\n');
    expect(plainText('\u001b]0;title\u0007$ ls\u001b[?2004h')).toBe('$ ls');
    expect(plainText('tab\tstays, bell\u0007 goes')).toBe('tab\tstays, bell goes');
  });

  it('quote for a shell', () => {
    expect(shellQuote('-m')).toBe('-m');
    expect(shellQuote('{"a":1}')).toBe(`'{"a":1}'`);
    expect(shellQuote("it's")).toBe(`'it'\\''s'`);
    expect(shellQuote('')).toBe("''");
  });

  it('stand one option a line', () => {
    expect(shellCommand(['qemu', '-m', '512M', '-S', '-name', 'guest=a b'])).toBe(
      ['qemu', '-m 512M', '-S', "-name 'guest=a b'"].join(' \\\n  '),
    );
  });
});
