import type { ErrorCode } from '@/api/generated/commands';

/** What each error code means; English shows the engine's own sentence where there is one. */
export default {
  invalid_input: { sentence: 'That value cannot be used.', hint: 'Check the marked field.' },
  unknown_command: { sentence: 'This version of voidVM does not know that command.', hint: 'Update voidVM.' },
  name_taken: { sentence: 'Another machine has this name.', hint: 'Choose another name.' },
  invalid_state: {
    sentence: "The machine's state does not allow this now.",
    hint: 'Look at its state and try again.',
  },
  busy: { sentence: 'Something else is being done with this machine.', hint: 'Wait until it has ended.' },
  port_in_use: {
    sentence: 'Another program uses this host port.',
    hint: 'Choose another port, or stop that program.',
  },
  file_in_use: { sentence: 'Another machine uses this file.', hint: 'Choose a copy of it.' },
  confirmation_required: { sentence: 'This needs to be confirmed.' },
  vm_not_found: { sentence: 'This machine no longer exists.', hint: 'Go back to the list.' },
  operation_not_found: { sentence: 'This operation is not known.' },
  not_found: { sentence: 'This is not there.' },
  unauthenticated: { sentence: 'The engine does not know who is asking.', hint: 'Sign in with the token.' },
  forbidden: { sentence: 'This is not permitted.', hint: 'Use a token that reaches further.' },
  rate_limited: { sentence: 'There were too many requests.', hint: 'Wait a moment.' },
  has_children: {
    sentence: 'Linked clones stand on this.',
    hint: 'Make them independent first, or delete them.',
  },
  checksum_mismatch: {
    sentence: 'What is in the file is not what its checksum or signature promises.',
    hint: 'Fetch a download again. A damaged snapshot or backup stays as it is: use an earlier one, and check the drive.',
  },
  program_missing: {
    sentence: 'A program that this needs is not installed.',
    hint: 'The details name it; the doctor page shows how to install it.',
  },
  image_missing: {
    sentence: 'The image file is not there.',
    hint: 'Check whether it was moved or its drive is unplugged.',
  },
  image_invalid: {
    sentence: 'The file is not a disk image or ISO, or it is damaged.',
    hint: 'Choose another file, or download it again.',
  },
  not_enough_memory: {
    sentence: 'The host does not have that much memory.',
    hint: 'Give the machine less, or stop another one.',
  },
  disk_full: { sentence: 'The disk is full.', hint: 'Free some space.' },
  read_only: {
    sentence: 'The folder or file cannot be written to.',
    hint: 'Check whether its drive is read-only.',
  },
  permission_denied: {
    sentence: 'You may not read or write this file or folder.',
    hint: 'Change its permissions.',
  },
  qemu_not_found: { sentence: 'QEMU is not installed.', hint: 'Install it; the doctor page shows how.' },
  qemu_too_old: { sentence: 'This QEMU is too old.', hint: 'Install a newer one.' },
  qemu_failed: { sentence: 'QEMU refused or ended.', hint: 'Its own words are in the details.' },
  qemu_unresponsive: {
    sentence: 'QEMU is there and does not answer.',
    hint: 'Wait, or force the machine off.',
  },
  companion_failed: {
    sentence: 'A program that the machine needs beside QEMU has ended.',
    hint: 'Stop the machine and start it again. The details have the program’s own words.',
  },
  qemu_img_failed: {
    sentence: 'The disk image could not be handled.',
    hint: 'The details say what qemu-img found.',
  },
  firmware_missing: {
    sentence: 'The UEFI firmware (OVMF) is not installed.',
    hint: 'Install it; the doctor page shows how.',
  },
  accel_unavailable: {
    sentence: 'The chosen acceleration does not work here.',
    hint: 'Choose automatic acceleration.',
  },
  guest_did_not_stop: {
    sentence: 'The guest has not shut down in time.',
    hint: 'Wait, ask again, or force it off.',
  },
  agent_unavailable: {
    sentence: 'The guest agent does not answer.',
    hint: 'Install qemu-guest-agent in the guest.',
  },
  console_unavailable: { sentence: 'The console could not be opened.', hint: 'Check that the machine runs.' },
  cancelled: { sentence: 'The operation was cancelled.' },
  interrupted: {
    sentence: 'voidVM ended while this was being done.',
    hint: 'Do it again if it is still needed.',
  },
  timeout: { sentence: 'This took too long.', hint: 'Try again.' },
  database_newer: { sentence: 'The data was written by a newer voidVM.', hint: 'Update voidVM.' },
  database_failed: {
    sentence: 'The data cannot be read or written.',
    hint: 'Check the data folder; the details say more.',
  },
  owner_unreachable: {
    sentence: 'Another voidVM owns the data and does not answer.',
    hint: 'Wait, or end that program.',
  },
  config_invalid: {
    sentence: 'The configuration has a wrong value.',
    hint: 'The settings page shows which.',
  },
  keychain_unavailable: { sentence: 'The keychain of the desktop refuses.', hint: 'Unlock it.' },
  update_rejected: { sentence: 'The update is not genuine or is damaged.', hint: 'It was not installed.' },
  network_failed: { sentence: 'The engine cannot be reached.', hint: 'It is tried again by itself.' },
  unsupported: { sentence: 'This host cannot do that.' },
  internal: { sentence: 'Something went wrong inside voidVM.', hint: 'The trace id finds it in the log.' },
} as const satisfies Record<ErrorCode, { sentence: string; hint?: string }>;
