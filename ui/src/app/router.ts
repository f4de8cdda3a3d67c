/**
 * The pages. Each view is loaded when it is first opened. A route with `nav` stands in the sidebar, in this order; `nav.place`
 * `foot` puts it below the line.
 */
import { createRouter, createWebHistory, type RouteRecordRaw } from 'vue-router';
import type { IconName } from '@/shared/components/icons';

declare module 'vue-router' {
  interface RouteMeta {
    nav?: {
      readonly label:
        | 'overview'
        | 'machines'
        | 'monitor'
        | 'images'
        | 'storage'
        | 'schedules'
        | 'backups'
        | 'activity'
        | 'settings'
        | 'doctor';
      readonly icon: IconName;
      readonly place: 'main' | 'foot';
      /** On narrow screens it stands behind “More”: the bar at the bottom has room for five. */
      readonly rare?: true;
    };
    /** The page fills the room it has and scrolls inside itself. */
    fill?: true;
  }
}

/** A tab of a machine's page. */
function tab(name: 'overview' | 'console' | 'timeline' | 'schedules' | 'settings' | 'log' | 'command') {
  return async () => (await import('@/features/machine')).tabs[name]();
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
  {
    path: '/machines/:id',
    component: () => import('@/views/MachineView.vue'),
    props: true,
    children: [
      { path: '', name: 'machine', component: tab('overview') },
      { path: 'console', name: 'machine-console', component: tab('console'), meta: { fill: true } },
      { path: 'timeline', name: 'machine-timeline', component: tab('timeline') },
      { path: 'schedules', name: 'machine-schedules', component: tab('schedules') },
      { path: 'settings', name: 'machine-settings', component: tab('settings') },
      { path: 'log', name: 'machine-log', component: tab('log') },
      { path: 'command', name: 'machine-command', component: tab('command') },
    ],
  },
  {
    path: '/monitor',
    name: 'monitor',
    component: () => import('@/views/MonitorView.vue'),
    meta: { nav: { label: 'monitor', icon: 'graph-up', place: 'main', rare: true } },
  },
  {
    path: '/images',
    name: 'images',
    component: () => import('@/views/ImagesView.vue'),
    props: { tab: 'library' },
    meta: { nav: { label: 'images', icon: 'collection', place: 'main' } },
  },
  {
    path: '/images/catalogue',
    name: 'catalogue',
    component: () => import('@/views/ImagesView.vue'),
    props: { tab: 'catalogue' },
  },
  {
    path: '/storage',
    name: 'storage',
    component: () => import('@/views/StorageView.vue'),
    meta: { nav: { label: 'storage', icon: 'database', place: 'main' } },
  },
  {
    path: '/schedules',
    name: 'schedules',
    component: () => import('@/views/SchedulesView.vue'),
    meta: { nav: { label: 'schedules', icon: 'calendar-week', place: 'main', rare: true } },
  },
  {
    path: '/backups',
    name: 'backups',
    component: () => import('@/views/BackupsView.vue'),
    meta: { nav: { label: 'backups', icon: 'archive', place: 'main', rare: true } },
  },
  {
    path: '/activity',
    name: 'activity',
    component: () => import('@/views/ActivityView.vue'),
    meta: { nav: { label: 'activity', icon: 'clock-history', place: 'main', rare: true } },
  },
  {
    path: '/settings',
    name: 'settings',
    component: () => import('@/views/SettingsView.vue'),
    meta: { nav: { label: 'settings', icon: 'gear', place: 'foot', rare: true } },
  },
  {
    path: '/doctor',
    name: 'doctor',
    component: () => import('@/views/DoctorView.vue'),
    meta: { nav: { label: 'doctor', icon: 'heart-pulse', place: 'foot', rare: true } },
  },
  { path: '/:rest(.*)*', name: 'not-found', component: () => import('@/views/NotFoundView.vue') },
];

export function makeRouter() {
  return createRouter({ history: createWebHistory(), routes });
}
