#!/usr/bin/env bash
# usage: run.sh PORT [HOST]
# Installs the npm package ws if it is not there, and becomes the echo server on
# it, see server.mjs. Needs node and npm.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
if [ $# -lt 1 ]; then
    echo "usage: run.sh PORT [HOST]" >&2
    exit 2
fi

# npm leaves a lock file of its own behind, older than the project's if that changed.
installed=$here/node_modules/.package-lock.json
if [ ! -e "$installed" ] || [ "$here/package-lock.json" -nt "$installed" ]; then
    npm --prefix "$here" ci --ignore-scripts --no-progress --loglevel=error >&2
    touch "$installed"
fi

exec node "$here/server.mjs" "$@"
