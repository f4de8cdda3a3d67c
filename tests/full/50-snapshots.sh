#!/bin/bash
# Snapshots of a real machine: long random trees against a model of every disk, and kills of the owner and of QEMU.
set -euo pipefail
cd "$(dirname "$(realpath "$0")")/../.."
for seed in 1 2 3; do VOIDVM_SEED=$seed VOIDVM_STEPS=170 cargo nextest run -p voidvm-engine --test snapshots; done
VOIDVM_CRASH_ROUNDS=150 cargo nextest run -p voidvm-tests --test snapshot_crash
