/** Waiting for the end of work that was asked for. */
import { ApiError, call, localError, type Operation } from '@/api/client';
import { isFinal } from '@/api/stores';

/** Seconds one question waits for the end; asked again until it comes. */
const WAIT = 30;

/** The operation when it has succeeded. Fails with an `ApiError` when it ended in any other way. */
export async function ended(operation: Operation): Promise<Operation> {
  let now = operation;
  while (!isFinal(now)) now = await call('operation.get', { id: now.id, waitSeconds: WAIT });
  if (now.status === 'succeeded') return now;
  throw now.error
    ? new ApiError(now.error)
    : localError(now.status === 'cancelled' ? 'cancelled' : 'interrupted', '');
}
