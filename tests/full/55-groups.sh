#!/bin/bash
# Groups: three real guests that count what they send each other, before and after; kills of the owner and of QEMU.
set -euo pipefail
cd "$(dirname "$(realpath "$0")")/../.."
cargo nextest run -p voidvm-engine --test groups
# Three guests boot and come back three times: longer than a single test may take elsewhere.
VOIDVM_FULL=1 cargo test -p voidvm-engine --test groups three_guests -- --nocapture
VOIDVM_CRASH_ROUNDS=80 cargo nextest run -p voidvm-tests --test group_crash --no-capture
