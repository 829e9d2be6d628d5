#!/usr/bin/env bash
# Boots a systemd in namespaces of its own, installs the service there by the
# commands of docs/deploy.md, and has inside.py use it: boot.sh BINARY
# It needs root, and changes nothing outside: files are written to an overlay in
# memory, the network is a loopback device alone, and of the units of this machine
# none is started.
set -euo pipefail
cd "$(dirname "$0")/../.."
binary=$(realpath "$1")
python=$(command -v "${PYTHON:-python3}")

main() {
    [ "$(id -u)" -eq 0 ] || { echo "boot.sh: only root can make these namespaces" >&2; exit 1; }
    work=$(mktemp -d)
    cgroup=$(cgroup_root)/ringback-test-$$
    mkdir "$cgroup"
    booted=
    trap end EXIT
    boot
    nsenter --target "$booted" --all env -C "$PWD" "$python" -B tests/systemd/inside.py "$binary"
}

# Where the second version of control groups is, alone or beside the first.
cgroup_root() {
    stat -f -c %T /sys/fs/cgroup/unified 2>/dev/null | grep -qx cgroup2fs &&
        echo /sys/fs/cgroup/unified && return
    echo /sys/fs/cgroup
}

boot() {
    # No socket of this shell for its children.
    (
        echo "$BASHPID" >"$cgroup/cgroup.procs"
        exec timeout -s KILL 300 unshare --mount --pid --cgroup --uts --ipc --net \
            --fork --kill-child bash "$PWD/tests/systemd/first-process.sh" "$work"
    ) </dev/null >"$work/console" 2>&1 &
    unshared=$!
    local tries
    for tries in $(seq 100); do
        # timeout, unshare, and the first process of the namespace.
        booted=$(child "$(child "$unshared")")
        if [ -n "$booted" ] && nsenter --target "$booted" --all systemctl is-system-running \
            >/dev/null 2>&1; then
            return
        fi
        sleep 0.1
    done
    echo "boot.sh: systemd did not start" >&2
    cat "$work/console" >&2
    exit 1
}

child() {
    [ -z "$1" ] || ps -o pid= --ppid "$1" | tr -d ' ' | head -n 1
}

end() {
    # The end of a namespace's first process ends all others.
    [ -z "$booted" ] || kill -KILL "$booted" 2>/dev/null || true
    [ -z "${unshared:-}" ] || wait "$unshared" 2>/dev/null || true
    find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null || true
    rm -rf "$work"
}

main
