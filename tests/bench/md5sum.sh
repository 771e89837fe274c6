#!/bin/sh
# Usage: md5sum.sh XFER
# How close does `xfer get` come to what the digest alone costs? Runs `md5sum FILE` and `xfer get FILE` over loopback
# in turn on the same file, its digest cached by the server, and prints both medians and their ratio.
#
# BENCH_MB    size of the file in MiB (1024)
# BENCH_RUNS  pairs of runs (5)
# BENCH_GET   further options of get, such as --no-sync
# TMPDIR      where the files lie; needs twice the size
set -eu

mb=${BENCH_MB:-1024}
runs=${BENCH_RUNS:-5}
SETTLE_SECONDS=3 # the server caches no digest of a file that was changed less than 2 s ago

bin=${1:?usage: md5sum.sh XFER}
xfer=$(cd "$(dirname "$bin")" && pwd)/$(basename "$bin")
unset XFER_HOST XFER_PORT XFER_DOWNLOAD_DIR XFER_LOG_DIR
server=
scratch=$(mktemp -d "${TMPDIR:-/tmp}/xfer-bench.XXXXXX")

clean_up() {
    status=$?
    trap '' HUP INT PIPE TERM
    trap - EXIT
    if [ -n "$server" ]; then
        kill -TERM "$server" 2>/dev/null || :
        wait "$server" || :
    fi
    cd /
    rm -rf "$scratch"
    exit "$status"
}
trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 141' PIPE
trap 'exit 143' TERM

fail() {
    echo "bench: $*" >&2
    exit 1
}

# timed COMMAND...: its wall time in milliseconds, on stdout.
timed() {
    begin=$(date +%s%N)
    "$@" >/dev/null 2>"$scratch/errors" || { cat "$scratch/errors" >&2; fail "$* failed"; }
    end=$(date +%s%N)
    echo $(((end - begin) / 1000000))
}

median() {
    sort -n "$1" | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}

cd "$scratch"
free=$(df -Pk . | awk 'NR == 2 { print int($4 / 1024) }')
[ "$free" -gt $((2 * mb)) ] || fail "$scratch has $free MiB free; $((2 * mb)) are needed (set BENCH_MB or TMPDIR)"

mkdir server_files
dd if=/dev/urandom of=server_files/file.bin bs=1048576 count="$mb" 2>/dev/null
sync
sleep "$SETTLE_SECONDS"

: >listening # so that it is there before the server has begun
"$xfer" serve -q -b 127.0.0.1 -p 0 --no-log >listening 2>console &
server=$!
tries=100
until grep -q '^listening on ' listening; do
    [ "$tries" -gt 0 ] || { cat console >&2; fail "the server does not listen"; }
    tries=$((tries - 1))
    sleep 0.1
done
address=$(sed -n 's/^listening on //p' listening)

# shellcheck disable=SC2086 # BENCH_GET is a list of options
get() {
    "$xfer" get file.bin -H "$address" --no-log --force -q ${BENCH_GET:-}
}

# Once each beforehand: the file is in memory then, and its digest in the server's cache.
timed md5sum server_files/file.bin >/dev/null
timed get >/dev/null
cmp server_files/file.bin client_downloads/file.bin

echo "$mb MiB over loopback, $runs pairs, in milliseconds; load before: $(cut -d " " -f 1 /proc/loadavg)"
echo "pair  md5sum  xfer get"
run=1
while [ "$run" -le "$runs" ]; do
    a=$(timed md5sum server_files/file.bin)
    rm -f client_downloads/file.bin
    b=$(timed get)
    printf '%4d  %6d  %8d\n' "$run" "$a" "$b"
    echo "$a" >>md5sum.times
    echo "$b" >>get.times
    run=$((run + 1))
done
awk -v a="$(median md5sum.times)" -v b="$(median get.times)" 'BEGIN {
    printf "median: md5sum %.0f ms, xfer get %.0f ms, ratio %.2f\n", a, b, b / a
}'
