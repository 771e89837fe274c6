#!/bin/sh
# Runs every check that a change must pass, fast ones first, and stops at the first failure. A check whose tool is not
# installed is skipped, and the last line says so.
set -eu

cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}
skipped=
ADVISORIES_SECONDS=120 # to download the database of advisories, some megabytes; if that is not enough, skip it

step() {
    echo "== $*"
}

skip() {
    echo "skipped: $1"
    skipped="$skipped${skipped:+; }$1"
}

step "format"
if "$cargo" fmt --version >/dev/null 2>&1; then
    "$cargo" fmt --check
else
    skip "format (cargo fmt is not installed: rustup component add rustfmt)"
fi

step "shell scripts"
for script in contrib/*.sh; do
    sh -n "$script"
done

step "manual pages"
if command -v mandoc >/dev/null 2>&1; then
    mandoc -T lint -W warning man/*.[158]
else
    skip "manual pages (mandoc is not installed)"
fi

step "systemd unit"
sh contrib/check-unit.sh || case $? in
    77) skip "systemd unit (systemd-analyze is not installed, or does not work here)" ;;
    *) exit 1 ;;
esac

step "tarball"
sh contrib/check-dist.sh || case $? in
    77) skip "tarball (git is not installed, or this is not a repository)" ;;
    *) exit 1 ;;
esac

step "dependencies"
if ! "$cargo" deny --version >/dev/null 2>&1; then
    skip "dependencies (cargo-deny is not installed: cargo install cargo-deny --locked)"
elif ! "$cargo" fetch --locked; then
    skip "dependencies (some of them cannot be downloaded)"
else
    # Offline, so that a network failure does not fail the check.
    "$cargo" deny --locked --offline check bans licenses sources
    if timeout "$ADVISORIES_SECONDS" "$cargo" deny --locked fetch db >/dev/null 2>&1; then
        "$cargo" deny --locked --offline check advisories
    else
        skip "advisories on dependencies (their database cannot be downloaded)"
    fi
fi

step "lints"
if "$cargo" clippy --version >/dev/null 2>&1; then
    "$cargo" clippy --all-targets --locked -- -D warnings
else
    skip "lints (cargo clippy is not installed: rustup component add clippy)"
fi

step "tests"
# A signal that is ignored here (after '&' in a script, or under nohup) is ignored by the programs under test, too, and a
# shell cannot change that.
if env --default-signal=HUP,INT,TERM,USR1 true 2>/dev/null; then
    env --default-signal=HUP,INT,TERM,USR1 "$cargo" test --locked
else
    "$cargo" test --locked
fi

echo
echo "check: passed${skipped:+, but skipped: $skipped}"
