#!/usr/bin/env bash
# usage: conformance.sh [ENGINE ...]
# Holds the release binary to the Autobahn test suite, once per engine (default:
# epoll tokio-uring ring). Every case must be OK or INFORMATIONAL, NON-STRICT is a
# failure, and the server must exit 0 when SIGTERM ends it.
# Left out are 12.* and 13.*, the cases of a compression that is not spoken.
#
# SERVER: the binary, default target/release/ringback (CARGO_TARGET_DIR is kept to)
# OUTDIR: reports go to OUTDIR/ENGINE/index.html, default target/autobahn
# AUTOBAHN_VENV: the suite, made by setup.sh if missing, default py3 beside this script
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
target=${CARGO_TARGET_DIR:-$here/../../target}
server=${SERVER:-$target/release/ringback}
outdir=${OUTDIR:-$target/autobahn}
export AUTOBAHN_VENV=${AUTOBAHN_VENV:-$here/py3}

readonly start_s=10 drain_s=20 suite_s=900

server_pid=
trap '[ -z "$server_pid" ] || kill -KILL "$server_pid" 2>/dev/null || true' EXIT

main() {
    [ $# -gt 0 ] || set -- epoll tokio-uring ring
    if [ ! -x "$server" ]; then
        echo "conformance: no server at $server; cargo build --release makes it" >&2
        exit 2
    fi
    "$here/setup.sh" "$AUTOBAHN_VENV"

    local engine failed=()
    for engine in "$@"; do
        check_engine "$engine" || failed+=("$engine")
    done
    if [ ${#failed[@]} -gt 0 ]; then
        echo "conformance: failed on ${failed[*]}" >&2
        exit 1
    fi
}

check_engine() {
    local engine=$1 out=$outdir/$1 suite=0 strict=0 exit_status=0 begin=$SECONDS summary=''
    mkdir -p "$out"
    if ! start_server "$engine" "$out"; then
        echo "$engine: FAILED, the server did not start; its last lines:" >&2
        tail -n 5 "$out/server.err" >&2
        return 1
    fi
    timeout -k 5 "$suite_s" "$here/run.sh" "$url" "$out" -x '12.*' -x '13.*' >"$out/run.log" || suite=$?
    stop_server || exit_status=$?
    summary=$(summarize "$out") || strict=$?

    if [ "$suite" -eq 0 ] && [ "$strict" -eq 0 ] && [ "$exit_status" -eq 0 ]; then
        echo "$engine: passed, $summary, server exit status 0, $((SECONDS - begin)) s"
        return 0
    fi
    cat "$out/run.log"
    echo "$engine: FAILED, $summary, suite exit status $suite, server exit status $exit_status, $((SECONDS - begin)) s"
    return 1
}

# Sets server_pid and url.
start_server() {
    local engine=$1 out=$2 line='' end=$((SECONDS + start_s))
    "$server" --engine "$engine" --listen 127.0.0.1:0 >"$out/server.out" 2>"$out/server.err" &
    server_pid=$!
    while ! line=$(grep -m1 "^listening ws://.* engine=$engine " "$out/server.out"); do
        if [ "$SECONDS" -ge "$end" ] || ! kill -0 "$server_pid" 2>/dev/null; then
            stop_server || true
            return 1
        fi
        sleep 0.05
    done
    url=${line#listening }
    url=${url%% *}
}

# Returns the server's exit status; one that does not drain in time is killed, which shows as 137.
stop_server() {
    local pid=$server_pid end=$((SECONDS + drain_s)) status=0
    kill -TERM "$pid" 2>/dev/null || true
    while kill -0 "$pid" 2>/dev/null && [ "$SECONDS" -lt "$end" ]; do sleep 0.05; done
    kill -KILL "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || status=$?
    server_pid=
    return "$status"
}

# Prints how many cases ended how and which are not good; fails if any is not.
summarize() {
    "$AUTOBAHN_VENV/bin/python" - "$1/index.json" <<'PY'
import collections, json, sys

GOOD = 'OK', 'INFORMATIONAL'
try:
    cases = json.load(open(sys.argv[1]))['testee']
except (OSError, KeyError, ValueError):
    print('no report')
    sys.exit(1)
bad = {c: r for c, r in cases.items() if r['behavior'] not in GOOD or r['behaviorClose'] not in GOOD}
tally = collections.Counter(r['behavior'] for r in cases.values())
parts = ['%d cases' % len(cases)] + ['%d %s' % (n, what) for what, n in tally.most_common()]
for case, r in sorted(bad.items(), key=lambda item: [int(n) for n in item[0].split('.')]):
    parts.append('%s is %s, close %s' % (case, r['behavior'], r['behaviorClose']))
print(', '.join(parts))
sys.exit(1 if bad or not cases else 0)
PY
}

main "$@"
