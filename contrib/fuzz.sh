#!/bin/sh
# Fuzzes every parser of both ends for SECONDS in all (60), the time split over the targets, each beginning with its
# corpus in tests/fuzz/corpus. What it finds on the way stays in tests/fuzz/target. Needs cargo-fuzz and a C++ compiler;
# a stable toolchain is enough, since libFuzzer's counters need no sanitizer.
#
#     make fuzz SECONDS=3600
#     make fuzz TARGETS="journal names"
set -eu

cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}
targets=${TARGETS:-request reply frames journal names}
fuzz=tests/fuzz
grown=$fuzz/target/corpus
artifacts=$fuzz/artifacts

if ! "$cargo" fuzz --version >/dev/null 2>&1; then
    echo "make fuzz: cargo-fuzz is not installed: cargo install cargo-fuzz --locked" >&2
    exit 1
fi

count=0
for target in $targets; do
    count=$((count + 1))
done
each=$((${SECONDS_IN_ALL:-60} / count))
[ "$each" -ge 1 ] || each=1

# Files that one run makes and removes again belong into memory, where there is such a directory.
if [ -d /dev/shm ] && [ -w /dev/shm ]; then
    TMPDIR=/dev/shm
    export TMPDIR
fi

# cargo-fuzz has no --locked, and builds what the lock file says as long as that fits: here it is made sure of.
"$cargo" fetch --locked --manifest-path "$fuzz/Cargo.toml"

"$cargo" fuzz build --fuzz-dir "$fuzz" --sanitizer none

crashed=
for target in $targets; do
    mkdir -p "$grown/$target" "$artifacts/$target"
    log=$fuzz/target/$target.log
    if "$cargo" fuzz run --fuzz-dir "$fuzz" --sanitizer none "$target" \
        "$grown/$target" "$fuzz/corpus/$target" -- \
        -max_total_time="$each" -print_final_stats=1 >"$log" 2>&1; then
        crashes=0
    else
        crashes=1
        crashed="$crashed $target"
    fi
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    echo "fuzz $target: ${runs:-unknown} executions, $each seconds, $crashes crashes"
    if [ "$crashes" -ne 0 ]; then
        tail -n 30 "$log"
        echo "fuzz $target: the input lies in $artifacts/$target; to run it again:"
        echo "    cargo fuzz run --fuzz-dir $fuzz --sanitizer none $target FILE"
    fi
done
[ -z "$crashed" ]
