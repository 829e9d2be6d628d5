#!/usr/bin/env bash
# Connections to a server on loopback when 127.0.0.1 has no port left: sources.sh BIN_DIR,
# the directory of the binaries of ringback and loadtest. As root: it makes a network
# namespace whose addresses have 20 ports each, and changes nothing outside.
set -euo pipefail
bin=$(realpath "${1:?usage: sources.sh BIN_DIR}")
here=$(cd "$(dirname "$0")" && pwd)

if [ "${2:-}" != inside ]; then
    [ "$(id -u)" -eq 0 ] || { echo 'sources.sh: only root can make this namespace' >&2; exit 1; }
    # All processes of the namespace end with its first one.
    exec unshare --net --mount --pid --fork --kill-child --mount-proc "$here/sources.sh" "$bin" inside
fi

ip link set lo up
echo 50000 50019 >/proc/sys/net/ipv4/ip_local_port_range
report=$(mktemp)
trap 'rm -f "$report"' EXIT
"$bin/loadtest" run ws://127.0.0.1:9001/ -c 50 -n 500 --warmup 0s \
    --server-cmd "$bin/ringback --threads 1" >"$report"
cat "$report"
grep -q '500 due, 500 answered' "$report"
grep -qE 'from 127\.0\.0\.1 and [2-9] more addresses of 127\.0\.0\.0/8, as ports ran out' "$report"
echo 'sources.sh: passed'
