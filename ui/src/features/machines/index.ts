/** The list of all machines. */
export { default as MachineBrowser } from './MachineBrowser.vue';
