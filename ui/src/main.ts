import { createPinia } from 'pinia';
import { createApp, nextTick, watch } from 'vue';
import { platform } from './api/platform';
import { useMachines } from './api/stores';
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

// Two frames after the machines are known, they are on the screen.
const machines = useMachines();
watch(
  () => machines.loaded,
  async () => {
    await nextTick();
    requestAnimationFrame(() =>
      requestAnimationFrame(() => {
        platform.painted();
      }),
    );
  },
  { once: true },
);
