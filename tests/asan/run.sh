#!/usr/bin/env bash
# The unit, fault, behaviour and attack tests of the server under AddressSanitizer, on
# the stable toolchain: tests/asan/run.sh [FILTER...]
# The sanitizer's own allocator takes mimalloc's place, and a ring's buffers are out
# of bounds for as long as the kernel has them (src/engine/ring/pool/poison.rs).
# RINGBACK_TEST_ENGINES: as for the tests, which engines work here.
set -euo pipefail
cd "$(dirname "$0")/../.."

# Tests that measure memory or time: the sanitizer takes a lot of both, and keeps freed
# memory.
about_cost=(
    drained_backlog_frees_memory
    slow_readers_hold_at_most_max_held_bytes
    slow_readers_of_handler_hold_at_most_max_held_bytes
    slow_reader_memory_is_bounded_and_no_byte_is_lost
    memory_of_many_slow_readers_is_bounded
)

triple=$(rustc -vV | sed -n 's/^host: //p')
skips=()
for test in "${about_cost[@]}"; do skips+=(--skip "$test"); done
# Lets a stable compiler take the unstable flags of the sanitizer.
export RUSTC_BOOTSTRAP=1
export RUSTFLAGS='-Zsanitizer=address --cfg asan -Cforce-frame-pointers=yes'
export ASAN_OPTIONS=${ASAN_OPTIONS:-quarantine_size_mb=16:malloc_context_size=12}
export LSAN_OPTIONS=suppressions=$PWD/tests/asan/leaks
# With a target named, build scripts and macros are built without the flags.
cargo test --locked --package ringback --target "$triple" \
    --target-dir "${CARGO_TARGET_DIR:-target}/asan" \
    --lib --test behaviour --test attacks -- "${skips[@]}" "$@"
