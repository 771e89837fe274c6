#!/bin/sh
# Everything that a change must pass, cheapest first; stops at the first failure. What this machine has no tool for
# is left out, and the last line says so.
set -eu

cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}
left_out=

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

step "lints"
if "$cargo" clippy --version >/dev/null 2>&1; then
    "$cargo" clippy --all-targets --locked -- -D warnings
else
    leave_out "lints (cargo clippy is not installed: rustup component add clippy)"
fi

step "tests"
# A signal that is ignored here (behind '&' in a script, under nohup) would be ignored by the programs under test, too,
# and a shell cannot undo that.
if env --default-signal=HUP,INT,TERM true 2>/dev/null; then
    env --default-signal=HUP,INT,TERM "$cargo" test --locked
else
    "$cargo" test --locked
fi

echo
echo "check: passed${left_out:+, but not checked: $left_out}"
