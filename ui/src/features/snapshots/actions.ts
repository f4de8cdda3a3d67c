/**
 * What can be done with one snapshot: one place for the panel beside the tree and for the menus of its rows.
 *
 * Asking answers at once with an operation. What was asked is remembered for as long as the window lives, so that what failed can be
 * asked again where its failure stands.
 */
import { useI18n } from 'vue-i18n';
import { call, toApiError, type Operation, type OperationId, type Snapshot, type VmView } from '@/api/client';
import type { IconName } from '@/shared/components/icons';
import type { MenuItem } from '@/shared/components/menu';
import { confirm } from '@/shared/composables/confirm';
import { openDialog } from '@/shared/composables/dialogs';
import { useErrorText } from '@/shared/composables/errorText';
import { showToast } from '@/shared/composables/toasts';
import CompareDialog from './CompareDialog.vue';
import ForkDialog from './ForkDialog.vue';
import RestoreDialog from './RestoreDialog.vue';
import { blockedBy, SNAPSHOT_ACTIONS, type SnapshotAction } from './rules';
import { formatBytes } from '@/shared/format';

const ICONS: Record<SnapshotAction, IconName> = {
  restore: 'arrow-counterclockwise',
  fork: 'diagram-2',
  compare: 'intersect',
  delete: 'trash',
};

export interface SnapshotOffer {
  readonly id: SnapshotAction;
  readonly icon: IconName;
  readonly title: string;
  readonly text: string;
  /** Why it cannot be done now. */
  readonly blocked: string | undefined;
  readonly run: () => void;
}

type Ask = () => Promise<Operation>;

const asked = new Map<OperationId, Ask>();
const REMEMBERED = 50;

/** Asks, and remembers how it was asked. Fails as the asking does. */
export async function askFor(ask: Ask): Promise<Operation> {
  const operation = await ask();
  asked.set(operation.id, ask);
  const [oldest] = asked.keys();
  if (asked.size > REMEMBERED && oldest !== undefined) asked.delete(oldest);
  return operation;
}

/** How to ask again for what an operation was. */
export function askedBefore(operation: Operation): Ask | undefined {
  return asked.get(operation.id);
}

export function useSnapshotActions() {
  const { t } = useI18n();
  const errorText = useErrorText();

  /** Asks where nothing is open that could show the refusal. */
  async function askOrTell(what: string, ask: Ask): Promise<void> {
    try {
      await askFor(ask);
    } catch (cause) {
      const { sentence, hint } = errorText(toApiError(cause).body);
      showToast({
        tone: 'error',
        text: t('snapshots.failed', { what }),
        hint: hint ? `${sentence} ${hint}` : sentence,
      });
    }
  }

  async function remove(vm: VmView, { id, name, frees, keep }: Snapshot): Promise<void> {
    const yes = await confirm({
      title: t('snapshots.remove.title', { name }),
      text: t('snapshots.remove.text'),
      action: t('snapshots.remove.action'),
      tone: 'danger',
      losses: [{ what: t('snapshots.remove.loss'), bytes: frees }],
      bytes: frees,
      // Somebody said that it is to stay.
      ...(keep ? { typeName: name } : {}),
    });
    if (yes)
      await askOrTell(t('vm.operation.snapshot_delete'), () =>
        call('snapshot.delete', { id: vm.id, snapshot: id }),
      );
  }

  function run(action: SnapshotAction, vm: VmView, snapshot: Snapshot, all: readonly Snapshot[]): void {
    switch (action) {
      case 'restore':
        void openDialog(RestoreDialog, { vm, snapshot, current: all.find((one) => one.current) });
        return;
      case 'fork':
        void openDialog(ForkDialog, { vm, snapshot });
        return;
      case 'compare':
        void openDialog(CompareDialog, { vm, snapshot, all });
        return;
      case 'delete':
        void remove(vm, snapshot);
    }
  }

  /** Everything that can be done with a snapshot, with the reason where it cannot now. */
  function offers(vm: VmView, snapshot: Snapshot, all: readonly Snapshot[]): SnapshotOffer[] {
    return SNAPSHOT_ACTIONS.map((id) => {
      const reason = blockedBy(id, vm, snapshot);
      return {
        id,
        icon: ICONS[id],
        title: t(`snapshots.action.${id}`),
        text: t(`snapshots.action.${id}Text`, { size: formatBytes(snapshot.frees) }),
        blocked: reason && t(`snapshots.blocked.${reason}`),
        run: () => {
          run(id, vm, snapshot, all);
        },
      };
    });
  }

  function menu(vm: VmView, snapshot: Snapshot, all: readonly Snapshot[]): MenuItem[] {
    return offers(vm, snapshot, all).map(({ id, icon, title, blocked, run: act }) => ({
      id,
      icon,
      label: title,
      disabled: blocked !== undefined,
      ...(blocked === undefined ? {} : { hint: blocked }),
      separated: id === 'delete',
      run: act,
    }));
  }

  return { offers, menu, askOrTell };
}
