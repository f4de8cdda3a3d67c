/** What can be done with schedules: one place for the page, the machine's tab, the menus and the palette. */
import { useI18n } from 'vue-i18n';
import { call, toApiError, type Schedule, type ScheduleTarget } from '@/api/client';
import type { IconName } from '@/shared/components/icons';
import type { MenuItem } from '@/shared/components/menu';
import { confirm } from '@/shared/composables/confirm';
import { openDialog } from '@/shared/composables/dialogs';
import { useErrorText } from '@/shared/composables/errorText';
import { showToast } from '@/shared/composables/toasts';
import ScheduleDialog from './ScheduleDialog.vue';

/** Asks for a new schedule, of `target` where that is known; the schedule, when it was made. */
export function openNewSchedule(target?: ScheduleTarget): Promise<Schedule | undefined> {
  return openDialog<Schedule>(ScheduleDialog, target === undefined ? {} : { target });
}

export interface ScheduleOffer {
  readonly id: 'run' | 'edit' | 'delete';
  readonly icon: IconName;
  readonly title: string;
  readonly text: string;
  /** Why it cannot be done now. */
  readonly blocked: string | undefined;
  readonly tone?: 'danger';
  readonly run: () => void;
}

export function useScheduleActions() {
  const { t } = useI18n();
  const errorText = useErrorText();

  function fail(what: string, name: string, cause: unknown): void {
    const { sentence, hint } = errorText(toApiError(cause).body);
    showToast({
      tone: 'error',
      text: t('vm.failed', { what, name }),
      hint: hint ? `${sentence} ${hint}` : sentence,
    });
  }

  async function runNow({ id, name }: Schedule): Promise<void> {
    try {
      await call('schedule.run', { id });
    } catch (cause) {
      fail(t('vm.operation.schedule_run'), name, cause);
    }
  }

  /** True when it went through. */
  async function enable({ id, name }: Schedule, enabled: boolean): Promise<boolean> {
    try {
      await call('schedule.update', { id, enabled });
      return true;
    } catch (cause) {
      fail(t('schedules.action.edit'), name, cause);
      return false;
    }
  }

  function edit(schedule: Schedule): void {
    void openDialog(ScheduleDialog, { schedule });
  }

  async function remove({ id, name }: Schedule): Promise<void> {
    const yes = await confirm({
      title: t('schedules.remove.title', { name }),
      text: t('schedules.remove.text'),
      action: t('schedules.remove.action'),
      tone: 'danger',
    });
    if (!yes) return;
    try {
      await call('schedule.delete', { id });
    } catch (cause) {
      fail(t('schedules.remove.action'), name, cause);
    }
  }

  /** Everything that can be done with a schedule, with the reason where it cannot now. */
  function offers(schedule: Schedule): ScheduleOffer[] {
    const busy = schedule.running ? t('schedules.blocked.running') : undefined;
    return [
      {
        id: 'run',
        icon: 'play-fill',
        title: t('schedules.action.run'),
        text: t('schedules.action.runText'),
        blocked: busy,
        run: () => void runNow(schedule),
      },
      {
        id: 'edit',
        icon: 'pencil',
        title: t('schedules.action.edit'),
        text: t('schedules.action.editText'),
        blocked: undefined,
        run: () => {
          edit(schedule);
        },
      },
      {
        id: 'delete',
        icon: 'trash',
        title: t('schedules.action.delete'),
        text: t('schedules.action.deleteText'),
        blocked: busy,
        tone: 'danger',
        run: () => void remove(schedule),
      },
    ];
  }

  function menu(schedule: Schedule): MenuItem[] {
    return offers(schedule).map(({ id, icon, title, blocked, tone, run }) => ({
      id,
      icon,
      label: title,
      disabled: blocked !== undefined,
      ...(blocked === undefined ? {} : { hint: blocked }),
      ...(tone ? { tone, separated: true } : {}),
      run,
    }));
  }

  return { runNow, enable, edit, offers, menu };
}
