#!/bin/sh
# The owner killed 200 times instead of 20 (60 instead of 24 while it works on disks), and the guest's own survival.
set -eu
cd "$(dirname "$0")/../.."
VOIDVM_CRASH_ROUNDS=200 cargo nextest run -p voidvm-tests --test crash --test adoption
VOIDVM_CRASH_ROUNDS=60 cargo nextest run -p voidvm-tests --test storage_crash --test clone_crash
