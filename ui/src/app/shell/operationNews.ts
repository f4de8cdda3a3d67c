/** Tells how operations ended: failures as notices that stay, the rest to screen readers alone (the page shows it anyway). */
import { onScopeDispose } from 'vue';
import { useI18n } from 'vue-i18n';
import { useRouter } from 'vue-router';
import { events, type Operation } from '@/api/client';
import { isFinal, useMachines } from '@/api/stores';
import { useResultText } from '@/features/operations';
import { useVmActions } from '@/features/vm';
import { announce } from '@/shared/composables/announce';
import { useErrorText } from '@/shared/composables/errorText';
import { closeToast, showToast } from '@/shared/composables/toasts';

/** Ends remembered, so that an end told twice is shown once. */
const REMEMBERED = 500;

export function useOperationNews(): void {
  const { t } = useI18n();
  const machines = useMachines();
  const actions = useVmActions();
  const errorText = useErrorText();
  const resultText = useResultText();
  const router = useRouter();
  const told = new Set<string>();
  /** Notices of guests that did not stop in time, by machine: gone once something else is done with it. */
  const late = new Map<string, number>();

  function tell(operation: Operation): void {
    const what = t(`vm.operation.${operation.kind}`);
    const { subject: name, vmId } = operation;
    if (operation.status === 'succeeded') {
      const text = t('vm.done', { what, name });
      const result = resultText(operation);
      // What was asked for to learn something is told; the rest the page shows anyway.
      if (result === undefined) announce(text);
      else showToast({ tone: 'success', text, hint: result });
      return;
    }
    if (operation.status !== 'failed' || !operation.error) return;
    const { sentence, hint } = errorText(operation.error);
    if (operation.error.code === 'guest_did_not_stop' && vmId !== null) {
      // Its own page asks there.
      if (router.currentRoute.value.params.id === vmId) return;
      const notice = showToast({
        tone: 'error',
        text: t('vm.didNotStop', { name }),
        hint,
        action: {
          label: t('vm.action.force'),
          run: () => {
            const vm = machines.byId.get(vmId);
            if (vm) void actions.force(vm);
          },
        },
      });
      late.set(vmId, notice);
      return;
    }
    const text = t('vm.failed', { what, name });
    const reason = hint ? `${sentence} ${hint}` : sentence;
    // The library shows what did not arrive, with the way to go on.
    const atLibrary = ['images', 'catalogue'].includes(String(router.currentRoute.value.name));
    // The timeline shows what failed with the machine's snapshots.
    const { name: page, params } = router.currentRoute.value;
    const atTimeline = page === 'machine-timeline' && params.id === vmId;
    if (
      (atLibrary && ['image_download', 'image_import'].includes(operation.kind)) ||
      (atTimeline && operation.kind.startsWith('snapshot_'))
    )
      announce(`${text} ${reason}`, 'assertive');
    else showToast({ tone: 'error', text, hint: reason });
  }

  onScopeDispose(
    events.listen({
      event: (event) => {
        if (event.type !== 'operation_changed' || told.has(event.operation.id)) return;
        const { vmId } = event.operation;
        const notice = vmId === null ? undefined : late.get(vmId);
        if (vmId !== null && notice !== undefined) {
          closeToast(notice);
          late.delete(vmId);
        }
        if (!isFinal(event.operation)) return;
        told.add(event.operation.id);
        const [oldest] = told;
        if (told.size > REMEMBERED && oldest !== undefined) told.delete(oldest);
        tell(event.operation);
      },
    }),
  );
}
