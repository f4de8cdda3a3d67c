/** How each state of a machine looks. Colour never stands alone: a word or an icon is beside it. */
import type { VmState, VmView } from '@/api/client';
import type { IconName } from '@/shared/components/icons';

export type Tone = 'running' | 'paused' | 'trouble' | 'busy' | 'idle';

export const stateTone: Record<VmState, Tone> = {
  stopped: 'idle',
  starting: 'busy',
  running: 'running',
  paused: 'paused',
  stopping: 'busy',
  suspended: 'idle',
  crashed: 'trouble',
  unresponsive: 'trouble',
  adopting: 'busy',
  broken: 'trouble',
};

/** A process is, or may be, alive. */
export function isLive(state: VmState): boolean {
  return !['stopped', 'suspended', 'crashed', 'broken'].includes(state);
}

/** The screen can be seen. */
export function hasScreen(state: VmState): boolean {
  return ['running', 'paused', 'stopping'].includes(state);
}

export function osIcon(vm: VmView): IconName {
  const os = vm.osType?.toLowerCase() ?? '';
  if (os.startsWith('win')) return 'windows'; // osinfo-db says win11, older machines windows
  if (os.includes('ubuntu')) return 'ubuntu';
  return os === '' ? 'pc-display' : 'tux';
}

export function machinePath(id: string, tab?: string): string {
  return tab === undefined ? `/machines/${id}` : `/machines/${id}/${tab}`;
}
