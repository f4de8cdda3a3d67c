/** Short notices that need no answer. Errors stay until they are closed; the rest leave by themselves. */
import { shallowReactive } from 'vue';
import { announce } from './announce';

export type ToastTone = 'success' | 'info' | 'error';

export interface Toast {
  readonly id: number;
  readonly tone: ToastTone;
  readonly text: string;
  readonly hint?: string | undefined;
  /** One thing to do about it. */
  readonly action?: { readonly label: string; readonly run: () => void } | undefined;
}

/** How long a notice stays, in milliseconds. */
const STAY = 5_000;
/** More than these at once is noise: the oldest goes. */
const MOST = 4;

export const toasts = shallowReactive<Toast[]>([]);

const timers = new Map<number, ReturnType<typeof setTimeout>>();
let lastId = 0;

export function closeToast(id: number): void {
  clearTimeout(timers.get(id));
  timers.delete(id);
  const at = toasts.findIndex((toast) => toast.id === id);
  if (at >= 0) toasts.splice(at, 1);
}

/** Shows a notice and says it to screen readers. */
export function showToast(toast: Omit<Toast, 'id'>): number {
  const id = ++lastId;
  const oldest = toasts.length >= MOST ? toasts[0] : undefined;
  if (oldest) closeToast(oldest.id);
  toasts.push({ ...toast, id });
  announce(
    toast.hint ? `${toast.text} ${toast.hint}` : toast.text,
    toast.tone === 'error' ? 'assertive' : 'polite',
  );
  if (toast.tone !== 'error')
    timers.set(
      id,
      setTimeout(() => {
        closeToast(id);
      }, STAY),
    );
  return id;
}

/** The pointer or the focus is on it: it stays. */
export function holdToast(id: number): void {
  clearTimeout(timers.get(id));
  timers.delete(id);
}
