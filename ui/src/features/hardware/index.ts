/** The fields of a machine's hardware, as the wizard and the machine's settings show them. */
export { default as AccelField } from './AccelField.vue';
export { default as CpusField } from './CpusField.vue';
export { default as FirmwareField } from './FirmwareField.vue';
export { default as MemoryField } from './MemoryField.vue';
export {
  CPUS_MAX,
  cpusSchema,
  DISK_MAX,
  DISK_MIN,
  MEMORY_MAX,
  MEMORY_MIN,
  memorySchema,
  memoryStops,
  nameSchema,
} from './rules';
export { changeWords, fieldWords, type ChangeWords } from './words';
export { NAME_MAX, nameProblem, type NameProblem } from './name';
