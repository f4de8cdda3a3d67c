/** The overview of the host and its machines. */
export { default as OverviewBoard } from './OverviewBoard.vue';
