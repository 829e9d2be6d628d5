#!/usr/bin/env bash
# Checks the units with systemd, and that the service is hardened: verify.sh BINARY
set -euo pipefail
binary=$(realpath "$1")
units=$(cd "$(dirname "$0")/../.." && pwd)/deploy
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# An exposure of 2.0 and more of 10 is a failure.
exposure_max=20

# The binary is not installed here.
sed "s#=/usr/local/bin/ringback#=$binary#" "$units/ringback.service" >"$work/ringback.service"
grep -q "^ExecStart=$binary" "$work/ringback.service"
cp "$units/ringback.socket" "$work/"
# It also warns of what is wrong with other units of the machine.
systemd-analyze verify --recursive-errors=no "$work"/ringback.{service,socket}
systemd-analyze security --offline=yes --no-pager --threshold="$exposure_max" \
    "$work/ringback.service" | tail -n 1
