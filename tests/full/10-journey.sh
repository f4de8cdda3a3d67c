#!/bin/bash
# The main job end to end, in the real window and in Chromium, on a real guest.
set -euo pipefail
cd "$(dirname "$(realpath "$0")")/../.."
if ! command -v tauri-driver >/dev/null; then
  echo "installing tauri-driver with cargo" >&2
  cargo install -q --locked tauri-driver --version '^2'
fi
(cd ui && [ -d dist ] || npm run -s build)
node tests/e2e/journey.mjs chromium
node tests/e2e/journey.mjs window
