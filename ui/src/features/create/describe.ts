/** A draft in words, for the review and the summary. */
import type { ImageInfo } from '@/api/client';
import { formatBytes } from '@/shared/format';
import { fromLibrary, wantsDiskSize, type Draft } from './draft';
import type { Medium } from './media';

type Translate = (key: string, values?: Record<string, unknown>) => string;

export interface DraftWords {
  readonly source: string;
  readonly disk: string;
}

function fileName(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

export function describe(
  t: Translate,
  draft: Draft,
  image: ImageInfo | undefined,
  medium: Medium | undefined,
): DraftWords {
  const size = draft.diskSize === '' ? '–' : formatBytes(draft.diskSize);
  if (draft.source === '') return { source: t('create.review.noSource'), disk: '–' };
  if (draft.source === 'demo') return { source: t('create.source.demo'), disk: t('create.review.demoDisk') };
  if (draft.source === 'empty')
    return { source: t('create.source.empty'), disk: t('create.review.newDisk', { size }) };
  const picked = fromLibrary(draft);
  const path = draft.path === '' ? t('create.review.noFile') : fileName(draft.path);
  const file = picked ? (medium?.name ?? t('create.review.noSource')) : path;
  if (draft.source === 'import') return { source: file, disk: '–' };
  if (draft.source === 'iso') {
    return {
      source: t('create.review.iso', { file }),
      disk: draft.disk === 'none' ? t('create.disk.none') : t('create.review.newDisk', { size }),
    };
  }
  const source = t(draft.source === 'cloud' ? 'create.review.cloud' : 'create.review.image', { file });
  if (!picked && draft.usage === 'in_place') return { source, disk: t('create.review.inPlace') };
  const virtual = picked ? medium?.virtualSize : image?.virtualSize;
  const kept = virtual === undefined ? t('create.disk.keep') : formatBytes(virtual);
  const key = picked && draft.library === 'linked' ? 'create.review.linked' : 'create.review.copy';
  return { source, disk: t(key, { size: wantsDiskSize(draft) ? size : kept }) };
}

/** Bytes that making the machine takes at once, and that its disk may grow to. None where nothing is written. */
export function diskNeeds(
  draft: Draft,
  image: ImageInfo | undefined,
  medium: Medium | undefined,
): { now: number; most: number } | undefined {
  if (draft.source === 'empty') return { now: 0, most: Number(draft.diskSize) };
  if (draft.source === 'iso')
    return draft.disk === 'none' ? undefined : { now: 0, most: Number(draft.diskSize) };
  const wanted = wantsDiskSize(draft) ? Number(draft.diskSize) : 0;
  if (fromLibrary(draft)) {
    if (!medium) return undefined;
    const size = medium.size ?? 0;
    // What is downloaded first stays in the library beside the copy.
    const now = (draft.library === 'linked' ? 0 : size) + (medium.image ? 0 : size);
    return { now, most: Math.max(medium.virtualSize ?? 0, wanted) };
  }
  if (draft.source !== 'image' || draft.usage === 'in_place' || !image) return undefined;
  return { now: image.actualSize, most: Math.max(image.virtualSize, wanted) };
}
