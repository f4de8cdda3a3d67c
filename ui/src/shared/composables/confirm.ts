/** A yes-or-no question before something that cannot be taken back. */
import ConfirmDialog from '@/shared/components/ConfirmDialog.vue';
import { openDialog } from './dialogs';

export interface Confirmation {
  readonly title: string;
  /** What will happen, in one sentence that names the thing. */
  readonly text: string;
  /** The word on the button: what it does, never "OK". */
  readonly action: string;
  readonly tone?: 'danger' | 'default';
  /** What goes, one line each. */
  readonly losses?: readonly { readonly what: string; readonly bytes?: number }[];
  /** What goes in all, in bytes. */
  readonly bytes?: number;
  /** The name a person types to confirm, for what cannot be undone. */
  readonly typeName?: string;
}

/** Resolves to true only after a clear yes. */
export async function confirm(question: Confirmation): Promise<boolean> {
  return (await openDialog<boolean>(ConfirmDialog, { ...question })) === true;
}
