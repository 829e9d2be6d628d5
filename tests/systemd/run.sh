#!/usr/bin/env bash
# Whether systemd finds nothing wrong with the unit, and little that it could still
# take from the service: run.sh BINARY
set -euo pipefail
binary=$(realpath "$1")
unit=$(cd "$(dirname "$0")/../.." && pwd)/deploy/ringback.service
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# An exposure of 2.0 and more of 10 is a failure.
exposure_max=20

# The binary is not installed here.
sed "s#^ExecStart=/usr/local/bin/ringback#ExecStart=$binary#" "$unit" >"$work/ringback.service"
grep -q "^ExecStart=$binary" "$work/ringback.service"
# It also warns of what is wrong with other units of the machine.
systemd-analyze verify --recursive-errors=no "$work/ringback.service"
systemd-analyze security --offline=yes --no-pager --threshold="$exposure_max" \
    "$work/ringback.service" | tail -n 1
