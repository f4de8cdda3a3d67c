/** The one error the surface knows, whatever failed. Code switches on `code`, never on the text. */
import type { ErrorBody, ErrorCode } from '@/api/generated/commands';

export class ApiError extends Error {
  override readonly name = 'ApiError';

  constructor(readonly body: ErrorBody) {
    super(body.message);
  }

  get code(): ErrorCode {
    return this.body.code;
  }

  /** The request's field that does not hold, as a path (`spec.memory`). */
  get field(): string | undefined {
    return this.body.field;
  }
}

function isErrorBody(value: unknown): value is ErrorBody {
  return (
    typeof value === 'object' && value !== null && 'code' in value && 'message' in value && 'traceId' in value
  );
}

/** An error made on this side of the wire. */
export function localError(
  code: ErrorCode,
  message: string,
  retry: 'retryable' | 'final' = 'final',
): ApiError {
  return new ApiError({ code, message, retryable: retry === 'retryable', traceId: '' });
}

/** Whatever was thrown, as an `ApiError`. */
export function toApiError(cause: unknown): ApiError {
  if (cause instanceof ApiError) return cause;
  if (isErrorBody(cause)) return new ApiError(cause);
  return localError('internal', cause instanceof Error ? cause.message : String(cause));
}
