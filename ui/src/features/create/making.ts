/**
 * The creation after it was asked for: followed to its end, so that a failure comes back to the form that caused it.
 *
 *   idle ──▶ fetching the image ──▶ working (progress from the event stream) ──▶ made | failed (ApiError)
 *             (where it is not here yet)
 */
import { computed, shallowRef, type ComputedRef } from 'vue';
import { call, localError, type ImageDownloadRequest, type ImageId, type Operation } from '@/api/client';
import { useOperations } from '@/api/stores';
import { ended } from '@/features/vm';

export interface Making {
  /** The operation at work, as last told. */
  readonly operation: ComputedRef<Operation | undefined>;
  /** Downloads an image; answers with the one of the library. Fails with an `ApiError`. */
  readonly fetch: (request: ImageDownloadRequest) => Promise<ImageId>;
  /** Follows what `ask` begins; the operation when it has succeeded. Fails with an `ApiError`. */
  readonly make: (ask: () => Promise<Operation>) => Promise<Operation>;
  readonly cancel: () => Promise<void>;
}

export function useMaking(): Making {
  const operations = useOperations();
  const asked = shallowRef<Operation>();
  const operation = computed(
    () => asked.value && (operations.recent.find((known) => known.id === asked.value?.id) ?? asked.value),
  );

  async function make(ask: () => Promise<Operation>): Promise<Operation> {
    try {
      asked.value = await ask();
      return await ended(asked.value);
    } finally {
      asked.value = undefined;
    }
  }

  async function fetch(request: ImageDownloadRequest): Promise<ImageId> {
    const end = await make(() => call('image.download', request));
    if (end.imageId !== null) return end.imageId;
    const entry = (await call('image.catalogue')).find((one) => one.id === request.catalogueId);
    if (!entry?.image) throw localError('not_found', '', 'retryable');
    return entry.image;
  }

  async function cancel(): Promise<void> {
    if (asked.value) await call('operation.cancel', { id: asked.value.id });
  }

  return { operation, fetch, make, cancel };
}
