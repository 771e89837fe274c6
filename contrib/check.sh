#!/bin/sh
# Everything that a change must pass, cheapest first; stops at the first failure. What this machine has no tool for
# is left out, and the last line says so.
set -eu

cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}
left_out=
ADVISORIES_SECONDS=120 # in which the database of advisories is here, some megabytes, or there is no network

step() {
    echo "== $*"
}

leave_out() {
    echo "not checked: $1"
    left_out="$left_out${left_out:+; }$1"
}

step "format"
if "$cargo" fmt --version >/dev/null 2>&1; then
    "$cargo" fmt --check
else
    leave_out "format (cargo fmt is not installed: rustup component add rustfmt)"
fi

step "shell scripts"
for script in contrib/*.sh; do
    sh -n "$script"
done

step "manual pages"
if command -v mandoc >/dev/null 2>&1; then
    mandoc -T lint -W warning man/*.[158]
else
    leave_out "manual pages (mandoc is not installed)"
fi

step "systemd unit"
sh contrib/check-unit.sh || case $? in
    77) leave_out "systemd unit (no systemd-analyze that works here)" ;;
    *) exit 1 ;;
esac

step "tarball"
sh contrib/check-dist.sh || case $? in
    77) leave_out "tarball (no git, or no repository here)" ;;
    *) exit 1 ;;
esac

step "dependencies"
if ! "$cargo" deny --version >/dev/null 2>&1; then
    leave_out "dependencies (cargo-deny is not installed: cargo install cargo-deny --locked)"
elif ! "$cargo" fetch --locked; then
    leave_out "dependencies (they cannot all be downloaded)"
else
    # Offline, so that a network that fails fails nothing here.
    "$cargo" deny --locked --offline check bans licenses sources
    if timeout "$ADVISORIES_SECONDS" "$cargo" deny --locked fetch db >/dev/null 2>&1; then
        "$cargo" deny --locked --offline check advisories
    else
        leave_out "advisories on dependencies (their database cannot be fetched)"
    fi
fi

step "lints"
if "$cargo" clippy --version >/dev/null 2>&1; then
    "$cargo" clippy --all-targets --locked -- -D warnings
else
    leave_out "lints (cargo clippy is not installed: rustup component add clippy)"
fi

step "tests"
# A signal that is ignored here (behind '&' in a script, under nohup) would be ignored by the programs under test, too,
# and a shell cannot undo that.
if env --default-signal=HUP,INT,TERM,USR1 true 2>/dev/null; then
    env --default-signal=HUP,INT,TERM,USR1 "$cargo" test --locked
else
    "$cargo" test --locked
fi

echo
echo "check: passed${left_out:+, but not checked: $left_out}"
