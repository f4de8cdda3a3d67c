/** What came of an operation, in words, where there is more to say than that it is done. */
import { useI18n } from 'vue-i18n';
import type { Operation } from '@/api/client';
import { formatBytes, formatCount, formatDuration } from '@/shared/format';

export function useResultText(): (operation: Operation) => string | undefined {
  const { t } = useI18n();
  return ({ result }) => {
    switch (result?.kind) {
      case 'reclaimed': {
        const freed = result.before - result.after;
        return freed > 0
          ? t('storage.result.reclaimed', {
              freed: formatBytes(freed),
              before: formatBytes(result.before),
              after: formatBytes(result.after),
            })
          : t('storage.result.reclaimedNothing');
      }
      case 'checked': {
        if (result.corruptions === 0 && result.leaks === 0) return t('storage.result.sound');
        return t(result.repaired ? 'storage.result.mended' : 'storage.result.faulty', {
          corruptions: formatCount(result.corruptions),
          leaks: formatCount(result.leaks),
        });
      }
      case 'removed':
        return t('storage.result.removed', { size: formatBytes(result.bytes) });
      case 'snapshotted':
        return result.pauseMs === null
          ? t('snapshots.result.still')
          : t('snapshots.result.paused', { time: formatDuration(result.pauseMs) });
      case 'backed_up':
        return t('backups.result.backedUp', {
          size: formatBytes(result.size),
          added: formatBytes(result.added),
        });
      case 'verified':
        return t(
          'backups.result.verified',
          { count: result.backups, size: formatBytes(result.size) },
          result.backups,
        );
      case undefined:
        return undefined;
    }
  };
}
