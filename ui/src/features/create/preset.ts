/** What an operating system wants, put into the fields nobody has touched, and told with the reason. Pure. */
import type { CreateDefaults, Firmware, OsPreset } from '@/api/client';

/** The fields a preset may fill. */
export interface Wishes {
  cpus: number | '';
  memory: number | '';
  diskSize: number | '';
  firmware: Firmware;
  tpm: boolean;
}

/** The firmware nearest to the wish that is installed here. */
export function firmwareFor(wish: Firmware, defaults: Pick<CreateDefaults, 'uefi' | 'secureBoot'>): Firmware {
  if (wish === 'uefi_secure' && defaults.secureBoot) return wish;
  return wish !== 'bios' && defaults.uefi ? 'uefi' : 'bios';
}

/** What the preset wants, as far as this computer has it. */
export function wishesOf(preset: OsPreset, defaults: CreateDefaults): Wishes {
  return {
    cpus: Math.max(1, Math.min(preset.cpus, defaults.maxCpus)),
    memory: Math.min(preset.memory, defaults.maxMemory),
    diskSize: preset.diskSize,
    firmware: firmwareFor(preset.firmware, defaults),
    tpm: preset.tpm && defaults.tpm,
  };
}

/** Fills what still holds what was filled in before; answers what it filled. */
export function fill(draft: Wishes, before: Wishes, now: Wishes): Wishes {
  const filled = { ...now };
  const put = <K extends keyof Wishes>(field: K) => {
    if (draft[field] === before[field]) draft[field] = now[field];
    else filled[field] = before[field];
  };
  for (const field of ['cpus', 'memory', 'diskSize', 'firmware', 'tpm'] as const) put(field);
  return filled;
}

export type Reason = 'secure' | 'uefi' | 'tpm' | 'hyperv' | 'noVirtio';
export type Missing = 'secureBoot' | 'uefi' | 'tpm' | 'memory';

/** Why the machine is made as it is, and what of it this computer lacks. */
export function reasonsOf(
  preset: OsPreset,
  defaults: CreateDefaults,
): { readonly reasons: Reason[]; readonly missing: Missing[] } {
  const reasons: Reason[] = [];
  const missing: Missing[] = [];
  if (preset.firmware === 'uefi_secure') reasons.push('secure');
  else if (preset.firmware === 'uefi') reasons.push('uefi');
  if (preset.firmware === 'uefi_secure' && !defaults.secureBoot) missing.push('secureBoot');
  else if (preset.firmware !== 'bios' && !defaults.uefi) missing.push('uefi');
  if (preset.tpm) reasons.push('tpm');
  if (preset.tpm && !defaults.tpm) missing.push('tpm');
  if (preset.hyperv) reasons.push('hyperv');
  if (!preset.virtio) reasons.push('noVirtio');
  if (preset.memory > defaults.maxMemory) missing.push('memory');
  return { reasons, missing };
}
