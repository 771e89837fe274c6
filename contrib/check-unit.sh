#!/bin/sh
# Puts contrib/xfer.service through `systemd-analyze verify` and `security`, with a stand-in for the installed binary.
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

# Neither can be seen from its score, which they would better: a filter that makes openat2(2) fail, and one without
# Landlock's system calls.
if grep -Eq '^(DynamicUser|RestrictSUIDSGID)=' contrib/xfer.service; then
    echo "contrib/xfer.service: openat2 fails with DynamicUser and RestrictSUIDSGID" >&2
    exit 1
fi
for call in create_ruleset add_rule restrict_self; do
    grep -Eq "^SystemCallFilter=[^~]*landlock_$call( |\$)" contrib/xfer.service || {
        echo "contrib/xfer.service: its filter keeps the server from landlock_$call" >&2
        exit 1
    }
done

# Its exposure is 1.4 with systemd 252, and 9.6 where nothing is restricted. Other releases weigh differently.
security() { systemd-analyze --no-pager security --offline=true "--threshold=$1" "$2" >"$scratch/out" 2>&1; }
if security 100 "$scratch/xfer-plain.service" && ! security 20 "$scratch/xfer.service"; then
    cat "$scratch/out" >&2
    exit 1
fi
