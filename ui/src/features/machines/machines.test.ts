import { describe, expect, it } from 'vitest';
import { vmStates } from '@/api/generated/commands';
import { canDo, primaryAction } from '@/features/vm';
import { makeOperation, makeVm } from '../../../tests/unit/examples';
import { reached } from './bulk';
import { filters, passes, sorted } from './listing';
import { useSelection } from './selection';

describe('filters', () => {
  it('show every state under exactly one of running, paused and stopped', () => {
    for (const state of vmStates) {
      const vm = makeVm({ state });
      const shown = filters.filter((name) => name !== 'all' && name !== 'attention' && passes(vm, name));
      expect(shown, state).toHaveLength(1);
      expect(passes(vm, 'all')).toBe(true);
    }
  });

  it('count a machine in trouble as one to look at', () => {
    expect(passes(makeVm({ state: 'crashed' }), 'attention')).toBe(true);
    expect(passes(makeVm({ state: 'running' }), 'attention')).toBe(false);
  });
});

describe('orders', () => {
  it('put trouble first by state, the largest first by memory, the latest first by change', () => {
    const a = makeVm({ name: 'a', state: 'stopped', stateSince: '2026-01-03T00:00:00Z' });
    const b = makeVm({ name: 'b', state: 'running', stateSince: '2026-01-01T00:00:00Z' });
    const c = makeVm({ name: 'c', state: 'broken', stateSince: '2026-01-02T00:00:00Z' });
    b.spec.memory = 4096;
    const names = (key: Parameters<typeof sorted>[1]) =>
      sorted([a, b, c], key)
        .map((vm) => vm.name)
        .join('');
    expect(names('name')).toBe('abc');
    expect(names('state')).toBe('cba');
    expect(names('memory')).toBe('bac');
    expect(names('changed')).toBe('acb');
  });
});

describe('selection', () => {
  it('extends from the last one toggled, either way, and survives a filter', () => {
    const all = ['a', 'b', 'c', 'd'].map((name) => makeVm({ name }));
    let shown = all;
    const selection = useSelection(
      () => shown,
      (id) => all.find((vm) => vm.id === id),
    );
    const [a, b, c] = all;
    selection.toggle(c?.id ?? '');
    selection.extendTo(a?.id ?? '');
    expect(selection.machines.value.map((vm) => vm.name).sort()).toEqual(['a', 'b', 'c']);
    selection.toggle(b?.id ?? '');
    shown = [];
    expect(selection.machines.value.map((vm) => vm.name).sort()).toEqual(['a', 'c']);
    selection.clear();
    expect(selection.ids.size).toBe(0);
  });
});

describe('bulk actions', () => {
  it('reach those whose state allows it, and resume what is paused', () => {
    const list = [
      makeVm({ state: 'stopped' }),
      makeVm({ state: 'paused' }),
      makeVm({ state: 'running' }),
      makeVm({ state: 'broken' }),
    ];
    expect(reached(list, 'start').map((vm) => vm.state)).toEqual(['stopped', 'paused']);
    expect(reached(list, 'stop').map((vm) => vm.state)).toEqual(['running']);
    expect(reached(list, 'force').map((vm) => vm.state)).toEqual(['paused', 'running']);
  });

  it('leave out a machine at work, but for the way out', () => {
    const busy = makeVm({ state: 'stopping', operation: makeOperation({ status: 'running', kind: 'stop' }) });
    expect(reached([busy], 'stop')).toEqual([]);
    expect(reached([busy], 'force')).toEqual([busy]);
  });
});

describe('the primary action', () => {
  it('is the one that makes sense now, or none', () => {
    const expected: Record<string, string | undefined> = {
      stopped: 'start',
      crashed: 'start',
      suspended: 'start',
      paused: 'resume',
      running: 'stop',
      stopping: 'stop',
    };
    for (const state of vmStates) {
      const vm = makeVm({ state });
      const action = primaryAction(vm);
      expect(action, state).toBe(expected[state]);
      if (action) expect(canDo(vm, action), state).toBe(true);
    }
  });
});
