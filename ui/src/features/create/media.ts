/**
 * What can be picked without a file at hand: images of the library, and well-known ones that are downloaded when they are first
 * used. One that is in the library stands there once, as the image. Pure but for `useMedia`.
 */
import { computed, type ComputedRef } from 'vue';
import { call, type CatalogueEntry, type ImageKind, type LibraryImage } from '@/api/client';
import { useLiveQuery } from '@/shared/composables/liveQuery';

export interface Medium {
  /** `image:<id>` or `entry:<id>`. */
  readonly key: string;
  readonly name: string;
  readonly kind: ImageKind;
  /** osinfo-db's short id. */
  readonly os: string | undefined;
  readonly cloudInit: boolean;
  /** The user cloud-init makes when nobody says another. */
  readonly user: string | undefined;
  /** Bytes of the file, or about what is downloaded. */
  readonly size: number | undefined;
  /** Bytes a guest sees, known once it is here. */
  readonly virtualSize: number | undefined;
  /** It is in the library. */
  readonly image: LibraryImage | undefined;
  /** What it is downloaded from. */
  readonly entry: CatalogueEntry | undefined;
}

export type MediumWanted = 'cloud' | 'iso' | 'image';

function fits(medium: Medium, wanted: MediumWanted): boolean {
  if (wanted === 'iso') return medium.kind === 'iso';
  return medium.kind !== 'iso' && (wanted === 'image' || medium.cloudInit);
}

/** In the library first; each by name. */
export function mediaOf(
  images: readonly LibraryImage[],
  catalogue: readonly CatalogueEntry[],
  wanted: MediumWanted,
): Medium[] {
  const here = images
    .filter((image) => image.state === 'ready')
    .map((image): Medium => {
      const entry = catalogue.find((one) => one.image === image.id);
      return {
        key: `image:${image.id}`,
        name: image.name,
        kind: image.kind,
        os: image.os?.id ?? entry?.os,
        cloudInit: image.cloudInit,
        user: entry?.user ?? undefined,
        size: image.size,
        virtualSize: image.virtualSize,
        image,
        entry: undefined,
      };
    });
  const kept = new Set(here.map((pick) => pick.image?.id));
  const away = catalogue
    .filter((entry) => entry.image === null || !kept.has(entry.image))
    .map((entry): Medium => ({
      key: `entry:${entry.id}`,
      name: entry.name,
      kind: entry.kind,
      os: entry.os || undefined,
      cloudInit: entry.cloudInit,
      user: entry.user ?? undefined,
      size: entry.size ?? undefined,
      virtualSize: undefined,
      image: undefined,
      entry,
    }));
  return [...here, ...away].filter((pick) => fits(pick, wanted));
}

export interface Media {
  readonly of: (wanted: MediumWanted) => Medium[];
  readonly find: (key: string) => Medium | undefined;
  readonly loading: ComputedRef<boolean>;
  readonly error: ReturnType<typeof useLiveQuery<LibraryImage[]>>['error'];
  readonly retry: () => Promise<unknown>;
}

export function useMedia(): Media {
  const images = useLiveQuery(() => call('image.list'), ['images_changed']);
  const catalogue = useLiveQuery(() => call('image.catalogue'), ['images_changed']);
  const of = (wanted: MediumWanted) => mediaOf(images.data.value ?? [], catalogue.data.value ?? [], wanted);
  return {
    of,
    find: (key) => [...of('image'), ...of('iso')].find((pick) => pick.key === key),
    loading: computed(() => images.loading.value || catalogue.loading.value),
    error: images.error,
    retry: () => Promise.all([images.run(), catalogue.run()]),
  };
}
