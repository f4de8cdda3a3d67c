/**
 * A form checked twice: by a zod schema as one types, and by the engine, whose error names the field.
 *
 * A field's error shows once the person has left it or has tried to send; the engine's error shows until the field changes.
 */
import { computed, reactive, ref, shallowRef, watch, type ComputedRef, type Ref, type ShallowRef } from 'vue';
import type { ZodType } from 'zod';
import { toApiError, type ApiError } from '@/api/client';

export interface Form<T extends object> {
  readonly values: T;
  /** What is wrong with a field now and should be shown. Paths with dots: `spec.memory`. */
  readonly errorOf: (path: string) => string | undefined;
  /** The person has left the field. */
  readonly touch: (path: string) => void;
  readonly valid: ComputedRef<boolean>;
  readonly sending: Ref<boolean>;
  /** What the engine said and no field can show. */
  readonly failure: ShallowRef<ApiError | undefined>;
  /** Checks, then sends; true when it went through. */
  readonly submit: (send: (values: T) => Promise<unknown>) => Promise<boolean>;
}

function pathOf(path: readonly PropertyKey[]): string {
  return path
    .map((step, at) => (typeof step === 'number' ? `[${String(step)}]` : `${at ? '.' : ''}${String(step)}`))
    .join('');
}

function valueAt(values: object, path: string): unknown {
  return path
    .split(/[.[\]]+/)
    .filter(Boolean)
    .reduce<unknown>(
      (at, step) =>
        typeof at === 'object' && at !== null ? (at as Record<string, unknown>)[step] : undefined,
      values,
    );
}

export function useForm<T extends object>(
  schema: () => ZodType<unknown, T>,
  initial: T,
  options: {
    /** The engine's error in the words of the surface. */
    readonly words: (error: ApiError) => string;
    /** The engine's field in terms of this form's; the same without. */
    readonly fieldOf?: (field: string) => string;
  },
): Form<T> {
  const values = reactive(structuredClone(initial)) as T;
  const touched = reactive(new Set<string>());
  const tried = ref(false);
  const sending = ref(false);
  const failure = shallowRef<ApiError>();
  const refused = shallowRef<{ path: string; value: string; words: string }>();

  const problems = computed(() => {
    const found = new Map<string, string>();
    const result = schema().safeParse(values);
    for (const issue of result.error?.issues ?? []) {
      const path = pathOf(issue.path);
      if (!found.has(path)) found.set(path, issue.message);
    }
    return found;
  });

  watch(
    () => refused.value && JSON.stringify(valueAt(values, refused.value.path)),
    (now) => {
      if (refused.value && now !== refused.value.value) refused.value = undefined;
    },
  );

  function errorOf(path: string): string | undefined {
    if (refused.value?.path === path) return refused.value.words;
    return tried.value || touched.has(path) ? problems.value.get(path) : undefined;
  }

  async function submit(send: (values: T) => Promise<unknown>): Promise<boolean> {
    tried.value = true;
    failure.value = undefined;
    if (problems.value.size > 0 || sending.value) return false;
    sending.value = true;
    try {
      await send(values);
      return true;
    } catch (cause) {
      const error = toApiError(cause);
      const path = error.field === undefined ? undefined : (options.fieldOf?.(error.field) ?? error.field);
      const value = path === undefined ? undefined : valueAt(values, path);
      if (path !== undefined && value !== undefined) {
        refused.value = { path, value: JSON.stringify(value), words: options.words(error) };
      } else {
        failure.value = error;
      }
      return false;
    } finally {
      sending.value = false;
    }
  }

  return {
    values,
    errorOf,
    touch: (path) => touched.add(path),
    valid: computed(() => problems.value.size === 0),
    sending,
    failure,
    submit,
  };
}
