#!/bin/sh
# Usage: demo.sh XFER
# One round of everything: serves five samples from a scratch directory on a free port of this machine, fetches each,
# compares, shows the logs of both sides. Ends with "verified" and 0, or says what failed and ends with 1. Whatever
# happens, nothing is left running and no file is left behind.
set -eu

START_SECONDS=10 # the server says where it listens within this
STOP_SECONDS=15  # and has stopped within this; more than its own --drain

bin=${1:?usage: demo.sh XFER}
xfer=$(cd "$(dirname "$bin")" && pwd)/$(basename "$bin")
samples=$(cd "$(dirname "$0")" && pwd)/samples.sh
unset XFER_HOST XFER_PORT XFER_DOWNLOAD_DIR XFER_LOG_DIR

server=
client=
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
        echo "demo: the server still ran $STOP_SECONDS s after SIGTERM and was killed" >&2
        kill -KILL "$pid" 2>/dev/null || :
    fi
    wait "$pid"
}

clean_up() {
    status=$?
    trap '' HUP INT PIPE TERM
    trap - EXIT
    set +e
    if [ -n "$client" ]; then
        kill -TERM "$client" 2>/dev/null
        wait "$client"
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

cd "$scratch"
sh "$samples" server_files >/dev/null

echo "== the server"
echo "\$ xfer serve -b 127.0.0.1 -p 0"
: >listening # so that it is there before the server has begun
"$xfer" serve -b 127.0.0.1 -p 0 >listening 2>console &
server=$!
tries=$((START_SECONDS * 10))
until grep -q '^listening on ' listening; do
    if ! running "$server"; then
        cat console >&2
        fail "the server ended before it listened"
    fi
    [ "$tries" -gt 0 ] || fail "no 'listening on' line within $START_SECONDS s"
    tries=$((tries - 1))
    sleep 0.1
done
cat listening
address=$(sed -n 's/^listening on //p' listening)

for file in small.txt medium.txt large.bin verylarge.bin data.json; do
    echo
    echo "== $file"
    echo "\$ xfer get $file -H $address"
    # In the background, since a signal ends `wait` at once, but not a command in the foreground.
    "$xfer" get "$file" -H "$address" --progress always &
    client=$!
    status=0
    wait "$client" || status=$?
    client=
    [ "$status" -eq 0 ] || fail "xfer get $file ended with $status"
    cmp "server_files/$file" "client_downloads/$file" || fail "$file is not what was served"
done
[ "$(ls -A client_downloads | wc -l)" -eq 5 ] || fail "client_downloads holds more than the five files: $(ls -A client_downloads)"

echo
echo "== stopping the server with SIGTERM"
status=0
stop_server || status=$?
[ "$status" -eq 0 ] || fail "the server ended with $status"

echo
echo "== what the client logged"
cat logs/client_*.log
echo
echo "== what the server logged"
cat logs/server_*.log

echo
echo "verified: five files served, fetched and compared byte for byte; server stopped, scratch directory removed"
