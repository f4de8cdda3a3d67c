import { createPinia } from 'pinia';
import { createApp } from 'vue';
import App from './app/App.vue';
import { i18n } from './app/i18n';
import { followLook } from './app/look';
import { makeRouter } from './app/router';
import './app/theme.scss';

const app = createApp(App);
app.use(createPinia());
app.use(i18n);
app.use(makeRouter());
await followLook();
app.mount('#app');
