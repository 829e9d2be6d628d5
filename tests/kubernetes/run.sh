#!/usr/bin/env bash
# Checks that the manifests are valid for every version of Kubernetes that they are for,
# agree with the binary and with each other, and work, as far as runc can show it:
# run.sh DIRECTORY [VENV], with the static binaries in DIRECTORY (deploy/static-build).
# Needs root, runc and util-linux. The validator is installed into VENV, if missing.
set -euo pipefail
binaries=$(realpath "$1")
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
venv=${2:-$work/venv}

[ -x "$venv/bin/python" ] || "${PYTHON:-python3}" -m venv "$venv"
timeout 300 "$venv/bin/pip" install --quiet --disable-pip-version-check \
    'kubernetes-validate==1.37.0'
PYTHONPATH=$here/../container timeout 300 "$venv/bin/python" "$here/check.py" "$binaries"
