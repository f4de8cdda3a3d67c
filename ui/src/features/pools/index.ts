/** How pools stand, for every page that warns: small, since the first page has it. */
export { healthLook } from './health';
export { default as PoolTroubles } from './PoolTroubles.vue';
export { usePoolTroubles } from './troubles';
