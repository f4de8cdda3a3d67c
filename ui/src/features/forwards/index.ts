/** Host ports that lead into a guest: their rules and their editor. */
export { default as ForwardsEditor } from './ForwardsEditor.vue';
export {
  EVERYWHERE,
  forwardProblems,
  forwardsOf,
  LOOPBACK,
  suggestForward,
  takenBy,
  takenPorts,
  toForwards,
  type ForwardRow,
  type TakenPort,
} from './rules';
export { forwardsSchema, problemText } from './schema';
