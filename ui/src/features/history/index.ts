/** Graphs of what was measured: the time they show, drawing them, and the same as a table for other programs. */
export { byteTicks } from './axis';
export {
  COLOURS,
  FORMATS,
  hostGraphs,
  MACHINE_METRICS,
  machineGraphs,
  poolGraph,
  type Graph,
  type Line,
} from './charts';
export type { Value } from './columns';
export { toCsv, type CsvTable } from './csv';
export { default as GraphGrid } from './GraphGrid.vue';
export { graphMarks, type GraphMark } from './marks';
export { saveTable } from './save';
export { LENGTH, type Range, type Span } from './span';
export { default as TimeBar } from './TimeBar.vue';
export { default as TimeChart } from './TimeChart.vue';
export { useTime, type TimeView } from './useTime';
export { default as ZoomBar } from './ZoomBar.vue';
