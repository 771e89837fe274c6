#!/bin/sh
# Puts contrib/xfer.service through `systemd-analyze verify`, with a stand-in for the installed binary.
# Exit status: 0 good, 1 not, 77 nothing here to check it with.
set -eu

cd "$(dirname "$0")/.."
command -v systemd-analyze >/dev/null 2>&1 || exit 77
scratch=$(mktemp -d "${TMPDIR:-/tmp}/xfer-unit.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

printf '#!/bin/sh\n' >"$scratch/xfer"
chmod 0755 "$scratch/xfer"

# In some containers the tool fails on any unit: a plain one tells that from a fault in ours.
printf '[Service]\nExecStart=%s/xfer\n' "$scratch" >"$scratch/xfer-plain.service"
systemd-analyze --man=no verify "$scratch/xfer-plain.service" >/dev/null 2>&1 || exit 77

sed "s|@BINDIR@|$scratch|g" contrib/xfer.service >"$scratch/xfer.service"
# It warns of a misspelt key and ends with 0 all the same; it may also speak of other units of this machine.
if ! systemd-analyze --man=no verify "$scratch/xfer.service" >"$scratch/out" 2>&1 ||
    grep -q 'xfer\.service' "$scratch/out"; then
    cat "$scratch/out" >&2
    exit 1
fi
