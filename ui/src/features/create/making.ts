/**
 * The creation after it was asked for: followed to its end, so that a failure comes back to the form that caused it.
 *
 *   idle ──▶ working (progress from the event stream) ──▶ made | failed (ApiError)
 */
import { computed, shallowRef, type ComputedRef } from 'vue';
import {
  ApiError,
  call,
  localError,
  type Operation,
  type OperationId,
  type VmCreateRequest,
} from '@/api/client';
import { isFinal, useOperations } from '@/api/stores';

/** Seconds one question waits for the end; asked again until it comes. */
const WAIT = 30;

export interface Making {
  /** The operation at work, as last told. */
  readonly operation: ComputedRef<Operation | undefined>;
  /** Makes the machine; the operation when it has succeeded. Fails with an `ApiError`. */
  readonly make: (request: VmCreateRequest) => Promise<Operation>;
  readonly cancel: () => Promise<void>;
}

async function ended(id: OperationId): Promise<Operation> {
  for (;;) {
    const operation = await call('operation.get', { id, waitSeconds: WAIT });
    if (isFinal(operation)) return operation;
  }
}

export function useMaking(): Making {
  const operations = useOperations();
  const asked = shallowRef<Operation>();
  const operation = computed(
    () => asked.value && (operations.recent.find((known) => known.id === asked.value?.id) ?? asked.value),
  );

  async function make(request: VmCreateRequest): Promise<Operation> {
    try {
      asked.value = await call('vm.create', request);
      const end = isFinal(asked.value) ? asked.value : await ended(asked.value.id);
      if (end.status === 'succeeded') return end;
      throw end.error
        ? new ApiError(end.error)
        : localError(end.status === 'cancelled' ? 'cancelled' : 'interrupted', '');
    } finally {
      asked.value = undefined;
    }
  }

  async function cancel(): Promise<void> {
    if (asked.value) await call('operation.cancel', { id: asked.value.id });
  }

  return { operation, make, cancel };
}
