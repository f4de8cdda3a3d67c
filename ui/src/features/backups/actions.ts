/** What can be done with backups: one place for the page, the menus, the timeline and the palette. */
import { useI18n } from 'vue-i18n';
import { call, toApiError, type Backup, type VmView } from '@/api/client';
import type { IconName } from '@/shared/components/icons';
import type { MenuItem } from '@/shared/components/menu';
import { confirm } from '@/shared/composables/confirm';
import { openDialog } from '@/shared/composables/dialogs';
import { useErrorText } from '@/shared/composables/errorText';
import { showToast } from '@/shared/composables/toasts';
import { formatDateTime, formatList } from '@/shared/format';
import { lastOnes, namesIn } from './backups';
import FolderDialog from './FolderDialog.vue';
import { folderName, leaveFolder } from './folders';
import { folderRequest } from './passwords';
import RestoreDialog from './RestoreDialog.vue';
import RunDialog from './RunDialog.vue';
import VerifyDialog from './VerifyDialog.vue';

/** Asks for a folder to begin backups in, or one that has some; its path, when there is one. */
export function openFolder(): Promise<string | undefined> {
  return openDialog<string>(FolderDialog);
}

/** Asks where to back a machine up to, and does it. */
export function openBackup(about: { vm?: VmView; directory?: string }): Promise<unknown> {
  return openDialog(RunDialog, { ...about });
}

export interface BackupOffer {
  readonly id: 'restore' | 'forget';
  readonly icon: IconName;
  readonly title: string;
  readonly text: string;
  readonly blocked: undefined;
  readonly tone?: 'danger';
  readonly run: () => void;
}

export function useBackupActions(directory: () => string, all: () => readonly Backup[]) {
  const { t } = useI18n();
  const errorText = useErrorText();

  function restore(backup: Backup): void {
    void openDialog(RestoreDialog, { backup, directory: directory() });
  }

  /** True when it was asked for. What is lost with the last backup of a machine wants its name. */
  async function forget(backups: readonly Backup[]): Promise<boolean> {
    const last = lastOnes(all(), backups);
    const [only] = last;
    const yes = await confirm({
      title: t('backups.forget.title', { count: backups.length }, backups.length),
      text: [
        t('backups.forget.text'),
        ...(last.length ? [t('backups.forget.last', { names: formatList(last) })] : []),
      ].join(' '),
      action: t('backups.forget.action', { count: backups.length }, backups.length),
      tone: 'danger',
      losses: backups.map((backup) => ({
        what: `${namesIn(backup)}, ${formatDateTime(Date.parse(backup.taken))}`,
        ...(backup.added === null ? {} : { bytes: backup.added }),
      })),
      ...(only === undefined ? {} : { typeName: only }),
    });
    if (!yes) return false;
    try {
      await call('backup.forget', { ...folderRequest(directory()), backups: backups.map(({ id }) => id) });
      return true;
    } catch (cause) {
      const { sentence, hint } = errorText(toApiError(cause).body);
      showToast({
        tone: 'error',
        text: t('vm.failed', { what: t('vm.operation.backup_forget'), name: directory() }),
        hint: hint ? `${sentence} ${hint}` : sentence,
      });
      return false;
    }
  }

  function offers(backup: Backup): BackupOffer[] {
    return [
      {
        id: 'restore',
        icon: 'arrow-counterclockwise',
        title: t('backups.action.restore'),
        text: t('backups.action.restoreText'),
        blocked: undefined,
        run: () => {
          restore(backup);
        },
      },
      {
        id: 'forget',
        icon: 'trash',
        title: t('backups.action.forget'),
        text: t('backups.action.forgetText'),
        blocked: undefined,
        tone: 'danger',
        run: () => void forget([backup]),
      },
    ];
  }

  function menu(backup: Backup): MenuItem[] {
    return offers(backup).map(({ id, icon, title, tone, run }) => ({
      id,
      icon,
      label: title,
      ...(tone ? { tone, separated: true } : {}),
      run,
    }));
  }

  function verify(folder: string): void {
    void openDialog(VerifyDialog, { directory: folder });
  }

  function folderMenu(folder: string): MenuItem[] {
    return [
      {
        id: 'run',
        label: t('backups.action.run'),
        icon: 'archive',
        run: () => void openBackup({ directory: folder }),
      },
      {
        id: 'verify',
        label: t('backups.action.verify'),
        icon: 'shield-check',
        run: () => {
          verify(folder);
        },
      },
      {
        id: 'leave',
        label: t('backups.action.leave'),
        icon: 'x-lg',
        hint: t('backups.action.leaveHint'),
        separated: true,
        run: () => {
          leaveFolder(folder);
          showToast({ tone: 'info', text: t('backups.left', { name: folderName(folder) }) });
        },
      },
    ];
  }

  return { forget, offers, menu, verify, folderMenu };
}
