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
  {
    path: '/',
    name: 'overview',
    component: () => import('@/views/OverviewView.vue'),
    meta: { nav: { label: 'overview', icon: 'speedometer2', place: 'main' } },
  },
  {
    path: '/machines',
    name: 'machines',
    component: () => import('@/views/MachinesView.vue'),
    meta: { nav: { label: 'machines', icon: 'grid-3x3-gap', place: 'main' } },
  },
  { path: '/machines/new', name: 'create', component: () => import('@/views/CreateView.vue') },
  { path: '/:rest(.*)*', name: 'not-found', component: () => import('@/views/NotFoundView.vue') },
];

export function makeRouter() {
  return createRouter({ history: createWebHistory(), routes });
}
