/** What can be done with images: one place for the pages, the menus and the palette. */
import { useI18n } from 'vue-i18n';
import { useRouter } from 'vue-router';
import { call, toApiError, type ImageId, type LibraryImage } from '@/api/client';
import type { MenuItem } from '@/shared/components/menu';
import { confirm } from '@/shared/composables/confirm';
import { openDialog } from '@/shared/composables/dialogs';
import { useErrorText } from '@/shared/composables/errorText';
import { showToast } from '@/shared/composables/toasts';
import DownloadDialog from './DownloadDialog.vue';
import ImportDialog from './ImportDialog.vue';
import { losesFile } from './library';
import UsedDialog from './UsedDialog.vue';

/** Asks for a file to bring into the library, or about the one given. */
export function openImport(path?: string): Promise<unknown> {
  return openDialog(ImportDialog, path === undefined ? {} : { path });
}

/** Asks for an address to download from. */
export function openDownload(): Promise<unknown> {
  return openDialog(DownloadDialog);
}

/** Where a machine is made from this image. */
export function createPath(image: ImageId) {
  return { name: 'create', query: { image } };
}

export function useImageActions() {
  const { t } = useI18n();
  const router = useRouter();
  const errorText = useErrorText();

  function fail(text: string, cause: unknown): void {
    showToast({ tone: 'error', text, hint: errorText(toApiError(cause).body).sentence });
  }

  async function remove(image: LibraryImage): Promise<void> {
    if (image.usedBy.length > 0) {
      await openDialog(UsedDialog, { image });
      return;
    }
    const file = losesFile(image);
    const yes = await confirm({
      title: t(file ? 'images.remove.title' : 'images.remove.forgetTitle', { name: image.name }),
      text: t(file ? 'images.remove.text' : 'images.remove.forgetText'),
      action: t(file ? 'images.action.deleteNow' : 'images.action.forgetNow'),
      tone: file ? 'danger' : 'default',
      ...(file ? { losses: [{ what: image.path, bytes: image.size }], bytes: image.size } : {}),
    });
    if (!yes) return;
    try {
      await call('image.delete', { id: image.id });
    } catch (cause) {
      fail(t('images.remove.failed', { name: image.name }), cause);
    }
  }

  function menu(image: LibraryImage): MenuItem[] {
    return [
      {
        id: 'create',
        label: t('images.action.create'),
        icon: 'plus-lg',
        disabled: image.state !== 'ready',
        run: () => void router.push(createPath(image.id)),
      },
      {
        id: 'delete',
        label: losesFile(image) ? t('images.action.delete') : t('images.action.forgetNow'),
        icon: 'trash',
        tone: 'danger',
        separated: true,
        run: () => void remove(image),
      },
    ];
  }

  return { remove, menu, fail };
}
