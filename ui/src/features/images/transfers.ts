/**
 * Images on their way into the library, and those that did not arrive.
 *
 *   asked ──▶ active ──▶ arrived (in the library, no longer here)
 *                └────▶ failed, interrupted ──(Continue)──▶ active
 *
 * What was asked of a download is remembered in this browser, so that one that broke off can be asked for again.
 */
import { useLocalStorage } from '@vueuse/core';
import { computed, type ComputedRef } from 'vue';
import { call, type ErrorCode, type ImageDownloadRequest, type Operation } from '@/api/client';
import { isFinal, useOperations } from '@/api/stores';

/** How long one that failed is shown, in milliseconds. */
const SHOWN = 24 * 3_600_000;
/** Ends after which a download goes on where it broke off. */
const GOES_ON: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'network_failed',
  'timeout',
  'disk_full',
  'interrupted',
]);
/** Requests remembered. */
const KEPT = 20;

const asked = useLocalStorage<{ id: string; request: ImageDownloadRequest }[]>('voidvm.images.downloads', []);
const hidden = useLocalStorage<string[]>('voidvm.images.hidden', []);

export interface Transfer {
  readonly operation: Operation;
  /** What would let it go on. */
  readonly request: ImageDownloadRequest | undefined;
}

/** Those to show of `operations` (newest first): at work, or broken off lately and not tried again since. */
export function transfersOf(operations: readonly Operation[], now: number): Operation[] {
  const seen = new Set<string>();
  return operations.filter((operation) => {
    if (operation.kind !== 'image_download' && operation.kind !== 'image_import') return false;
    if (!isFinal(operation)) {
      seen.add(operation.subject);
      return true;
    }
    if (seen.has(operation.subject)) return false;
    seen.add(operation.subject);
    return (
      (operation.status === 'failed' || operation.status === 'interrupted') &&
      now - Date.parse(operation.finishedAt ?? operation.requestedAt) < SHOWN
    );
  });
}

/** What has arrived of it is kept; a file that turned out to be wrong is not. */
export function canGoOn(operation: Operation): boolean {
  if (operation.status === 'interrupted') return true;
  return operation.error !== null && GOES_ON.has(operation.error.code);
}

export async function startDownload(request: ImageDownloadRequest): Promise<Operation> {
  const operation = await call('image.download', request);
  asked.value = [{ id: operation.id, request }, ...asked.value].slice(0, KEPT);
  return operation;
}

export function hideTransfer(operation: Operation): void {
  hidden.value = [operation.id, ...hidden.value].slice(0, KEPT * 2);
}

export function useTransfers(): ComputedRef<readonly Transfer[]> {
  const operations = useOperations();
  return computed(() =>
    transfersOf(operations.recent, Date.now())
      .filter((operation) => !hidden.value.includes(operation.id))
      .map((operation) => ({
        operation,
        request: asked.value.find((one) => one.id === operation.id)?.request,
      })),
  );
}
