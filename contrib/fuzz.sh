#!/bin/sh
# Fuzzes every parser of the server and the client for SECONDS (60), divided equally among the targets. Each target
# starts with its corpus in tests/fuzz/corpus; new inputs are kept in tests/fuzz/target. Needs cargo-fuzz and a C++
# compiler. A stable toolchain is sufficient, because libFuzzer's counters need no sanitizer.
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

# Keep the temporary files of a run in memory if possible.
if [ -d /dev/shm ] && [ -w /dev/shm ]; then
    TMPDIR=/dev/shm
    export TMPDIR
fi

# cargo-fuzz has no --locked: this fails if the lock file is out of date.
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
        echo "fuzz $target: the input is in $artifacts/$target; to run it again:"
        echo "    cargo fuzz run --fuzz-dir $fuzz --sanitizer none $target FILE"
    fi
done
[ -z "$crashed" ]
