/** What there is to say about an image, and which of them a person asked for. Pure. */
import type { GuestOs, ImageKind, LibraryImage } from '@/api/client';
import type { IconName } from '@/shared/components/icons';
import { matchScore } from '@/shared/composables/searchText';

export const imageFilters = ['all', 'disk', 'iso', 'attention'] as const;
export type ImageFilter = (typeof imageFilters)[number];

const byName = new Intl.Collator(undefined, { numeric: true, sensitivity: 'base' });

export function fits(image: LibraryImage, filter: ImageFilter): boolean {
  switch (filter) {
    case 'all':
      return true;
    case 'disk':
      return image.kind !== 'iso';
    case 'iso':
      return image.kind === 'iso';
    case 'attention':
      return image.state !== 'ready';
  }
}

function textOf(image: LibraryImage): string {
  return [image.name, image.os?.name ?? '', image.os?.id ?? '', image.kind, image.description].join(' ');
}

/** Those that fit the filter and have all of the words, by name. */
export function select(images: readonly LibraryImage[], filter: ImageFilter, words: string): LibraryImage[] {
  return images
    .filter((image) => fits(image, filter) && matchScore(textOf(image), words) > 0)
    .sort((a, b) => byName.compare(a.name, b.name));
}

export function systemIcon(os: Pick<GuestOs, 'id' | 'family'> | null, kind: ImageKind): IconName {
  if (os?.id.startsWith('win') || os?.family.startsWith('win')) return 'windows';
  if (os?.id.startsWith('ubuntu')) return 'ubuntu';
  if (os?.family === 'linux') return 'tux';
  return kind === 'iso' ? 'disc' : 'device-hdd';
}

/** Whether deleting the entry deletes a file. */
export function losesFile(image: LibraryImage): boolean {
  return image.owned && image.state !== 'missing';
}
