#!/usr/bin/env bash
# Compiles server.go into `server` beside it, from Debian's packages golang-go and
# golang-github-gorilla-websocket-dev, and from nowhere else. Does nothing if it is
# there and newer than its source.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
packages=golang-github-gorilla-websocket-dev

if [ "$here/server" -nt "$here/server.go" ]; then
    exit 0
fi
if ! command -v go >/dev/null || ! dpkg -s $packages >/dev/null 2>&1; then
    echo "install Debian's packages golang-go and $packages first" >&2
    exit 1
fi

# Debian's revision behind the version is of no interest.
version=$(dpkg-query -W -f '${source:Upstream-Version}' $packages)
cd "$here"
GO111MODULE=off GOPATH=/usr/share/gocode GOFLAGS= \
    go build -ldflags "-X main.library=$version" -o server server.go
