#!/bin/bash
# A real guest sees devices come and go, sleeps and goes on, is held by a full disk, and is thrown away.
set -euo pipefail
cd "$(dirname "$(realpath "$0")")/../.."
VOIDVM_FULL=1 cargo nextest run -p voidvm-engine --test guest
