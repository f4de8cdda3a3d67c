#!/bin/bash
# The surface alone in Chromium, against an engine of fixtures: keyboard, a thousand machines, a lost engine; then every page in every
# look, with axe.
set -euo pipefail
cd "$(dirname "$(realpath "$0")")/../../ui"
npm run -s test:browser
npm run -s look -- ../screenshots/pages
