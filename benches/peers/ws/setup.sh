#!/usr/bin/env bash
# Installs the npm package ws beside this script, if it is not there. Needs node
# and npm.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

# npm leaves a lock file of its own behind, older than the project's if that changed.
installed=$here/node_modules/.package-lock.json
if [ ! -e "$installed" ] || [ "$here/package-lock.json" -nt "$installed" ]; then
    npm --prefix "$here" ci --ignore-scripts --no-progress --loglevel=error >&2
    touch "$installed"
fi
