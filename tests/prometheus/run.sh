#!/usr/bin/env bash
# Reads the metrics with Prometheus' own parser: run.sh BINARY [VENV]
# The Python environment is made in VENV, if missing; by default in a temporary directory.
set -euo pipefail
binary=$1
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
venv=${2:-$work/venv}
server=
trap 'if [ -n "$server" ]; then kill "$server" 2>/dev/null || true; fi; rm -rf "$work"' EXIT

if [ ! -x "$venv/bin/python" ]; then
    "${PYTHON:-python3}" -m venv "$venv"
    timeout 120 "$venv/bin/pip" install --quiet --disable-pip-version-check \
        'prometheus-client>=0.20,<1'
fi

"$binary" --listen 127.0.0.1:0 --admin 127.0.0.1:0 --engine epoll --threads 2 --no-pin \
    >"$work/out" 2>"$work/log" &
server=$!
for _ in $(seq 100); do
    if grep -q '^admin ' "$work/out"; then break; fi
    kill -0 "$server" || { cat "$work/log" >&2; exit 1; }
    sleep 0.1
done
timeout 60 "$venv/bin/python" "$here/check.py" "$(sed -n 's/^admin //p' "$work/out")"
