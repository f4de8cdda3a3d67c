/** Storage: directories of disks and what lies in them. */
export { openNewPool } from './actions';
export { default as StorageBrowser } from './StorageBrowser.vue';
