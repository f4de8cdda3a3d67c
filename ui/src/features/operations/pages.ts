/**
 * The history of operations, page by page, newest first. What happens meanwhile joins at the top by the event stream; rows that are
 * shown change in place and never move.
 */
import { computed, shallowRef, watch, type ComputedRef, type ShallowRef } from 'vue';
import {
  call,
  toApiError,
  type ApiError,
  type Operation,
  type OperationStatus,
  type VmId,
} from '@/api/client';
import { useOperations } from '@/api/stores';

export interface OperationFilter {
  readonly vmId?: VmId | undefined;
  readonly status?: OperationStatus | undefined;
}

/** Rows a page has. */
export const PAGE = 50;

export interface OperationPages {
  readonly rows: ShallowRef<readonly Operation[]>;
  readonly error: ShallowRef<ApiError | undefined>;
  readonly loading: ComputedRef<boolean>;
  /** The oldest one is shown. */
  readonly complete: ShallowRef<boolean>;
  readonly reload: () => Promise<void>;
  readonly more: () => Promise<void>;
}

/** `news` (newest first) taken into `rows`: known ones in place, newer ones that fit on top. */
export function withNews(
  rows: readonly Operation[],
  news: readonly Operation[],
  fits: (operation: Operation) => boolean,
): readonly Operation[] {
  const top = rows[0]?.id ?? '';
  const byId = new Map(news.map((operation) => [operation.id, operation]));
  const shown = rows.map((row) => byId.get(row.id) ?? row);
  const fresh = news.filter((operation) => operation.id > top && fits(operation));
  if (fresh.length === 0 && shown.every((row, at) => row === rows[at])) return rows;
  return [...fresh, ...shown];
}

export function useOperationPages(filter: () => OperationFilter): OperationPages {
  const store = useOperations();
  const rows = shallowRef<readonly Operation[]>([]);
  const error = shallowRef<ApiError>();
  const complete = shallowRef(false);
  const asking = shallowRef(false);
  const loaded = shallowRef(false);
  let generation = 0;

  async function ask(before?: Operation): Promise<void> {
    const own = ++generation;
    asking.value = true;
    try {
      const { vmId, status } = filter();
      const page = await call('operation.list', {
        limit: PAGE,
        ...(vmId === undefined ? {} : { vmId }),
        ...(status === undefined ? {} : { status }),
        ...(before ? { before: before.id } : {}),
      });
      if (own !== generation) return;
      rows.value = before ? [...rows.value, ...page] : page;
      complete.value = page.length < PAGE;
      loaded.value = true;
      error.value = undefined;
    } catch (cause) {
      if (own === generation) error.value = toApiError(cause);
    }
    if (own === generation) asking.value = false;
  }

  function fits(operation: Operation): boolean {
    const { vmId, status } = filter();
    return (
      (vmId === undefined || operation.vmId === vmId) && (status === undefined || operation.status === status)
    );
  }

  watch(
    () => store.recent,
    (recent) => {
      if (loaded.value) rows.value = withNews(rows.value, recent, fits);
    },
  );
  watch(
    () => JSON.stringify(filter()),
    () => {
      loaded.value = false;
      rows.value = [];
      void ask();
    },
    { immediate: true },
  );

  return {
    rows,
    error,
    loading: computed(() => asking.value && !loaded.value),
    complete,
    reload: () => ask(),
    more: () => (asking.value ? Promise.resolve() : ask(rows.value.at(-1))),
  };
}
