/** Updates of the app itself. */
export default {
  title: 'Updates',
  browser: 'The engine is updated where it runs: by its package, or by the desktop app on that computer.',
  idle: 'voidVM looks for updates only when you ask.',
  checking: 'Looking for an update',
  current: 'Version {version} is the newest.',
  available: 'Version {version} is there. You have {current}.',
  off: {
    no_endpoint: 'Updates are off: no address is set.',
    no_key: 'Updates are off: this build has no key to verify them with. Use the package it came from.',
  },
  check: 'Look for updates',
  install: 'Install',
  downloading: 'Downloading and verifying',
  installed: 'The update is installed. It is used after a restart of voidVM.',
  restart: 'Restart voidVM',
  machinesGoOn: '{count} running machine goes on meanwhile. | {count} running machines go on meanwhile.',
  notes: 'What is new',
} as const;
