/** A machine's past: its snapshots as a line and as a tree, and what can be done with them. */
export { default as SnapshotTimeline } from './SnapshotTimeline.vue';
