/** The command palette and the sheet of keys. */
export default {
  open: 'Search and commands',
  group: {
    general: 'Everywhere',
    go: 'Go to',
    look: 'Look and language',
    lists: 'In the list of machines',
    console: 'In the console',
  },
  keys: {
    move: 'Move',
    open: 'Open the machine',
    select: 'Select or unselect',
    start: 'Start or resume',
    stop: 'Shut down',
    console: 'Open the console',
    leave: 'Give keyboard and pointer back',
  },
} as const;
