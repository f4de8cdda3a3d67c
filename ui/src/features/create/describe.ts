/** A draft in words, for the review and the summary. */
import type { ImageInfo } from '@/api/client';
import { formatBytes } from '@/shared/format';
import { wantsDiskSize, type Draft } from './draft';

type Translate = (key: string, values?: Record<string, unknown>) => string;

export interface DraftWords {
  readonly source: string;
  readonly disk: string;
}

function fileName(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

export function describe(t: Translate, draft: Draft, image: ImageInfo | undefined): DraftWords {
  const size = draft.diskSize === '' ? '–' : formatBytes(draft.diskSize);
  if (draft.source === '') return { source: t('create.review.noSource'), disk: '–' };
  if (draft.source === 'demo') return { source: t('create.source.demo'), disk: t('create.review.demoDisk') };
  const file = draft.path === '' ? t('create.review.noFile') : fileName(draft.path);
  if (draft.source === 'iso') {
    return {
      source: t('create.review.iso', { file }),
      disk: draft.disk === 'none' ? t('create.disk.none') : t('create.review.newDisk', { size }),
    };
  }
  if (draft.usage === 'in_place') {
    return { source: t('create.review.image', { file }), disk: t('create.review.inPlace') };
  }
  const kept = image ? formatBytes(image.virtualSize) : t('create.disk.keep');
  return {
    source: t('create.review.image', { file }),
    disk: t('create.review.copy', { size: wantsDiskSize(draft) ? size : kept }),
  };
}

/** Bytes that making the machine takes at once, and that its disk may grow to. None where nothing is written. */
export function diskNeeds(
  draft: Draft,
  image: ImageInfo | undefined,
): { now: number; most: number } | undefined {
  if (draft.source === 'iso')
    return draft.disk === 'none' ? undefined : { now: 0, most: Number(draft.diskSize) };
  if (draft.source !== 'image' || draft.usage === 'in_place' || !image) return undefined;
  return {
    now: image.actualSize,
    most: Math.max(image.virtualSize, wantsDiskSize(draft) ? Number(draft.diskSize) : 0),
  };
}
