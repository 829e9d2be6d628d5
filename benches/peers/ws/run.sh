#!/usr/bin/env bash
# usage: run.sh PORT [HOST]
# Installs what is missing, see setup.sh, and becomes the echo server on the npm
# package ws, see server.mjs.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
if [ $# -lt 1 ]; then
    echo "usage: run.sh PORT [HOST]" >&2
    exit 2
fi
"$here/setup.sh"
exec node "$here/server.mjs" "$@"
