/** What a person can set. */
export { default as SettingsPage } from './SettingsPage.vue';
