#!/usr/bin/env bash
# usage: run.sh SERVER OUTDIR
# Drives the demo page in headless Chromium and leaves screenshots in OUTDIR.
#
# SERVER is a ringback binary, which is started, drained and restarted on the
# way, or the http:// URL of a server that is running, whose page is then
# checked without the parts that need it to stop.
# CHROMIUM: the browser, default /usr/bin/chromium. Needs node and npm.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
if [ $# -ne 2 ]; then
    echo "usage: run.sh SERVER OUTDIR" >&2
    exit 2
fi

# npm leaves a lock file of its own behind, older than the project's if that changed.
installed=$here/node_modules/.package-lock.json
if [ ! -e "$installed" ] || [ "$here/package-lock.json" -nt "$installed" ]; then
    npm --prefix "$here" ci --ignore-scripts --no-progress --loglevel=error
    touch "$installed"
fi

exec node "$here/check.mjs" "$@"
