import { describe, expect, it } from 'vitest';
import { vmStates } from '@/api/generated/commands';
import { canDo, primaryAction } from '@/features/vm';
import { makeOperation, makeVm } from '../../../tests/unit/examples';
import { reached } from './bulk';
import { filters, parts, passes, sorted, wordsOf } from './listing';
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

describe('groups', () => {
  const meta = makeVm().meta;
  const one = makeVm({ name: 'one', meta: { ...meta, group: 'Lab 10' } });
  const two = makeVm({ name: 'two', meta: { ...meta, group: 'Lab 2' } });
  const three = makeVm({ name: 'three', meta: { ...meta, favourite: true, tags: ['web', 'new'] } });
  const four = makeVm({ name: 'four', meta: { ...meta, group: 'Lab 2', favourite: true } });

  it('stand in the order of their names, the rest at the end, favourites first in each', () => {
    const list = sorted([one, two, three, four], 'name', 'group');
    expect(
      parts(list, 'group').map(({ heading, from, machines }) => [
        heading,
        from,
        machines.map((vm) => vm.name),
      ]),
    ).toEqual([
      ['Lab 2', 0, ['four', 'two']],
      ['Lab 10', 2, ['one']],
      ['', 3, ['three']],
    ]);
  });

  it('are one part without a heading where nothing is grouped', () => {
    const list = sorted([one, two, three], 'name');
    expect(parts(list, 'none')).toEqual([{ heading: undefined, from: 0, machines: [three, one, two] }]);
  });

  it('and tags are words to find by', () => {
    expect(wordsOf(three)).toContain('web new');
    expect(wordsOf(one)).toContain('Lab 10');
  });
});

describe('templates', () => {
  it('are copied, never started', () => {
    const vm = makeVm({ meta: { ...makeVm().meta, template: true } });
    expect(canDo(vm, 'start')).toBe(false);
    expect(canDo(vm, 'clone')).toBe(true);
    expect(primaryAction(vm)).toBe('clone');
  });

  it('a restart is offered only where something waits for one', () => {
    expect(canDo(makeVm({ state: 'running' }), 'restart')).toBe(false);
    expect(canDo(makeVm({ state: 'running', restartPending: true }), 'restart')).toBe(true);
    expect(canDo(makeVm({ state: 'stopped', restartPending: true }), 'restart')).toBe(false);
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
