import { createPinia, setActivePinia } from 'pinia';
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { platform } from '@/api/platform';
import { makeOperation, makeVm } from '../../../tests/unit/examples';
import { useMachines } from './machines';
import { useOperations } from './operations';

let answers: ((value: unknown) => void)[];

beforeEach(() => {
  setActivePinia(createPinia());
  answers = [];
  vi.spyOn(platform.transport, 'send').mockImplementation(
    () => new Promise((resolve) => answers.push(resolve)),
  );
});

describe('the machines', () => {
  it('stand in the order of their names, numbers by value', async () => {
    const machines = useMachines();
    const loading = machines.load();
    answers[0]?.([makeVm({ name: 'node-10' }), makeVm({ name: 'Node-9' }), makeVm({ name: 'alpha' })]);
    await loading;
    expect(machines.list.map((vm) => vm.name)).toEqual(['alpha', 'Node-9', 'node-10']);
  });

  it('keep what an event told while the list was on its way', async () => {
    const machines = useMachines();
    const old = makeVm({ name: 'a', state: 'stopped', generation: 1 });
    const gone = makeVm({ name: 'b' });
    const fresh = makeVm({ name: 'c' });
    const loading = machines.load();
    machines.apply({ type: 'vm_changed', vm: { ...old, state: 'running', generation: 2 } });
    machines.apply({ type: 'vm_removed', id: gone.id });
    machines.apply({ type: 'vm_changed', vm: fresh });
    answers[0]?.([old, gone]);
    await loading;
    expect(machines.list.map((vm) => [vm.name, vm.state])).toEqual([
      ['a', 'running'],
      ['c', 'stopped'],
    ]);
  });

  it('drop those that a newer list no longer has', async () => {
    const machines = useMachines();
    machines.apply({ type: 'vm_changed', vm: makeVm({ name: 'old' }) });
    const loading = machines.load();
    answers[0]?.([]);
    await loading;
    expect(machines.list).toEqual([]);
  });

  it('take the newest of two questions, whichever answer comes first', async () => {
    const machines = useMachines();
    const first = machines.load();
    const second = machines.load();
    answers[1]?.([makeVm({ name: 'new' })]);
    answers[0]?.([makeVm({ name: 'old' })]);
    await Promise.all([first, second]);
    expect(machines.list.map((vm) => vm.name)).toEqual(['new']);
  });

  it('hold their order when a state changes', () => {
    const machines = useMachines();
    const vm = makeVm({ name: 'a' });
    machines.apply({ type: 'vm_changed', vm });
    const before = machines.order;
    machines.apply({ type: 'vm_changed', vm: { ...vm, state: 'running' } });
    expect(machines.order).toBe(before);
  });
});

describe('the operations', () => {
  it('stand newest first, and those at work oldest first', () => {
    const operations = useOperations();
    const one = makeOperation({ id: '01', status: 'running' });
    const two = makeOperation({ id: '02', status: 'queued' });
    const three = makeOperation({ id: '03', status: 'succeeded' });
    for (const operation of [two, three, one]) operations.apply({ type: 'operation_changed', operation });
    expect(operations.recent.map((operation) => operation.id)).toEqual(['03', '02', '01']);
    expect(operations.active.map((operation) => operation.id)).toEqual(['01', '02']);
  });

  it('replace an operation by its newer view, also one told while the list was on its way', async () => {
    const operations = useOperations();
    const running = makeOperation({ id: '01', status: 'running' });
    const loading = operations.load();
    operations.apply({ type: 'operation_changed', operation: { ...running, status: 'succeeded' } });
    answers[0]?.([running]);
    await loading;
    expect(operations.recent.map((operation) => operation.status)).toEqual(['succeeded']);
  });
});
