/**
 * The pages. Each view is loaded when it is first opened. A route with `nav` stands in the sidebar, in this order; `nav.place`
 * `foot` puts it below the line.
 */
import { createRouter, createWebHistory, type RouteRecordRaw } from 'vue-router';
import type { IconName } from '@/shared/components/icons';

declare module 'vue-router' {
  interface RouteMeta {
    nav?: {
      readonly label: 'overview' | 'machines' | 'settings' | 'doctor' | 'updates';
      readonly icon: IconName;
      readonly place: 'main' | 'foot';
    };
  }
}

export const routes: RouteRecordRaw[] = [
  { path: '/:rest(.*)*', name: 'not-found', component: () => import('@/views/NotFoundView.vue') },
];

export function makeRouter() {
  return createRouter({ history: createWebHistory(), routes });
}
