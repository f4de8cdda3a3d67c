import { effectScope } from 'vue';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { z } from 'zod';
import { localError, ApiError } from '@/api/client';
import { allCommands, runByKey, useCommands } from './commands';
import { dialogStack, openDialog } from './dialogs';
import { useForm } from './form';
import { useQuery } from './query';
import { matchScore } from './searchText';

describe('finding by words', () => {
  it('takes words in any order, without case or accents', () => {
    expect(matchScore('Web-01 start', 'START web')).toBeGreaterThan(0);
    expect(matchScore('Café-Server', 'cafe')).toBeGreaterThan(0);
    expect(matchScore('测试服务器', '服务')).toBeGreaterThan(0);
    expect(matchScore('web-01', 'web db')).toBe(0);
  });

  it('puts beginnings first', () => {
    expect(matchScore('web-01', 'web')).toBeGreaterThan(matchScore('my web', 'web'));
    expect(matchScore('my web', 'web')).toBeGreaterThan(matchScore('cobweb', 'web'));
  });
});

describe('commands by key', () => {
  const scope = effectScope();
  afterEach(() => {
    document.body.innerHTML = '';
  });

  function press(key: string, options: KeyboardEventInit = {}, target: EventTarget = document.body) {
    const event = new KeyboardEvent('keydown', { key, bubbles: true, cancelable: true, ...options });
    Object.defineProperty(event, 'target', { value: target });
    return runByKey(event);
  }

  it('run while their component lives, and not while somebody types', () => {
    const help = vi.fn();
    const palette = vi.fn();
    scope.run(() => {
      useCommands(() => [
        { id: 'help', title: 'Help', group: 'x', keys: '?', run: help },
        { id: 'palette', title: 'Palette', group: 'x', keys: 'Mod+K', run: palette },
      ]);
    });
    const input = document.body.appendChild(document.createElement('input'));
    expect(press('?', { shiftKey: true })).toBe(true);
    expect(press('?', { shiftKey: true }, input)).toBe(false);
    expect(press('k', { ctrlKey: true }, input)).toBe(true);
    expect(press('k')).toBe(false);
    expect(help).toHaveBeenCalledOnce();
    expect(palette).toHaveBeenCalledOnce();
    scope.stop();
    expect(press('?')).toBe(false);
    expect(allCommands.value).toEqual([]);
  });
});

describe('a query', () => {
  it('drops the answer of an older question', async () => {
    const answers: ((text: string) => void)[] = [];
    const query = useQuery(() => new Promise<string>((resolve) => answers.push(resolve)));
    const first = query.run();
    const second = query.run();
    expect(query.loading.value).toBe(true);
    answers[1]?.('new');
    answers[0]?.('old');
    await Promise.all([first, second]);
    expect(query.data.value).toBe('new');
    expect(query.loading.value).toBe(false);
  });

  it('keeps the last answer beside an error', async () => {
    let fail = false;
    const query = useQuery(() =>
      fail ? Promise.reject(localError('timeout', 'slow')) : Promise.resolve('here'),
    );
    await query.run();
    fail = true;
    await query.run();
    expect(query.data.value).toBe('here');
    expect(query.error.value?.code).toBe('timeout');
  });
});

describe('a dialog', () => {
  it('answers once and leaves the stack', async () => {
    const answer = openDialog<string>({ render: () => null });
    const [dialog] = dialogStack;
    dialog?.close('yes');
    dialog?.close('no');
    expect(await answer).toBe('yes');
    expect(dialogStack).toHaveLength(0);
  });
});

describe('a form', () => {
  const schema = () =>
    z.object({ name: z.string().min(1, 'empty'), spec: z.object({ memory: z.number().min(32, 'small') }) });
  const make = () =>
    useForm(schema, { name: '', spec: { memory: 1024 } }, { words: (error) => error.message });
  const refused = new ApiError({
    code: 'invalid_input',
    message: 'too much',
    field: 'spec.memory',
    retryable: false,
    traceId: '',
  });

  it('speaks of a field once it was left, and of all when it was sent', async () => {
    const form = make();
    expect(form.errorOf('name')).toBeUndefined();
    form.touch('name');
    expect(form.errorOf('name')).toBe('empty');
    form.values.spec.memory = 1;
    expect(form.errorOf('spec.memory')).toBeUndefined();
    const send = vi.fn();
    expect(await form.submit(send)).toBe(false);
    expect(send).not.toHaveBeenCalled();
    expect(form.errorOf('spec.memory')).toBe('small');
  });

  it('puts what the engine refused at its field until the field changes', async () => {
    const form = make();
    form.values.name = 'a';
    expect(await form.submit(() => Promise.reject(refused))).toBe(false);
    expect(form.errorOf('spec.memory')).toBe('too much');
    form.values.spec.memory = 512;
    await Promise.resolve();
    expect(form.errorOf('spec.memory')).toBeUndefined();
    expect(form.failure.value).toBeUndefined();
  });

  it('keeps what no field can show', async () => {
    const form = make();
    form.values.name = 'a';
    await form.submit(() => Promise.reject(localError('disk_full', 'full')));
    expect(form.failure.value?.code).toBe('disk_full');
  });
});
