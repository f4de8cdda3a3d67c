/** What was done, by whom, and how it ended. */
export { default as OperationHistory } from './OperationHistory.vue';
export { default as OperationList } from './OperationList.vue';
export { useResultText } from './result';
export { eventTone, type EventTone } from './tone';
