/** What every page needs of a machine: how its state looks and what can be done with it. */
export { ACTIONS, actionRules, canDo, offers, primaryAction, useVmActions, type ActionId } from './actions';
export { COLORS, colorOf } from './colors';
export { ended } from './ended';
export { freeMachineName } from './names';
export { hasScreen, isLive, machinePath, osIcon, stateTone, type Tone } from './state';
export { default as StateWord } from './StateWord.vue';
export { default as Thumbnail } from './Thumbnail.vue';
export { useSamples } from './samples';
export { freeSnapshotName, SNAPSHOT_NAME_MAX, snapshotNameSchema } from './snapshotName';
export { badTags, tagsOf } from './tags';
export { default as NewMachineButton } from './NewMachineButton.vue';
