/**
 * What can be done with a machine in its present state, and doing it. One table for every page: buttons, menus, keys, palette.
 *
 * Asking answers at once with an operation; how it went is told by events, so nothing here waits for the end.
 */
import { useI18n } from 'vue-i18n';
import { useRouter } from 'vue-router';
import {
  call,
  toApiError,
  type CommandName,
  type Request,
  type VmMeta,
  type VmState,
  type VmView,
} from '@/api/client';
import type { IconName } from '@/shared/components/icons';
import type { MenuItem } from '@/shared/components/menu';
import { confirm } from '@/shared/composables/confirm';
import { openDialog } from '@/shared/composables/dialogs';
import { useErrorText } from '@/shared/composables/errorText';
import { showToast } from '@/shared/composables/toasts';
import { ended } from './ended';
import { machinePath } from './state';

export type ActionId =
  | 'start'
  | 'disposable'
  | 'resume'
  | 'stop'
  | 'restart'
  | 'suspend'
  | 'pause'
  | 'snapshot'
  | 'reset'
  | 'force'
  | 'forget'
  | 'console'
  | 'settings'
  | 'favourite'
  | 'organise'
  | 'clone'
  | 'export'
  | 'template'
  | 'delete';

/** Every action, in the order of a menu. */
export const ACTIONS: readonly ActionId[] = [
  'start',
  'disposable',
  'resume',
  'stop',
  'restart',
  'suspend',
  'pause',
  'snapshot',
  'console',
  'settings',
  'favourite',
  'organise',
  'clone',
  'export',
  'template',
  'reset',
  'force',
  'forget',
  'delete',
];

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

/** Loaded when they are first opened. */
const dialogs = {
  remove: async () => (await import('./DeleteDialog.vue')).default,
  organise: async () => (await import('./OrganiseDialog.vue')).default,
  snapshot: async () => (await import('./SnapshotDialog.vue')).default,
  clone: async () => (await import('./CloneDialog.vue')).default,
  export: async () => (await import('./ExportDialog.vue')).default,
};

/** When each can be asked for. The engine decides in the end; this only spares people what would be refused. */
export const actionRules: Record<ActionId, Rule> = {
  start: { icon: 'play-fill', states: ['stopped', 'crashed', 'suspended'], keys: 'S' },
  disposable: { icon: 'recycle', states: ['stopped', 'crashed'] },
  resume: { icon: 'play-fill', states: ['paused'], keys: 'S' },
  stop: { icon: 'power', states: ['running', 'stopping'], keys: 'Shift+S' },
  restart: { icon: 'arrow-clockwise', states: ['running', 'paused'] },
  suspend: { icon: 'moon-stars', states: ['running', 'paused'] },
  pause: { icon: 'pause-fill', states: ['running'] },
  snapshot: { icon: 'bookmark-plus', states: ['stopped', 'running', 'paused', 'crashed'] },
  reset: { icon: 'arrow-counterclockwise', states: ['running', 'paused', 'unresponsive'] },
  force: { icon: 'lightning-charge', states: ['starting', 'running', 'paused', 'stopping', 'unresponsive'] },
  forget: { icon: 'eraser', states: ['suspended'] },
  console: { icon: 'display', states: ['starting', 'running', 'paused', 'stopping'], keys: 'C' },
  settings: { icon: 'sliders', states: ALL },
  favourite: { icon: 'star', states: ALL },
  organise: { icon: 'tags', states: ALL },
  clone: { icon: 'files', states: ['stopped', 'crashed'] },
  export: { icon: 'box-arrow-down', states: ['stopped', 'crashed'] },
  template: { icon: 'collection', states: ['stopped', 'crashed'] },
  delete: { icon: 'trash', states: ['stopped', 'crashed', 'suspended', 'broken'] },
};

/** What needs no process and nothing of the machine's files. */
const ALWAYS: readonly ActionId[] = ['console', 'settings', 'favourite', 'organise', 'force'];

/** Whether the action is one for this machine at all, now or when nothing else is at work. */
export function offers(vm: VmView, action: ActionId): boolean {
  if (!actionRules[action].states.includes(vm.state)) return false;
  // A template is copied, never started.
  if (vm.meta.template && (action === 'start' || action === 'disposable')) return false;
  // Of a run that is thrown away there is nothing to keep.
  if (action === 'snapshot' && vm.run?.disposable) return false;
  return action !== 'restart' || vm.restartPending;
}

export function canDo(vm: VmView, action: ActionId): boolean {
  // While something is at work, only looking and the way out remain.
  return offers(vm, action) && (vm.operation === null || ALWAYS.includes(action));
}

/** The one thing that makes sense now. */
export function primaryAction(vm: VmView): ActionId | undefined {
  const candidates = vm.meta.template ? (['clone'] as const) : (['start', 'resume', 'stop'] as const);
  return candidates.find((action) => actionRules[action].states.includes(vm.state));
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

  /** Throws the memory of a suspended machine away: its next start is one from the beginning. */
  async function forget(vm: VmView): Promise<void> {
    const yes = await confirm({
      title: t('vm.confirm.forgetTitle', { name: vm.name }),
      text: t('vm.confirm.forgetText'),
      action: t('vm.action.forgetNow'),
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
      const files = await call('vm.files', { id: vm.id });
      const answer = await openDialog<Omit<Request<'vm.delete'>, 'id'>>(await dialogs.remove(), {
        vm,
        files,
      });
      if (answer) await call('vm.delete', { id: vm.id, ...answer });
    } catch (cause) {
      tell(vm, t('vm.operation.delete'), cause);
    }
  }

  /** Shuts the guest down and starts it again, so that what waits for a start applies. */
  async function restart(vm: VmView): Promise<void> {
    const yes = await confirm({
      title: t('vm.confirm.restartTitle', { name: vm.name }),
      text: t('vm.confirm.restartText'),
      action: t('vm.action.restartNow'),
    });
    if (!yes) return;
    try {
      await ended(await call('vm.stop', { id: vm.id }));
    } catch {
      return; // how the stop went is told already, and what to do about it asked
    }
    await ask(vm, t('vm.operation.start'), 'vm.start');
  }

  async function setMeta(vm: VmView, changes: Partial<VmMeta>): Promise<void> {
    try {
      await call('vm.update', { id: vm.id, meta: { ...vm.meta, ...changes } });
    } catch (cause) {
      tell(vm, t('vm.operation.update'), cause);
    }
  }

  const run: Record<ActionId, (vm: VmView) => unknown> = {
    start: (vm) => ask(vm, t('vm.operation.start'), 'vm.start'),
    disposable: (vm) => ask(vm, t('vm.operation.start'), 'vm.start', { disposable: true }),
    restart,
    suspend: (vm) => ask(vm, t('vm.operation.suspend'), 'vm.suspend'),
    favourite: (vm) => setMeta(vm, { favourite: !vm.meta.favourite }),
    organise: async (vm) => openDialog(await dialogs.organise(), { vm }),
    snapshot: async (vm) => openDialog(await dialogs.snapshot(), { vm }),
    clone: async (vm) => openDialog(await dialogs.clone(), { vm }),
    export: async (vm) => openDialog(await dialogs.export(), { vm }),
    template: (vm) => setMeta(vm, { template: !vm.meta.template }),
    stop: (vm) => ask(vm, t('vm.operation.stop'), 'vm.stop'),
    pause: (vm) => ask(vm, t('vm.operation.pause'), 'vm.pause'),
    resume: (vm) => ask(vm, t('vm.operation.resume'), 'vm.resume'),
    force,
    forget,
    reset,
    console: (vm) => router.push(machinePath(vm.id, 'console')),
    settings: (vm) => router.push(machinePath(vm.id, 'settings')),
    delete: remove,
  };

  /** What the action is called; some are called after what they undo. */
  function title(action: ActionId, vm?: VmView): string {
    if (action === 'favourite' && vm?.meta.favourite) return t('vm.action.unfavourite');
    if (action === 'template' && vm?.meta.template) return t('vm.action.untemplate');
    return t(`vm.action.${action}`);
  }

  /** The lines of a machine's menu: what its state allows, the dangerous ones last. */
  function menu(vm: VmView, without: readonly ActionId[] = []): MenuItem[] {
    const shown = ACTIONS.filter((action) => !without.includes(action) && offers(vm, action));
    const firstDanger = shown.find((action) => ['reset', 'force', 'forget', 'delete'].includes(action));
    return shown.map((action) => {
      const { icon, keys } = actionRules[action];
      const dangerous = ['force', 'forget', 'delete'].includes(action);
      return {
        id: action,
        label: title(action, vm),
        icon: action === 'favourite' && vm.meta.favourite ? 'star-fill' : icon,
        ...(keys === undefined ? {} : { keys }),
        ...(dangerous ? { tone: 'danger' as const } : {}),
        separated: action === 'favourite' || action === firstDanger,
        disabled: !canDo(vm, action),
        run: () => run[action](vm),
      };
    });
  }

  /** Does it if the state allows it. */
  function doIt(action: ActionId, vm: VmView): void {
    if (canDo(vm, action)) void run[action](vm);
  }

  return { doIt, menu, title, force, setMeta };
}
