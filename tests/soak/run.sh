#!/usr/bin/env bash
# Whether servers are after a long time what they were after a short one: run.sh BIN OUT
# [OPTION...]. BIN is where the release builds of ringback and loadtest are, OUT is for
# the samples and logs; `run.sh --help` has the options. See docs/soak.md.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
export PYTHONDONTWRITEBYTECODE=1

# A rule that finds nothing is worth nothing.
tested=$("$python" -m unittest discover -s "$here" 2>&1) || { echo "$tested" >&2; exit 1; }
exec "$python" "$here/soak.py" "$@"
