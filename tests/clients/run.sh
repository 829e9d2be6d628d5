#!/usr/bin/env bash
# Checks with other projects' blocking clients that all they send before they read is
# echoed, on every engine, plain and over TLS: run.sh BINARY [VENV]
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
        'websocket-client>=1.8,<2' 'websockets>=15,<17'
fi
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
    -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 \
    -keyout "$work/key.pem" -out "$work/cert.pem" 2>"$work/openssl" \
    || { cat "$work/openssl" >&2; exit 1; }

for engine in epoll ring tokio-uring; do
    "$binary" --listen 127.0.0.1:0 --tls-listen 127.0.0.1:0 --tls-cert "$work/cert.pem" \
        --tls-key "$work/key.pem" --engine "$engine" --threads 1 --no-pin \
        >"$work/out" 2>"$work/log" &
    server=$!
    for _ in $(seq 100); do
        if [ "$(grep -c '^listening ' "$work/out")" = 2 ]; then break; fi
        kill -0 "$server" || { cat "$work/log" >&2; exit 1; }
        sleep 0.1
    done
    for url in $(sed -n 's/^listening \([^ ]*\).*/\1/p' "$work/out"); do
        timeout 120 "$venv/bin/python" "$here/check.py" "$url" "$work/cert.pem" \
            || { cat "$work/log" >&2; exit 1; }
        echo "$engine: ${url%%:*}"
    done
    kill "$server"
    wait "$server"
    server=
done
