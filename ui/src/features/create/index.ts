/** Making a machine. */
export { default as CreateSheet } from './CreateSheet.vue';
