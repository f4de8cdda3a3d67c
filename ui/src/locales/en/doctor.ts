/** What could be wrong with the host: every check and every finding, with the facts in braces. */
export default {
  title: 'Doctor',
  checked: 'Checked',
  again: 'Check again',
  copyReport: 'Copy the report',
  copyCommand: 'Copy the command',
  verdict: {
    ok: 'Everything is in order.',
    warning: 'It works, with one limit. | It works, with {count} limits.',
    failed: 'One thing has to be mended. | {count} things have to be mended.',
  },
  group: { ok: 'In order', warning: 'Works, with a limit', failed: 'Has to be mended' },
  status: { ok: 'in order', warning: 'limited', failed: 'has to be mended' },
  check: {
    qemu: 'QEMU',
    qemu_img: 'Disk tool (qemu-img)',
    kvm: 'Acceleration (KVM)',
    kvm_group: 'Group kvm',
    firmware: 'UEFI firmware (OVMF)',
    secure_boot: 'Secure Boot firmware',
    tpm: 'TPM (swtpm)',
    shared_folders: 'Shared folders (virtiofs)',
    passt: 'Fast network (passt)',
    free_space: 'Free space',
    data_directory: 'Data folder',
    runtime_directory: 'Runtime folder',
    log_directory: 'Log folder',
    keychain: 'Keychain',
    configuration: 'Configuration',
    demo_guest: 'Small Linux',
    user: 'User',
  },
  finding: {
    qemu: {
      ok: { sentence: 'Version {version}, {path}' },
      missing: {
        sentence: 'QEMU is not installed, so no machine can start.',
        remedy: 'Install the package qemu-system-x86, or name another QEMU in the settings.',
      },
      too_old: { sentence: 'Version {version} is too old.', remedy: 'Install QEMU 7.2 or newer.' },
      broken: {
        sentence: 'QEMU is there and does not work: {reason}',
        remedy: 'Install it anew, or name another QEMU in the settings.',
      },
    },
    qemu_img: {
      ok: { sentence: '{path}' },
      missing: {
        sentence: 'It is not installed, so disks can neither be made nor looked at.',
        remedy: 'Install the package qemu-utils.',
      },
    },
    kvm: {
      ok: { sentence: 'The processor runs machines directly.' },
      no_device: {
        sentence: 'This computer has no /dev/kvm, so machines run in software, which is much slower.',
        remedy: 'Turn virtualisation (VT-x or AMD-V) on in the firmware set-up, then load the module.',
      },
      no_permission: {
        sentence: 'You may not use /dev/kvm, so machines run in software, which is much slower.',
        remedy: 'Join the group kvm, then log in anew.',
      },
      guests_do_not_run: {
        sentence:
          '/dev/kvm opens, but guests do not run under it. Machines run in software, which is much slower.',
        remedy:
          'If this computer is itself a virtual machine, allow nested virtualisation on its host. Otherwise update kernel and firmware.',
      },
    },
    kvm_group: {
      ok: { sentence: 'You are a member.' },
      not_needed: { sentence: 'Membership is not needed here.' },
      not_member: { sentence: 'You are not a member.', remedy: 'Join it, then log in anew.' },
      relogin: { sentence: 'You are a member, but this session began before.', remedy: 'Log in anew.' },
    },
    firmware: {
      ok: { sentence: '{path}' },
      missing: {
        sentence: 'It is not installed. Machines with BIOS are not concerned.',
        remedy: 'Install the package ovmf.',
      },
    },
    secure_boot: {
      ok: { sentence: '{path}' },
      missing: {
        sentence: 'Firmware with Secure Boot and its keys is not installed. Windows 11 asks for it.',
        remedy: 'Install the package ovmf.',
      },
    },
    tpm: {
      ok: { sentence: '{path}' },
      missing: {
        sentence: 'It is not installed, so no machine can have a TPM. Windows 11 asks for one.',
        remedy: 'Install the package swtpm.',
      },
    },
    shared_folders: {
      ok: { sentence: '{path}' },
      missing: {
        sentence: 'virtiofsd is not installed. Folders can be shared over 9p, which is slower.',
        remedy: 'Install the package virtiofsd.',
      },
      no_uidmap: {
        sentence: 'This virtiofsd needs the package uidmap. Folders can be shared over 9p, which is slower.',
        remedy: 'Install the package uidmap.',
      },
    },
    passt: {
      ok: { sentence: '{path}' },
      missing: {
        sentence: 'It is not installed. Network cards use QEMU’s own network, which is slower.',
        remedy: 'Install the package passt.',
      },
    },
    free_space: {
      ok: { sentence: '{free} free in {path}' },
      low: {
        sentence: 'Only {free} free in {path}. Disks of machines need more as they fill.',
        remedy: 'Free some space, or move the data folder.',
      },
      full: {
        sentence: 'Only {free} free in {path}. Machines will stop when they cannot write.',
        remedy: 'Free some space now.',
      },
      unknown: {
        sentence: 'How much is free in {path} cannot be told.',
        remedy: 'Check that the folder can be read.',
      },
    },
    data_directory: {
      ok: { sentence: 'Machines and their disks are in {path}' },
      absent: { sentence: '{path} is made when it is needed.' },
      not_writable: {
        sentence: '{path} cannot be written to.',
        remedy: 'Give yourself the permission, or use another folder.',
      },
      not_private: {
        sentence: '{path} belongs to another user, or others may write to it.',
        remedy: 'Take the permission of others away.',
      },
    },
    runtime_directory: {
      ok: { sentence: 'Sockets are in {path}' },
      fallback: {
        sentence: 'This session has no runtime folder of its own; {path} is used.',
        remedy: 'Log in through a session that sets XDG_RUNTIME_DIR.',
      },
      too_long: {
        sentence: '{path} is too long for sockets.',
        remedy: 'Set XDG_RUNTIME_DIR to a shorter path.',
      },
      not_writable: {
        sentence: '{path} cannot be written to.',
        remedy: 'Log in anew so that the system makes it, or set XDG_RUNTIME_DIR.',
      },
      not_private: {
        sentence: '{path} belongs to another user, or others may write to it.',
        remedy: 'Remove it; voidVM makes it anew.',
      },
    },
    log_directory: {
      ok: { sentence: 'Logs are in {path}' },
      absent: { sentence: '{path} is made when it is needed.' },
      not_writable: {
        sentence: '{path} cannot be written to, so nothing is logged.',
        remedy: 'Give yourself the permission.',
      },
    },
    keychain: {
      ok: { sentence: 'It keeps secrets.' },
      unavailable: {
        sentence: 'There is none that answers. Secrets are kept in files only you can read.',
        remedy: 'Install and unlock a keychain such as gnome-keyring, or leave it so.',
      },
    },
    configuration: {
      ok: { sentence: '{path} holds.' },
      none: { sentence: 'There is no configuration file; the defaults hold.' },
      invalid: {
        sentence: 'Some values do not hold and are not in force:\n{problems}',
        remedy: 'Mend them in {path} or in the environment.',
      },
    },
    demo_guest: {
      ok: { sentence: '{path}' },
      missing: {
        sentence: 'It is not prepared. Machines from images and ISOs are not concerned.',
        remedy: 'In the source folder, “./dev guest” prepares it.',
      },
    },
    user: {
      ok: { sentence: 'voidVM runs as an ordinary user.' },
      root: {
        sentence: 'voidVM runs as root, and so do its machines: a guest that breaks out owns this computer.',
        remedy: 'Run voidVM as an ordinary user. It needs no more.',
      },
    },
  },
} as const;
