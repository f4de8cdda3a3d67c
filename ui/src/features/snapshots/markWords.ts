/** What is said of a mark on the line, and its colour. */
import { useI18n } from 'vue-i18n';
import type { VmView } from '@/api/client';
import { stateTone } from '@/features/vm';
import { useErrorText } from '@/shared/composables/errorText';
import { formatBytes, formatDuration } from '@/shared/format';
import type { LineMark } from './line';

export function useMarkWords(vm: () => VmView) {
  const { t } = useI18n();
  const errorText = useErrorText();

  function title(mark: LineMark): string {
    switch (mark.kind) {
      case 'snapshot':
        return mark.snapshot.name;
      case 'backup':
        return t('snapshots.line.backup');
      case 'missing':
        return t(`snapshots.line.${mark.run.run.outcome === 'skipped' ? 'leftOut' : 'missing'}`, {
          name: mark.run.schedule,
        });
      case 'crash':
        return t('snapshots.line.crashed');
      case 'now':
        return t('snapshots.tree.presentOf', { state: t(`vm.state.${vm().state}`) });
      case 'event': {
        const { kind, status } = mark.operation;
        const what = t(`vm.operation.${kind}`);
        return status === 'succeeded'
          ? what
          : t('snapshots.line.end', { what, status: t(`vm.status.${status}`) });
      }
    }
  }

  /** More about it, in a few words. */
  function facts(mark: LineMark): string[] {
    if (mark.kind === 'snapshot') {
      const { memory, pauseMs } = mark.snapshot;
      return [
        t(`snapshots.holds.${memory ? 'memory' : 'disks'}`),
        ...(pauseMs === null ? [] : [t('snapshots.result.paused', { time: formatDuration(pauseMs) })]),
      ];
    }
    if (mark.kind === 'backup') {
      const { result } = mark.operation;
      return result?.kind === 'backed_up'
        ? [
            t('backups.sizes', { size: formatBytes(result.size), added: formatBytes(result.added) }),
            t(`vm.origin.${mark.operation.origin}`),
          ]
        : [];
    }
    if (mark.kind !== 'event') return [];
    const { origin, durationMs } = mark.operation;
    return [t(`vm.origin.${origin}`), ...(durationMs === null ? [] : [formatDuration(durationMs)])];
  }

  /** Why it is trouble, where it is. */
  function reason(mark: LineMark): string | undefined {
    if (mark.kind === 'missing' && mark.run.run.skipped !== null)
      return t(`schedules.skipped.${mark.run.run.skipped}`);
    const error = mark.kind === 'snapshot' ? mark.snapshot.trouble : undefined;
    const failed = mark.kind === 'event' ? mark.operation.error : undefined;
    const run = mark.kind === 'missing' ? (mark.run.machine?.error ?? mark.run.run.error) : undefined;
    const body = error ?? failed ?? run ?? (mark.kind === 'crash' ? vm().attention : undefined);
    if (!body) return undefined;
    const { sentence, hint } = errorText(body);
    return hint ? `${sentence} ${hint}` : sentence;
  }

  function tone(mark: LineMark): string {
    if (mark.kind === 'event') return mark.tone;
    if (mark.kind === 'now') return stateTone[vm().state];
    if (mark.kind === 'backup') return '';
    if (mark.kind === 'missing') return mark.run.run.outcome === 'skipped' ? 'paused' : 'trouble';
    return mark.kind === 'crash' || mark.snapshot.trouble ? 'trouble' : '';
  }

  return { title, facts, reason, tone };
}
