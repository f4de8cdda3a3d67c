/** What screen readers are told: the shell draws the two live regions that hold these texts. */
import { shallowReactive } from 'vue';

export const announcements = shallowReactive({ polite: '', assertive: '' });

/** Says `text`; the same text again is said again. */
export function announce(text: string, urgency: 'polite' | 'assertive' = 'polite'): void {
  announcements[urgency] = announcements[urgency] === text ? `${text}\u00a0` : text;
}
