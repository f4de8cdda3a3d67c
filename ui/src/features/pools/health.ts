/** How each state of a pool looks; a word is always beside it. */
import type { PoolHealth } from '@/api/client';
import type { IconName } from '@/shared/components/icons';

export const healthLook: Record<PoolHealth, { icon: IconName; tone: 'running' | 'paused' | 'trouble' }> = {
  ok: { icon: 'check-circle', tone: 'running' },
  low: { icon: 'exclamation-triangle-fill', tone: 'paused' },
  read_only: { icon: 'lock', tone: 'paused' },
  missing: { icon: 'exclamation-circle-fill', tone: 'trouble' },
};
