#!/usr/bin/env bash
# Checks that servers do not grow or slow down over a long time: run.sh BIN OUT
# [OPTION...]. BIN is the directory of the release builds of ringback and loadtest, OUT is
# for the samples and logs; `run.sh --help` has the options. See docs/soak.md.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
export PYTHONDONTWRITEBYTECODE=1

# First a test of the rule itself.
tested=$("$python" -m unittest discover -s "$here" 2>&1) || { echo "$tested" >&2; exit 1; }
exec "$python" "$here/soak.py" "$@"
