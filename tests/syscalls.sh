#!/usr/bin/env bash
# Checks that need system calls: `tests/syscalls.sh BINARY`, with the path of ringback.
# Needs strace, python3 and the right to trace child processes.
#
# - If io_uring is forbidden, auto falls back to epoll and logs the reason, and an engine
#   given by name is an error with the reason.
# - A batch of pipelined frames costs the epoll engine one read and one write,
#   and the ring engine none: the kernel does both when the ring is entered.
set -euo pipefail

binary=${1:?usage: tests/syscalls.sh BINARY}
work=$(mktemp -d)
tracer=
trap 'stop; rm -rf "$work"' EXIT

passed=0
failed=0

main() {
    command -v strace >/dev/null || { echo 'strace is not installed' >&2; exit 1; }
    for errno in EPERM ENOSYS; do
        check "auto falls back to epoll when io_uring_setup returns $errno" falls_back "$errno"
        for engine in ring tokio-uring; do
            check "$engine by name is an error when io_uring_setup returns $errno" is_refused "$errno" "$engine"
        done
    done
    check 'a batch of 256 frames is one read and one write' one_read_one_write
    check 'a batch of 256 frames is neither on the ring' all_on_the_ring
    echo "$passed passed, $failed failed"
    [ "$failed" -eq 0 ]
}

falls_back() {
    start -e trace=io_uring_setup -e "inject=io_uring_setup:error=$1" -- --engine auto || return
    expect 'the engine' "$(sed -n 's/.* engine=\([^ ]*\) .*/\1/p' "$work/out")" epoll
    expect 'lines about it' "$(grep -c 'falling back' "$work/err")" 1
    grep 'falling back' "$work/err" | grep -q 'io_uring' || complain 'no reason in the log'
    expect 'the echo' "$(client 1)" '1 echoed'
    stop
}

is_refused() {
    local status=0
    timeout 20 strace -f -qq -o "$work/trace" -e trace=io_uring_setup -e "inject=io_uring_setup:error=$1" \
        "$binary" --listen 127.0.0.1:0 --engine "$2" >"$work/out" 2>"$work/err" || status=$?
    expect 'the exit status' "$status" 1
    expect 'lines on stdout' "$(wc -l <"$work/out")" 0
    expect 'lines on stderr' "$(wc -l <"$work/err")" 1
    grep -q "$2.*io_uring" "$work/err" || complain "no reason in: $(cat "$work/err")"
}

one_read_one_write() {
    start -e trace=read,readv,recvfrom,recvmsg,write,writev,sendto,sendmsg,sendfile,splice \
        -- --engine epoll --threads 1 || return
    expect 'the echo' "$(client 256)" '256 echoed'
    stop
    # Every text frame of the batch begins with 0x81, every reply, too; the calls
    # of the handshake do not, nor does the end of the stream.
    local calls='(recvfrom|recvmsg|read|readv)\([0-9]+, "\\x81.* = [1-9]'
    expect 'reads' "$(grep -cE "$calls" "$work/trace")" 1
    calls='(sendto|sendmsg|write|writev)\([0-9]+, "\\x81.* = [1-9]'
    expect 'writes' "$(grep -cE "$calls" "$work/trace")" 1
    grep -E '"\\x81' "$work/trace" | cut -c 1-150
}

all_on_the_ring() {
    start -e trace=read,readv,recvfrom,recvmsg,write,writev,sendto,sendmsg \
        -- --engine ring --threads 1 || return
    expect 'the echo' "$(client 256)" '256 echoed'
    stop
    expect 'reads and writes' "$(grep -cE '\([0-9]+, "\\x81' "$work/trace")" 0
}

# start STRACE_OPTION... -- FLAG...: a server on a free port under strace.
start() {
    local options=()
    while [ "$1" != -- ]; do options+=("$1"); shift; done
    shift
    : >"$work/out"
    strace -f -qq -xx -s 8 -o "$work/trace" "${options[@]}" \
        "$binary" --listen 127.0.0.1:0 "$@" >"$work/out" 2>"$work/err" &
    tracer=$!
    for _ in $(seq 400); do
        if grep -q '^listening ' "$work/out"; then
            port=$(sed -n 's,^listening ws://[^ ]*:\([0-9]*\) .*,\1,p' "$work/out")
            return
        fi
        kill -0 "$tracer" 2>/dev/null || break
        sleep 0.05
    done
    complain "the server does not listen: $(cat "$work/err")"
}

# Ends the server and its tracer, which ends when it does.
stop() {
    [ -n "$tracer" ] || return 0
    local server
    for server in $(cat "/proc/$tracer/task/$tracer/children" 2>/dev/null); do
        kill -TERM "$server" 2>/dev/null || true
    done
    wait "$tracer" || true
    tracer=
}

# client COUNT: sends that many text frames with one write, checks every byte.
client() {
    timeout 20 python3 - "$port" "$1" <<'PYTHON'
import socket
import sys

port, count = int(sys.argv[1]), int(sys.argv[2])
payload = b'0123456789abcdef0123456789abcdef'
mask = b'\x01\x02\x03\x04'
masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
request = b'\x81' + bytes([0x80 | len(payload)]) + mask + masked
reply = b'\x81' + bytes([len(payload)]) + payload

with socket.create_connection(('127.0.0.1', port), timeout=10) as connection:
    connection.sendall(
        b'GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n'
        b'Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n'
        b'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n')
    head = b''
    while not head.endswith(b'\r\n\r\n'):
        head += connection.recv(1)
    assert head.startswith(b'HTTP/1.1 101 '), head
    connection.sendall(request * count)
    answer = b''
    while len(answer) < len(reply) * count:
        piece = connection.recv(65536)
        assert piece, 'the end came too soon'
        answer += piece
    assert answer == reply * count, 'the echo is wrong'
print(f'{count} echoed')
PYTHON
}

# ---- helpers -------------------------------------------------------------------

complaints=0

check() {
    local name=$1
    shift
    complaints=0
    "$@" || complain 'it ended early'
    stop
    if [ "$complaints" -eq 0 ]; then
        passed=$((passed + 1))
        echo "ok: $name"
    else
        failed=$((failed + 1))
        echo "FAILED: $name"
    fi
}

expect() {
    [ "$2" = "$3" ] || complain "$1: $2 instead of $3"
}

complain() {
    echo "    $1"
    complaints=$((complaints + 1))
}

main
