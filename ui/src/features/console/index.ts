/** A machine's console: its screen and its serial port. */
export { default as ConsoleView } from './ConsoleView.vue';
