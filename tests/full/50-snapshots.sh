#!/bin/bash
# Snapshots of a real machine: long random trees against a model of every disk, a fault at every step, and kills at any moment.
set -euo pipefail
cd "$(dirname "$(realpath "$0")")/../.."
nextest=(cargo nextest run --profile long)
VOIDVM_STEPS=500 "${nextest[@]}" -p voidvm-engine --test snapshot_trees -E 'test(real_)'
VOIDVM_STEPS=10000 "${nextest[@]}" -p voidvm-engine --test snapshot_trees -E 'test(fake)'
VOIDVM_FAULTS=all "${nextest[@]}" -p voidvm-tests --test snapshot_steps
VOIDVM_CRASH_ROUNDS=150 "${nextest[@]}" -p voidvm-tests --test snapshot_crash
