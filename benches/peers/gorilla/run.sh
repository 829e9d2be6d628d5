#!/usr/bin/env bash
# usage: run.sh PORT [HOST]
# Compiles what is missing, see setup.sh, and becomes the echo server on
# gorilla/websocket, see server.go.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
if [ $# -lt 1 ]; then
    echo "usage: run.sh PORT [HOST]" >&2
    exit 2
fi
"$here/setup.sh"
exec "$here/server" "$@"
