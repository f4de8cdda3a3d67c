/** Schedules: snapshots nobody has to ask for. */
export { openNewSchedule } from './actions';
export { reaches } from './reach';
export { default as ScheduleBrowser } from './ScheduleBrowser.vue';
