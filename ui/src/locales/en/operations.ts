/** The history of what was done. */
export default {
  title: 'Activity',
  filter: 'Show only',
  all: 'All',
  empty: 'Nothing was done yet',
  emptyText: 'Everything done with machines, images and disks is noted here, with how it ended.',
  emptyFilter: 'Nothing of that kind',
  older: 'Show older',
  id: 'Operation',
  gone: 'This machine no longer exists.',
  qemuWords: 'What QEMU said',
} as const;
