/** One machine: its frame with header and tabs. What stands on a tab is loaded when it is first opened. */
export { default as MachineFrame } from './MachineFrame.vue';

export const tabs = {
  overview: () => import('./overview/MachineOverview.vue'),
  console: () => import('./MachineConsole.vue'),
  timeline: () => import('./MachineTimeline.vue'),
  schedules: () => import('./MachineSchedules.vue'),
  settings: () => import('./settings/MachineSettings.vue'),
  log: () => import('./log/MachineLog.vue'),
  command: () => import('./log/MachineCommand.vue'),
};
