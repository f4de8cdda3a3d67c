/** Updates of the app itself. */
export { default as UpdatePanel } from './UpdatePanel.vue';
