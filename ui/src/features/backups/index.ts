/** Backups of machines in folders. */
export { openBackup, openFolder } from './actions';
export { default as BackupBrowser } from './BackupBrowser.vue';
