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

"$here/packages.sh"
exec node "$here/check.mjs" "$@"
