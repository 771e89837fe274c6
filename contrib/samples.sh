#!/bin/sh
# Usage: samples.sh DIR
# Makes the five sample files of the first system in DIR. Existing files are kept.
set -eu

dir=${1:?usage: samples.sh DIR}
part=$dir/.sample.$$
mkdir -p "$dir"
trap 'rm -f "$part"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# make NAME COMMAND...: writes what COMMAND prints to NAME, completely or not at all.
make() {
    name=$1
    shift
    if [ -e "$dir/$name" ]; then
        echo "kept $dir/$name"
    else
        "$@" >"$part"
        mv "$part" "$dir/$name"
        echo "made $dir/$name ($(($(wc -c <"$dir/$name"))) bytes)"
    fi
}

small() {
    echo "This is a small text file."
    echo "It is shorter than one kilobyte, so that it fits into a single packet."
}

medium() {
    awk 'BEGIN { for (n = 1; n <= 800; n++) printf "Line %4d of a text file of medium size, about fifty kilobytes.\n", n }'
}

random() { # random KIB
    dd if=/dev/urandom bs=1024 count="$1" 2>/dev/null
}

json() {
    awk 'BEGIN {
        printf "{\n  \"name\": \"sample\",\n  \"items\": [\n"
        for (n = 1; n <= 24; n++)
            printf "    {\"id\": %d, \"label\": \"item %02d\", \"size\": %d, \"even\": %s, \"tags\": [\"a\", \"b\"]}%s\n",
                n, n, n * n * 17, n % 2 ? "false" : "true", n < 24 ? "," : ""
        printf "  ],\n  \"total\": 24\n}\n"
    }'
}

make small.txt small
make medium.txt medium
make large.bin random 1024
make verylarge.bin random 10240
make data.json json
