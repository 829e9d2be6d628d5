#!/usr/bin/env bash
# The table of the README: ringback's engines and servers on other libraries, compared
# by `loadtest ab` in interleaved rounds, a fresh server for each run.
#
#   benches/peers/ab.sh [AB-FLAG…] -- RUN-FLAG…
#   benches/peers/ab.sh --pairs 10 --format markdown -- -c 100 -w 16
#
# What it needs: cargo build --release --workspace, benches/peers/setup.sh.
set -euo pipefail
cd "$(dirname "$0")/../.."
bin=${CARGO_TARGET_DIR:-target}/release

flags=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    flags+=("$1")
    shift
done
[ $# -eq 0 ] || shift

ringback() {
    echo "ringback-$1=$bin/ringback --engine $1 --threads 1 --listen 127.0.0.1:{port}"
}

exec "$bin/loadtest" ab "${flags[@]}" \
    --a "$(ringback ring)" \
    --b "$(ringback epoll)" \
    --c "$(ringback tokio-uring)" \
    --c "fastwebsockets=$bin/peer-fastwebsockets {port}" \
    --c "tungstenite=$bin/peer-tungstenite {port}" \
    --c "gorilla=benches/peers/gorilla/run.sh {port}" \
    --c "ws=benches/peers/ws/run.sh {port}" \
    -- 'ws://127.0.0.1:{port}/' "$@"
