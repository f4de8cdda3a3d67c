#!/bin/bash
# The small guest starts from every bus, writes to a second disk on it, and is reached through every kind of network card; and
# every kind of machine is started and asked what it became, on the installed QEMU and on VOIDVM_TEST_QEMU where it is set.
set -euo pipefail
cd "$(dirname "$(realpath "$0")")/../.."
VOIDVM_FULL=1 cargo nextest run -p voidvm-qemu --test real
