#!/usr/bin/env bash
# Makes the servers that cargo does not: see the setup.sh of each. Those in Rust are
# made by `cargo build --release --workspace`.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

failed=0
for peer in gorilla ws; do
    echo "$peer: $here/$peer/setup.sh"
    "$here/$peer/setup.sh" || failed=1
done
exit "$failed"
