/** The host, its pools and the machines together, over time. */
export { default as MonitorBoard } from './MonitorBoard.vue';
