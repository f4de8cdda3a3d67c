/**
 * What can be done with a machine in its present state, and doing it. One table for every page: buttons, menus, keys, palette.
 *
 * Asking answers at once with an operation; how it went is told by events, so nothing here waits for the end.
 */
import { useI18n } from 'vue-i18n';
import { useRouter } from 'vue-router';
import { call, toApiError, type CommandName, type VmState, type VmView } from '@/api/client';
import type { IconName } from '@/shared/components/icons';
import type { MenuItem } from '@/shared/components/menu';
import { confirm } from '@/shared/composables/confirm';
import { useErrorText } from '@/shared/composables/errorText';
import { showToast } from '@/shared/composables/toasts';
import { machinePath } from './state';

export type ActionId =
  'start' | 'stop' | 'force' | 'pause' | 'resume' | 'reset' | 'console' | 'settings' | 'delete';

interface Rule {
  readonly icon: IconName;
  readonly states: readonly VmState[];
  readonly keys?: string;
}

const ALL: readonly VmState[] = [
  'stopped',
  'starting',
  'running',
  'paused',
  'stopping',
  'suspended',
  'crashed',
  'unresponsive',
  'adopting',
  'broken',
];

/** When each can be asked for. The engine decides in the end; this only spares people what would be refused. */
export const actionRules: Record<ActionId, Rule> = {
  start: { icon: 'play-fill', states: ['stopped', 'crashed', 'suspended'], keys: 'S' },
  resume: { icon: 'play-fill', states: ['paused'], keys: 'S' },
  stop: { icon: 'power', states: ['running', 'stopping'], keys: 'Shift+S' },
  pause: { icon: 'pause-fill', states: ['running'] },
  reset: { icon: 'arrow-counterclockwise', states: ['running', 'paused', 'unresponsive'] },
  force: { icon: 'lightning-charge', states: ['starting', 'running', 'paused', 'stopping', 'unresponsive'] },
  console: { icon: 'display', states: ['starting', 'running', 'paused', 'stopping'], keys: 'C' },
  settings: { icon: 'sliders', states: ALL },
  delete: { icon: 'trash', states: ['stopped', 'crashed', 'suspended', 'broken'] },
};

export function canDo(vm: VmView, action: ActionId): boolean {
  if (!actionRules[action].states.includes(vm.state)) return false;
  // While something is at work, only looking and the way out remain.
  return vm.operation === null || ['console', 'settings', 'force'].includes(action);
}

/** The one thing that makes sense now. */
export function primaryAction(vm: VmView): ActionId | undefined {
  return (['start', 'resume', 'stop'] as const).find((action) =>
    actionRules[action].states.includes(vm.state),
  );
}

export function useVmActions() {
  const { t } = useI18n();
  const router = useRouter();
  const errorText = useErrorText();

  function tell(vm: VmView, what: string, cause: unknown): void {
    const words = errorText(toApiError(cause).body);
    showToast({ tone: 'error', text: t('vm.failed', { what, name: vm.name }), hint: words.sentence });
  }

  async function ask(
    vm: VmView,
    what: string,
    name: CommandName & `vm.${string}`,
    more: object = {},
  ): Promise<void> {
    try {
      await call(name as 'vm.start', { id: vm.id, ...more });
    } catch (cause) {
      tell(vm, what, cause);
    }
  }

  async function force(vm: VmView): Promise<void> {
    const yes = await confirm({
      title: t('vm.confirm.forceTitle', { name: vm.name }),
      text: t('vm.confirm.forceText'),
      action: t('vm.action.forceNow'),
      tone: 'danger',
    });
    if (yes) await ask(vm, t('vm.operation.force_off'), 'vm.stop', { force: true });
  }

  async function reset(vm: VmView): Promise<void> {
    const yes = await confirm({
      title: t('vm.confirm.resetTitle', { name: vm.name }),
      text: t('vm.confirm.resetText'),
      action: t('vm.action.resetNow'),
      tone: 'danger',
    });
    if (yes) await ask(vm, t('vm.operation.reset'), 'vm.reset');
  }

  async function remove(vm: VmView): Promise<void> {
    try {
      const files = (await call('vm.files', { id: vm.id })).filter((file) => file.owner === 'machine');
      const bytes = files.reduce((sum, file) => sum + file.size, 0);
      const yes = await confirm({
        title: t('vm.confirm.deleteTitle', { name: vm.name }),
        text: t(files.length ? 'vm.confirm.deleteText' : 'vm.confirm.deleteNothing'),
        action: t('vm.action.deleteNow'),
        tone: 'danger',
        losses: files.map((file) => ({ what: file.path, bytes: file.size })),
        ...(files.length ? { bytes } : {}),
        typeName: vm.name,
      });
      if (yes) await call('vm.delete', { id: vm.id });
    } catch (cause) {
      tell(vm, t('vm.operation.delete'), cause);
    }
  }

  const run: Record<ActionId, (vm: VmView) => unknown> = {
    start: (vm) => ask(vm, t('vm.operation.start'), 'vm.start'),
    stop: (vm) => ask(vm, t('vm.operation.stop'), 'vm.stop'),
    pause: (vm) => ask(vm, t('vm.operation.pause'), 'vm.pause'),
    resume: (vm) => ask(vm, t('vm.operation.resume'), 'vm.resume'),
    force,
    reset,
    console: (vm) => router.push(machinePath(vm.id, 'console')),
    settings: (vm) => router.push(machinePath(vm.id, 'settings')),
    delete: remove,
  };

  function title(action: ActionId): string {
    return t(`vm.action.${action}`);
  }

  /** The lines of a machine's menu: what its state allows, the dangerous ones last. */
  function menu(vm: VmView, without: readonly ActionId[] = []): MenuItem[] {
    const order: ActionId[] = [
      'start',
      'resume',
      'stop',
      'pause',
      'console',
      'settings',
      'reset',
      'force',
      'delete',
    ];
    return order
      .filter((action) => !without.includes(action) && actionRules[action].states.includes(vm.state))
      .map((action) => {
        const { icon, keys } = actionRules[action];
        const dangerous = action === 'force' || action === 'delete';
        return {
          id: action,
          label: title(action),
          icon,
          ...(keys === undefined ? {} : { keys }),
          ...(dangerous ? { tone: 'danger' as const } : {}),
          separated:
            action === 'reset' || (action === 'delete' && !actionRules.reset.states.includes(vm.state)),
          disabled: !canDo(vm, action),
          run: () => run[action](vm),
        };
      });
  }

  /** Does it if the state allows it. */
  function doIt(action: ActionId, vm: VmView): void {
    if (canDo(vm, action)) void run[action](vm);
  }

  return { doIt, menu, title, force };
}
