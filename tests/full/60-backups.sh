#!/bin/bash
# Backups: a full one and 20 more while a real guest writes, each compared with the instant it is of; long random histories; kills.
set -euo pipefail
cd "$(dirname "$(realpath "$0")")/../.."
export VOIDVM_FULL=1
for seed in 1 2 3; do VOIDVM_BACKUP_SEED=$seed VOIDVM_BACKUP_STEPS=200 cargo nextest run -p voidvm-engine --test incrementals; done
cargo nextest run -p voidvm-engine --test backup_proof --no-capture
VOIDVM_CRASH_ROUNDS=100 cargo nextest run -p voidvm-tests --test backup_crash
