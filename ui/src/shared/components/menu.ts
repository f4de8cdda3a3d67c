import type { IconName } from './icons';

/** One line of a menu. */
export interface MenuItem {
  readonly id: string;
  readonly label: string;
  readonly icon?: IconName;
  /** Keys that do the same, for people to learn: `Shift S`. */
  readonly keys?: string;
  readonly tone?: 'danger';
  readonly disabled?: boolean;
  /** Why it is disabled, or more about it; shown on hover. */
  readonly hint?: string;
  /** For a choice among several: whether it is the chosen one. */
  readonly checked?: boolean;
  readonly separated?: boolean;
  readonly run: () => void;
}
