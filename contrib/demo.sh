#!/bin/sh
# Usage: demo.sh XFER
# Shows xfer on one screen: a server on a free port of this machine, five files, and a transfer that is interrupted and
# resumed. Everything happens in a scratch directory. Ends with "verified" and 0, or says what failed and ends with 1. In
# both cases nothing keeps running, and no file is left behind.
set -eu

COLUMNS_MAX=100  # longer lines are wrapped
START_SECONDS=10 # the server must listen within this time
STOP_SECONDS=15  # and must stop within this time; longer than its own --drain
IMAGE_MIB=256    # takes about half a second, MD5 being the limit; tried with twice the size if that was too short
IMAGE_MIB_MAX=2048
INTERRUPT_AT=33554432 # bytes in the partial file

bin=${1:?usage: demo.sh XFER}
xfer=$(cd "$(dirname "$bin")" && pwd)/$(basename "$bin")
samples=$(cd "$(dirname "$0")" && pwd)/samples.sh
unset XFER_HOST XFER_PORT XFER_DOWNLOAD_DIR XFER_LOG_DIR

server=
watcher=
scratch=$(mktemp -d "${TMPDIR:-/tmp}/xfer-demo.XXXXXX")

running() { # a zombie still has its process id, but no longer runs
    [ -r "/proc/$1/status" ] && ! grep -q '^State:[[:space:]]*Z' "/proc/$1/status" 2>/dev/null
}

# stop_server: SIGTERM, then the server's own exit status.
stop_server() {
    pid=$server
    server=
    kill -TERM "$pid" 2>/dev/null || :
    tries=$((STOP_SECONDS * 10))
    while running "$pid" && [ "$tries" -gt 0 ]; do
        sleep 0.1
        tries=$((tries - 1))
    done
    if running "$pid"; then
        echo "demo: the server was still running $STOP_SECONDS s after SIGTERM and was killed" >&2
        kill -KILL "$pid" 2>/dev/null || :
    fi
    wait "$pid"
}

clean_up() {
    status=$?
    trap '' HUP INT PIPE TERM
    trap - EXIT
    set +e
    if [ -n "$watcher" ]; then
        kill "$watcher" 2>/dev/null
        wait "$watcher"
    fi
    if [ -n "$server" ]; then
        stop_server
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
    echo "demo: $*" >&2
    exit 1
}

# show COMMAND: prints a command as a user types it.
show() {
    printf '$ %s\n' "$1"
}

wrap() {
    fold -s -w "$COLUMNS_MAX" | sed 's/ $//'
}

# get STATUS FILE...: runs `xfer get`, whose process id is in client.pid, and keeps its lines in the file `said`. In the
# foreground, since a shell starts programs in the background with SIGINT ignored.
get() {
    expected=$1
    shift
    status=0
    sh -c 'echo "$$" >client.pid && exec "$0" "$@"' "$xfer" get "$@" -d got -H "$address" >said 2>&1 || status=$?
    [ "$status" -eq "$expected" ] && return
    [ "$expected" -eq 130 ] && [ "$status" -eq 0 ] && return 1 # was faster than the watcher; the caller decides
    cat said >&2
    fail "xfer get $* ended with $status, not with $expected"
}

same() {
    cmp "server_files/$1" "got/$1" || fail "$1 differs from the file on the server"
}

# interrupt FILE: sends SIGINT to the client, as Ctrl-C does, when its partial file has INTERRUPT_AT bytes.
interrupt() {
    until [ -s client.pid ]; do sleep 0.01; done
    client=$(cat client.pid)
    while running "$client"; do
        size=$(wc -c 2>/dev/null <"got/.$1.xfer-part") || size=0
        if [ "$size" -ge "$INTERRUPT_AT" ]; then
            kill -INT "$client"
            return
        fi
        sleep 0.01
    done
}

cd "$scratch"
sh "$samples" server_files >/dev/null

show "xfer serve -b 127.0.0.1 -p 0"
: >listening # so that it exists before the server has started
"$xfer" serve -b 127.0.0.1 -p 0 >listening 2>console &
server=$!
tries=$((START_SECONDS * 10))
until grep -q '^listening on ' listening; do
    if ! running "$server"; then
        cat console >&2
        fail "the server ended before it listened"
    fi
    [ "$tries" -gt 0 ] || fail "no line 'listening on' within $START_SECONDS s"
    tries=$((tries - 1))
    sleep 0.1
done
cat listening
address=$(sed -n 's/^listening on //p' listening)

files="small.txt medium.txt data.json large.bin verylarge.bin"
echo
show "xfer get $files -d got -H $address"
# shellcheck disable=SC2086 # five words
get 0 $files
wrap <said
for file in $files; do
    same "$file"
done

echo
show "xfer get disk.img -d got -H $address        # press Ctrl-C"
mib=$IMAGE_MIB
while :; do
    # A file of zeros that takes no space. It is written once: the server would call a longer one another file.
    dd if=/dev/null of=server_files/disk.img bs=1048576 seek="$mib" 2>/dev/null
    rm -f client.pid
    interrupt disk.img &
    watcher=$!
    if get 130 disk.img; then
        interrupted=yes
    else
        interrupted=no
    fi
    wait "$watcher"
    watcher=
    [ "$interrupted" = no ] || break
    rm got/disk.img
    mib=$((mib * 2))
    [ "$mib" -le "$IMAGE_MIB_MAX" ] || fail "the transfer ended before it could be interrupted"
done
wrap <said
[ ! -e got/disk.img ] || fail "disk.img has its name, and only a part of it has arrived"

show "xfer get disk.img -d got -H $address        # run it again"
get 0 disk.img
wrap <said
grep -q '^resuming ' said || fail "the transfer of disk.img was not resumed"
same disk.img
[ "$(ls -A got | wc -l)" -eq 6 ] || fail "got holds more than six files: $(ls -A got)"

status=0
stop_server || status=$?
[ "$status" -eq 0 ] || fail "the server ended with $status"

echo
show "ls got"
ls got
echo
echo "next: sudo make install, then the quick start in README.md"
echo "verified: six files compared byte for byte, one of them resumed; nothing is left behind"
