import { mount, flushPromises } from '@vue/test-utils';
import { createPinia } from 'pinia';
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { createI18n } from 'vue-i18n';
import { ApiError } from '@/api/client';
import type { UpdateProgress, UpdateState } from '@/api/platform';
import en from '@/locales/en';
import UpdatePanel from './UpdatePanel.vue';

const shell = vi.hoisted(() => ({
  check: vi.fn<() => Promise<UpdateState>>(),
  install: vi.fn<(told: (progress: UpdateProgress) => void) => Promise<void>>(),
  restart: vi.fn<() => Promise<void>>(),
}));
vi.mock('@/api/platform', () => ({
  platform: { kind: 'desktop', updates: shell, transport: { send: vi.fn(), subscribe: vi.fn() } },
}));

function panel(configured = true) {
  const i18n = createI18n({ legacy: false, locale: 'en', messages: { en } });
  return mount(UpdatePanel, { props: { configured }, global: { plugins: [i18n, createPinia()] } });
}
const button = (view: ReturnType<typeof panel>, words: string) =>
  view.findAll('button').find((one) => one.text().includes(words));

describe('updates', () => {
  beforeEach(() => {
    shell.check.mockReset();
    shell.install.mockReset();
    shell.restart.mockReset();
  });

  it('are off and ask nobody while no address is set', () => {
    const view = panel(false);
    expect(view.text()).toBe(en.updates.off.no_endpoint);
    expect(shell.check).not.toHaveBeenCalled();
  });

  it('look only when asked, and tell the newest version', async () => {
    shell.check.mockResolvedValue({ state: 'current', version: '1.2.0' });
    const view = panel();
    expect(shell.check).not.toHaveBeenCalled();
    await button(view, 'Look for updates')?.trigger('click');
    await flushPromises();
    expect(view.text()).toContain('Version 1.2.0 is the newest.');
  });

  it('show what is new, install with progress, then offer the restart', async () => {
    shell.check.mockResolvedValue({
      state: 'available',
      version: '2.0.0',
      current: '1.2.0',
      notes: '<b>Snapshots</b>',
    });
    let done: () => void = () => undefined;
    shell.install.mockImplementation((told) => {
      told({ downloaded: 1_048_576, total: 4_194_304 });
      return new Promise((resolve) => (done = resolve));
    });
    const view = panel();
    await button(view, 'Look for updates')?.trigger('click');
    await flushPromises();
    expect(view.text()).toContain('Version 2.0.0 is there. You have 1.2.0.');
    expect(view.text()).toContain('<b>Snapshots</b>'); // plain text, never markup
    await button(view, 'Install')?.trigger('click');
    await flushPromises();
    expect(view.text()).toContain('1 MB / 4 MB');
    done();
    await flushPromises();
    await button(view, 'Restart voidVM')?.trigger('click');
    expect(shell.restart).toHaveBeenCalledOnce();
  });

  it('say that a package was refused, and leave the way to try again', async () => {
    shell.check.mockResolvedValue({ state: 'available', version: '2.0.0', current: '1.2.0', notes: null });
    shell.install.mockRejectedValue(
      new ApiError({
        code: 'update_rejected',
        message: 'The signature does not hold.',
        retryable: false,
        traceId: 'x',
      }),
    );
    const view = panel();
    await button(view, 'Look for updates')?.trigger('click');
    await flushPromises();
    await button(view, 'Install')?.trigger('click');
    await flushPromises();
    expect(view.get('[role=alert]').text()).toContain('The signature does not hold.');
    expect(button(view, 'Restart voidVM')).toBeUndefined();
    expect(button(view, 'Install')).toBeDefined();
  });
});
