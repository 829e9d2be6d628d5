#!/usr/bin/env bash
# usage: run.sh LOADTEST SERVER OUTDIR
# Makes reports of real runs and checks them in headless Chromium: nothing is
# fetched, nothing in a file becomes markup, labels do not overlap, and axe finds no
# barrier. Screenshots and the pages are in OUTDIR.
#
# LOADTEST and SERVER are the binaries, SERVER ringback's.
# CHROMIUM: the browser, default /usr/bin/chromium. Needs node and npm; the packages
# are those of tests/browser.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
if [ $# -ne 3 ]; then
    echo "usage: run.sh LOADTEST SERVER OUTDIR" >&2
    exit 2
fi

"$here/../../../tests/browser/packages.sh"
exec node "$here/check.mjs" "$@"
