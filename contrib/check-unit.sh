#!/bin/sh
# Checks contrib/xfer.service with `systemd-analyze verify` and `security`, and a stand-in for the installed binary.
# Exit status: 0 success, 1 failure, 77 systemd-analyze is missing or does not work here.
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

# In some containers the tool fails on every unit. A minimal unit shows whether this is such a container.
printf '[Service]\nExecStart=%s/xfer\n' "$scratch" >"$scratch/xfer-plain.service"
systemd-analyze --man=no verify "$scratch/xfer-plain.service" >/dev/null 2>&1 || exit 77

sed "s|@BINDIR@|$scratch|g" contrib/xfer.service >"$scratch/xfer.service"
# It exits 0 even after a warning about a misspelt key, and may also report other units of this machine.
if ! systemd-analyze --man=no verify "$scratch/xfer.service" >"$scratch/out" 2>&1 ||
    grep -q 'xfer\.service' "$scratch/out"; then
    cat "$scratch/out" >&2
    exit 1
fi

# Two faults do not lower the score, but improve it: a filter that makes openat2(2) fail, and one without the system
# calls of Landlock.
if grep -Eq '^(DynamicUser|RestrictSUIDSGID)=' contrib/xfer.service; then
    echo "contrib/xfer.service: openat2 fails with DynamicUser or RestrictSUIDSGID" >&2
    exit 1
fi
for call in create_ruleset add_rule restrict_self; do
    grep -Eq "^SystemCallFilter=[^~]*landlock_$call( |\$)" contrib/xfer.service || {
        echo "contrib/xfer.service: the system call filter must allow landlock_$call" >&2
        exit 1
    }
done

# With systemd 252 the exposure is 1.4, and 9.6 for an unrestricted unit. Other releases use other weights.
security() { systemd-analyze --no-pager security --offline=true "--threshold=$1" "$2" >"$scratch/out" 2>&1; }
if security 100 "$scratch/xfer-plain.service" && ! security 20 "$scratch/xfer.service"; then
    cat "$scratch/out" >&2
    exit 1
fi
