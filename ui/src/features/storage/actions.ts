/** What can be done with pools and volumes: one place for the pages, the menus and the palette. */
import { useI18n } from 'vue-i18n';
import { call, toApiError, type Pool, type Volume } from '@/api/client';
import { useMachines } from '@/api/stores';
import type { IconName } from '@/shared/components/icons';
import type { MenuItem } from '@/shared/components/menu';
import { confirm } from '@/shared/composables/confirm';
import { openDialog } from '@/shared/composables/dialogs';
import { useErrorText } from '@/shared/composables/errorText';
import { showToast } from '@/shared/composables/toasts';
import { formatBytes } from '@/shared/format';
import CopyDialog from './CopyDialog.vue';
import MoveDialog from './MoveDialog.vue';
import NewVolumeDialog from './NewVolumeDialog.vue';
import PoolDialog from './PoolDialog.vue';
import ResizeDialog from './ResizeDialog.vue';
import { obstacle, type VolumeAction } from './volumes';

/** Asks for a folder to make a pool of; the pool, when it was made. */
export function openNewPool(): Promise<Pool | undefined> {
  return openDialog<Pool>(PoolDialog);
}

const ICONS: Record<VolumeAction, IconName> = {
  resize: 'arrows-expand',
  copy: 'copy',
  move: 'box-arrow-right',
  reclaim: 'recycle',
  check: 'bandaid',
  delete: 'trash',
};
const ORDER: readonly VolumeAction[] = ['resize', 'copy', 'move', 'reclaim', 'check', 'delete'];

export interface Offer {
  readonly id: VolumeAction;
  readonly icon: IconName;
  readonly title: string;
  readonly text: string;
  /** Why it cannot be done now. */
  readonly blocked: string | undefined;
  readonly tone?: 'danger';
  readonly run: () => void;
}

export function useStorageActions(pools: () => readonly Pool[]) {
  const { t } = useI18n();
  const errorText = useErrorText();
  const machines = useMachines();

  function fail(what: string, name: string, cause: unknown): void {
    const { sentence, hint } = errorText(toApiError(cause).body);
    showToast({
      tone: 'error',
      text: t('vm.failed', { what, name }),
      hint: hint ? `${sentence} ${hint}` : sentence,
    });
  }

  const run: Record<VolumeAction, (volume: Volume) => Promise<unknown>> = {
    resize: (volume) => openDialog(ResizeDialog, { volume }),
    copy: (volume) => openDialog(CopyDialog, { volume, pools: pools() }),
    move: (volume) => openDialog(MoveDialog, { volume, pools: pools() }),
    check: async ({ pool, path, name }) => {
      try {
        await call('volume.check', { id: pool, path });
      } catch (cause) {
        fail(t('vm.operation.volume_check'), name, cause);
      }
    },
    reclaim: async ({ pool, path, name, allocated }) => {
      const yes = await confirm({
        title: t('storage.reclaim.title', { name }),
        text: t('storage.reclaim.text', { size: formatBytes(allocated) }),
        action: t('storage.reclaim.action'),
      });
      if (!yes) return;
      try {
        await call('volume.reclaim', { id: pool, path });
      } catch (cause) {
        fail(t('vm.operation.volume_reclaim'), name, cause);
      }
    },
    delete: async ({ pool, path, name, allocated }) => {
      const yes = await confirm({
        title: t('storage.remove.title', { name }),
        text: t('storage.remove.text'),
        action: t('storage.action.deleteNow'),
        tone: 'danger',
        losses: [{ what: path, bytes: allocated }],
        bytes: allocated,
        typeName: name,
      });
      if (!yes) return;
      try {
        await call('volume.delete', { id: pool, path });
      } catch (cause) {
        fail(t('vm.operation.volume_delete'), name, cause);
      }
    },
  };

  /** Everything that can be done with a volume, with the reason where it cannot now. */
  function offers(volume: Volume): Offer[] {
    return ORDER.map((id) => {
      const state = volume.vm === null ? undefined : machines.byId.get(volume.vm)?.state;
      const reason = obstacle(volume, id, { pools: pools(), state });
      return {
        id,
        icon: ICONS[id],
        title: t(`storage.action.${id}`),
        text: t(`storage.action.${id}Text`),
        ...(id === 'delete' ? { tone: 'danger' as const } : {}),
        blocked: reason && t(`storage.blocked.${reason}`, { name: volume.vmName ?? '' }),
        run: () => void run[id](volume),
      };
    });
  }

  function menu(volume: Volume): MenuItem[] {
    return offers(volume).map(({ id, icon, title, blocked, run: act }) => ({
      id,
      icon,
      label: title,
      disabled: blocked !== undefined,
      ...(blocked === undefined ? {} : { hint: blocked }),
      ...(id === 'delete' ? { tone: 'danger' as const, separated: true } : {}),
      run: act,
    }));
  }

  function create(pool: Pool): Promise<unknown> {
    return openDialog(NewVolumeDialog, { pool });
  }

  async function cleanUp(orphans: readonly Volume[]): Promise<void> {
    const bytes = orphans.reduce((sum, volume) => sum + volume.allocated, 0);
    const yes = await confirm({
      title: t('storage.orphans.confirmTitle', { count: orphans.length }, orphans.length),
      text: t('storage.orphans.confirmText'),
      action: t('storage.orphans.action'),
      tone: 'danger',
      losses: orphans.map((volume) => ({ what: volume.path, bytes: volume.allocated })),
      bytes,
    });
    if (!yes) return;
    for (const { pool, path, name } of orphans) {
      try {
        await call('volume.delete', { id: pool, path });
      } catch (cause) {
        fail(t('vm.operation.volume_delete'), name, cause);
      }
    }
  }

  async function forget(pool: Pool): Promise<void> {
    const yes = await confirm({
      title: t('storage.forget.title', { name: pool.name }),
      text: t('storage.forget.text'),
      action: t('storage.forget.action'),
    });
    if (!yes) return;
    try {
      await call('pool.delete', { id: pool.id });
    } catch (cause) {
      fail(t('storage.forget.action'), pool.name, cause);
    }
  }

  function poolMenu(pool: Pool): MenuItem[] {
    return [
      {
        id: 'edit',
        label: t('storage.pool.edit'),
        icon: 'pencil',
        run: () => void openDialog(PoolDialog, { pool }),
      },
      ...(pool.builtin
        ? []
        : [
            {
              id: 'forget',
              label: t('storage.pool.forget'),
              icon: 'x-lg' as const,
              separated: true,
              run: () => void forget(pool),
            },
          ]),
    ];
  }

  return { offers, menu, create, cleanUp, poolMenu };
}
