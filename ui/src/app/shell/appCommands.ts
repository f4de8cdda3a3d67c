/** The commands that every page has: go somewhere, look different, show the keys. Machines join the palette by themselves. */
import { useI18n } from 'vue-i18n';
import { useRouter } from 'vue-router';
import { paletteOpen, shortcutsOpen, useCommands, type Command } from '@/shared/composables/commands';
import { routes } from '../router';
import { useAppearance } from './appearance';

export function useAppCommands(): void {
  const { t } = useI18n();
  const router = useRouter();
  const { themes, languages } = useAppearance();

  useCommands(() => {
    const general = t('palette.group.general');
    const go = t('palette.group.go');
    const look = t('palette.group.look');
    const list: Command[] = [
      {
        id: 'palette',
        title: t('palette.open'),
        group: general,
        keys: 'Mod+K',
        only: 'keys',
        run: () => (paletteOpen.value = !paletteOpen.value),
      },
      {
        id: 'shortcuts',
        title: t('shell.shortcuts'),
        group: general,
        keys: '?',
        icon: 'keyboard',
        run: () => (shortcutsOpen.value = true),
      },
    ];
    for (const route of routes) {
      const nav = route.meta?.nav;
      if (!nav) continue;
      list.push({
        id: `go-${nav.label}`,
        title: t(`shell.nav.${nav.label}`),
        group: go,
        icon: nav.icon,
        run: () => router.push(route.path),
      });
    }
    if (router.resolve('/machines/new').name === 'create') {
      list.push({
        id: 'create',
        title: t('shell.newMachine'),
        group: go,
        icon: 'plus-lg',
        keys: 'N',
        run: () => router.push('/machines/new'),
      });
    }
    list.push(
      {
        id: 'image-import',
        title: t('images.command.import'),
        group: t('images.command.group'),
        icon: 'folder2-open',
        run: async () => (await import('@/features/images')).openImport(),
      },
      {
        id: 'image-download',
        title: t('images.command.download'),
        group: t('images.command.group'),
        icon: 'download',
        run: async () => (await import('@/features/images')).openDownload(),
      },
      {
        id: 'catalogue',
        title: t('images.command.catalogue'),
        group: t('images.command.group'),
        icon: 'collection',
        run: () => router.push('/images/catalogue'),
      },
      {
        id: 'pool-create',
        title: t('storage.command.addPool'),
        group: t('images.command.group'),
        icon: 'folder-plus',
        run: async () => (await import('@/features/storage')).openNewPool(),
      },
    );
    list.push(
      {
        id: 'schedule-create',
        title: t('schedules.add'),
        group: t('shell.nav.schedules'),
        icon: 'calendar-week',
        run: async () => {
          const made = await (await import('@/features/schedules')).openNewSchedule();
          if (made) await router.push({ path: '/schedules', query: { schedule: made.id } });
        },
      },
      {
        id: 'backup-run',
        title: t('backups.run.title'),
        group: t('shell.nav.backups'),
        icon: 'archive',
        run: async () => (await import('@/features/backups')).openBackup({}),
      },
      {
        id: 'backup-folder',
        title: t('backups.add'),
        group: t('shell.nav.backups'),
        icon: 'folder-plus',
        run: async () => {
          const folder = await (await import('@/features/backups')).openFolder();
          if (folder !== undefined) await router.push({ path: '/backups', query: { folder } });
        },
      },
    );
    for (const theme of themes.value) {
      list.push({
        ...theme,
        id: `theme-${theme.id}`,
        title: `${t('shell.theme.label')}: ${theme.label}`,
        group: look,
      });
    }
    for (const language of languages.value) {
      list.push({
        id: `language-${language.id}`,
        title: `${t('shell.language.label')}: ${language.label}`,
        words: 'language 语言',
        group: look,
        icon: 'translate',
        run: language.run,
      });
    }
    return list;
  });
}
