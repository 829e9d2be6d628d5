#!/usr/bin/env bash
# Installs what the tests in headless Chromium need, where it is missing or older
# than the lock file. Needs node and npm.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

# npm leaves a lock file of its own behind, older than the project's if that changed.
installed=$here/node_modules/.package-lock.json
if [ ! -e "$installed" ] || [ "$here/package-lock.json" -nt "$installed" ]; then
    npm --prefix "$here" ci --ignore-scripts --no-progress --loglevel=error
    touch "$installed"
fi
