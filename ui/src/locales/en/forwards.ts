/** Host ports that lead into a guest. */
export default {
  title: 'Port forwards',
  help: 'The guest reaches the network by itself. To reach the guest from this computer, lead a port of this computer (host port) to one of the guest.',
  none: 'No ports lead into the guest yet.',
  row: 'Port forward {row}',
  protocol: 'Protocol',
  hostPort: 'Host port',
  guestPort: 'Guest port',
  reach: 'Who can connect',
  thisComputer: 'This computer only',
  everywhere: 'The whole network',
  add: 'Add a port forward',
  remove: 'Remove port forward {row}',
  alsoIn: '{name} also uses port {port}. The two cannot run at the same time.',
  openToAll: 'Anyone on your network can connect to this port.',
  problem: {
    host_range: 'Choose a port from 1024 to 65535. Ports below need root.',
    guest_range: 'Choose a port from 1 to 65535.',
    address: 'This is not an IPv4 address.',
    conflict: 'Port forward {row} already uses this port.',
  },
} as const;
