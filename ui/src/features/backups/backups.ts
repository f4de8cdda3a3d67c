/** What is known of the backups in a folder. Pure. */
import type { Backup, Operation } from '@/api/client';
import { formatList } from '@/shared/format';

/** Newest first, of one machine's name where one is given. */
export function shownBackups(backups: readonly Backup[], machine: string): Backup[] {
  return backups
    .filter((backup) => machine === '' || backup.machines.some(({ name }) => name === machine))
    .toSorted((a, b) => Date.parse(b.taken) - Date.parse(a.taken));
}

export function machineNames(backups: readonly Backup[]): string[] {
  return [...new Set(backups.flatMap(({ machines }) => machines.map(({ name }) => name)))].sort();
}

/** What a backup is called in a list. */
export function namesIn(backup: Backup): string {
  return formatList(backup.machines.map(({ name }) => name));
}

export function sizeOf(backup: Backup): number {
  return backup.machines.reduce((sum, { size }) => sum + size, 0);
}

/** Machines of which no backup would be left in the folder. */
export function lastOnes(backups: readonly Backup[], gone: readonly Backup[]): string[] {
  const ids = new Set(gone.map(({ id }) => id));
  const left = new Set(machineNames(backups.filter(({ id }) => !ids.has(id))));
  return machineNames(gone).filter((name) => !left.has(name));
}

/** Whether an operation is work on backups. */
export function isBackupWork({ kind }: Pick<Operation, 'kind'>): boolean {
  return kind.startsWith('backup_');
}
