/** What could be wrong with this host, and how to mend it. */
export { default as DoctorReport } from './DoctorReport.vue';
