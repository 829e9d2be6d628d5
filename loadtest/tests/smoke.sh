#!/usr/bin/env bash
# Checks of the load generator as a process: `smoke.sh BIN_DIR [PART...]`, the directory
# of the release binaries of ringback and loadtest. PART is `ringback` or `ws` (which
# needs node and npm); the default is both.
#
# Each check runs loadtest against a server that it starts itself, and compares its
# exit status and the main lines of its output.
set -euo pipefail

bin=${1:?usage: smoke.sh BIN_DIR [ringback|ws]...}
shift
[ $# -gt 0 ] || set -- ringback ws
peers=$(cd "$(dirname "$0")/../../benches/peers" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Ports that are unlikely to be in use; loadtest refuses to start if they are.
ringback_port=19401
ws_port=19402
short=(-c 4 --warmup 100ms)

passed=0
failed=0

main() {
    local part
    for part in "$@"; do
        case $part in
            ringback) check_ringback ;;
            ws) check_ws ;;
            *) echo "no such part: $part" >&2; exit 2 ;;
        esac
    done
    echo "$passed passed, $failed failed"
    [ "$failed" -eq 0 ]
}

check_ringback() {
    local engine
    for engine in epoll auto; do
        server="$bin/ringback --listen 127.0.0.1:$ringback_port --engine $engine --threads 1"
        check "closed loop, ringback $engine" drives_closed "$ringback_port"
        check "open loop, ringback $engine" drives_open "$ringback_port"
    done
    check 'a result file is a plan to run again' reruns "$ringback_port"
    check 'an objective missed is status 3' misses_an_objective "$ringback_port"
    check 'a rate out of reach is status 4' is_invalid "$ringback_port"
    check 'Ctrl-C leaves a report and no server' is_interrupted "$ringback_port"
    check 'wrong arguments are status 2' refuses_arguments
    check 'nobody there is status 1' finds_nobody "$ringback_port"
}

check_ws() {
    server="$peers/ws/run.sh $ws_port"
    check 'closed loop, ws' drives_closed "$ws_port"
    check 'open loop, ws' drives_open "$ws_port"
    check 'the cost of a server behind a shell' counts_descendants "$ws_port"
}

# ---- checks --------------------------------------------------------------------

drives_closed() {
    drive "$1" -w 4 --text --fragment 2 -s 64:3,20k:1
    expect_status 0
    expect_line out '^closed loop, 4 connections × 4 in flight, 64 B:3 \+ 20 KiB:1 text in 2 fragments'
    expect_line out ' 0 unanswered, 0 timed out'
    expect_line out '^server +[1-9][0-9]* ns'
}

drives_open() {
    drive "$1" --rate 2k --arrival poisson --churn 20 --idle 3 --slow-readers 1
    # On a busy machine, the verdict may be INVALID.
    [ "$status" -eq 4 ] || expect_status 0
    expect_line out '^open loop, 2,000/s Poisson over 4 connections'
    expect_line out ' 0 unanswered, 0 timed out, [1-9]'
    expect_line out '[0-9] connections( replaced)?($|,)'
    expect_line out '^server +[1-9][0-9]* ns'
}

reruns() {
    local file=$work/run.json
    rm -f "$file"
    drive "$1" --seed 7 -o "$file"
    expect_status 0
    is_result "$file"
    loadtest rerun "$file" --server-cmd "$server" --format json
    expect_status 0
    expect_line err '^loadtest: seed 7$'
    expect_line out '"format": "ringback-loadtest"'
    echo 'no result' >"$file"
    loadtest rerun "$file"
    expect_status 2
}

misses_an_objective() {
    drive "$1" --slo 'p99<1ns,errors<1%'
    expect_status 3
    expect_line out '^  MISSED  p99<1ns'
    expect_line out '^  met     errors<1%'
}

is_invalid() {
    drive "$1" --rate 50k -s 64k
    expect_status 4
    expect_line out '^INVALID'
    expect_line out 'replies came in time|no message was answered'
}

is_interrupted() {
    local pid status=0
    "$bin/loadtest" run "ws://127.0.0.1:$1/" "${short[@]}" -d 60s --server-cmd "$server" \
        >"$work/out" 2>"$work/err" &
    pid=$!
    for _ in $(seq 400); do
        ! grep -q '^loadtest: measuring 1s' "$work/err" || break
        sleep 0.05
    done
    kill -INT "$pid"
    wait "$pid" || status=$?
    expect 'the exit status' "$status" 130
    expect_line out 'interrupted: these are the numbers until then'
    loadtest run "ws://127.0.0.1:$1/"
    expect_line err 'cannot connect'
}

refuses_arguments() {
    local arguments
    for arguments in 'run' 'run http://127.0.0.1/' 'run ws://127.0.0.1/ --rate 1k -w 2' \
        'run ws://127.0.0.1/ -c 0' 'run ws://127.0.0.1/ --slo p99' 'ws://127.0.0.1/'; do
        # shellcheck disable=SC2086
        loadtest $arguments
        expect_status 2
        expect "lines on stderr for: $arguments" "$(wc -l <"$work/err")" 1
    done
}

finds_nobody() {
    loadtest run "ws://127.0.0.1:$1/"
    expect_status 1
    expect_line err 'cannot connect to ws://127.0.0.1:.*Connection refused'
}

# run.sh replaces itself by node, a shell around it does not.
counts_descendants() {
    server="sh -c '$server & wait'"
    drive "$1" -w 4
    expect_status 0
    expect_line out '^server +[1-9][0-9]* ns'
}

# ---- tools ---------------------------------------------------------------------

# drive PORT FLAG...: a short run against the server that is to be started there.
drive() {
    local port=$1
    shift
    loadtest run "ws://127.0.0.1:$port/" "${short[@]}" -d 500ms \
        --server-cmd "$server" --server-wait 120s "$@"
}

loadtest() {
    status=0
    timeout -k 5 180 "$bin/loadtest" "$@" >"$work/out" 2>"$work/err" || status=$?
}

# The fields that every reader of the file needs.
is_result() {
    grep -q '"version": 1' "$1" || complain "no version in $1"
    grep -q '"verdict": "' "$1" || complain "no verdict in $1"
    grep -q '"response_ns": "HISTFAAA' "$1" || complain "no histogram in $1"
}

check() {
    local name=$1
    shift
    complaints=0
    "$@" || complain 'it ended early'
    if [ "$complaints" -eq 0 ]; then
        passed=$((passed + 1))
        echo "ok: $name"
    else
        failed=$((failed + 1))
        echo "FAILED: $name"
        sed 's/^/    out: /' "$work/out"
        sed 's/^/    err: /' "$work/err"
    fi
}

expect_status() {
    expect 'the exit status' "$status" "$1"
}

expect() {
    [ "$2" = "$3" ] || complain "$1: $2 instead of $3"
}

# expect_line out|err PATTERN
expect_line() {
    grep -qE "$2" "$work/$1" || complain "no line in std$1 like: $2"
}

complaints=0

complain() {
    echo "    $1"
    complaints=$((complaints + 1))
}

main "$@"
