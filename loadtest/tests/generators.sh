#!/usr/bin/env bash
# Four generators that share a load on one ringback, each in its own network namespace:
# generators.sh BIN_DIR, the directory of the binaries of ringback and loadtest. They
# begin at the same time (--start-at), their results are merged, and generators.py adds
# up the same results independently.
# It needs root and Debian's iproute2, and changes nothing outside: the bridge, its
# four links and the namespaces at their ends are in a namespace of this script.
set -euo pipefail
bin=$(realpath "${1:?usage: generators.sh BIN_DIR}")
here=$(cd "$(dirname "$0")" && pwd)

generators=4
server=10.77.0.254
port=9001
# The seconds until they begin: enough for all to connect.
ahead_s=6
load=(-c 5 --rate 250 -d 3s --warmup 500ms)

if [ "${2:-}" != inside ]; then
    [ "$(id -u)" -eq 0 ] || { echo 'generators.sh: only root can make these namespaces' >&2; exit 1; }
    # All processes of the namespace end with its first one.
    exec unshare --net --mount --pid --fork --kill-child --mount-proc "$here/generators.sh" "$bin" inside
fi

main() {
    work=$(mktemp -d)
    # Names of network namespaces are files; these are visible in this namespace only.
    mount -t tmpfs tmpfs /run
    trap 'rm -rf "$work"' EXIT
    build_network
    serve
    generate
    "$bin/loadtest" merge "$work"/result-*.json --format json -o "$work/merged.json" \
        >"$work/printed.json" || [ $? -eq 4 ]
    cmp "$work/printed.json" "$work/merged.json"
    "${PYTHON:-python3}" -B "$here/generators.py" "$start" "$work/merged.json" "$work"/result-*.json
}

build_network() {
    local index
    ip link set lo up
    ip link add bridge type bridge
    ip address add "$server/24" dev bridge
    ip link set bridge up
    for index in $(seq "$generators"); do
        ip netns add "generator-$index"
        ip link add "wire-$index" type veth peer name wire netns "generator-$index"
        ip link set "wire-$index" master bridge up
        ip -n "generator-$index" address add "10.77.0.$index/24" dev wire
        ip -n "generator-$index" link set wire up
    done
}

serve() {
    "$bin/ringback" --listen "$server:$port" --threads 1 >"$work/server" 2>&1 &
    local try
    for try in $(seq 200); do
        ! (: <"/dev/tcp/$server/$port") 2>/dev/null || return 0
        sleep 0.05
    done
    echo 'generators.sh: the server did not start' >&2
    cat "$work/server" >&2
    return 1
}

generate() {
    local index status pids=()
    start=$(date -u -d "+$ahead_s seconds" +%Y-%m-%dT%H:%M:%SZ)
    for index in $(seq "$generators"); do
        timeout -k 5 60 ip netns exec "generator-$index" "$bin/loadtest" run "ws://$server:$port/" \
            "${load[@]}" --start-at "$start" --seed "$index" -o "$work/result-$index.json" \
            >"$work/report-$index" 2>&1 &
        pids+=($!)
    done
    for index in $(seq "$generators"); do
        status=0
        wait "${pids[index - 1]}" || status=$?
        # A busy machine may keep a generator from its rate, which is no error of the merge.
        [ "$status" -eq 0 ] || [ "$status" -eq 4 ] || {
            echo "generators.sh: generator $index ended with $status" >&2
            cat "$work/report-$index" >&2
            return 1
        }
    done
}

main
