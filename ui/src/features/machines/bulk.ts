/** The same thing with many machines: those whose state allows it, at once; the engine queues what is more than its limit. */
import { useI18n } from 'vue-i18n';
import { call, toApiError, type VmView } from '@/api/client';
import { canDo } from '@/features/vm';
import { confirm } from '@/shared/composables/confirm';
import { useErrorText } from '@/shared/composables/errorText';
import { showToast } from '@/shared/composables/toasts';

export type BulkAction = 'start' | 'stop' | 'force';

/** Which of them it would reach. Starting a paused machine is resuming it. */
export function reached(machines: readonly VmView[], action: BulkAction): VmView[] {
  if (action === 'start') return machines.filter((vm) => canDo(vm, 'start') || canDo(vm, 'resume'));
  return machines.filter((vm) => canDo(vm, action));
}

export function useBulk() {
  const { t } = useI18n();
  const errorText = useErrorText();

  function ask(vm: VmView, action: BulkAction): Promise<unknown> {
    if (action === 'start') return call(vm.state === 'paused' ? 'vm.resume' : 'vm.start', { id: vm.id });
    return call('vm.stop', action === 'force' ? { id: vm.id, force: true } : { id: vm.id });
  }

  async function run(machines: readonly VmView[], action: BulkAction): Promise<void> {
    const targets = reached(machines, action);
    if (targets.length === 0) return;
    if (action === 'force') {
      const yes = await confirm({
        title: t('vm.confirm.forceManyTitle', { count: targets.length }),
        text: t('vm.confirm.forceText'),
        action: t('vm.action.forceNow'),
        tone: 'danger',
        losses: targets.slice(0, 12).map((vm) => ({ what: vm.name })),
      });
      if (!yes) return;
    }
    const answers = await Promise.allSettled(targets.map((vm) => ask(vm, action)));
    const failed = answers.flatMap((answer, at) =>
      answer.status === 'rejected' ? [{ vm: targets[at], error: toApiError(answer.reason) }] : [],
    );
    const [first] = failed;
    if (!first) return;
    showToast({
      tone: 'error',
      text: t('machines.bulkFailed', { count: failed.length, total: targets.length }, failed.length),
      hint: `${first.vm?.name ?? ''}: ${errorText(first.error.body).sentence}`,
    });
  }

  return { run };
}
