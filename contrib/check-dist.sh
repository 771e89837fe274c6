#!/bin/sh
# Runs contrib/dist.sh here and in a clone with a different environment, and checks that both tarballs are identical and
# contain what is committed.
# Exit status: 0 success, 1 failure, 77 git is not installed or this is not a repository.
set -eu

cd "$(dirname "$0")/.."
scratch=$(mktemp -d "${TMPDIR:-/tmp}/xfer-dist.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

fail() {
    echo "make dist: $*" >&2
    exit 1
}

sh contrib/dist.sh "$scratch/here" >"$scratch/out" 2>&1 || {
    status=$?
    [ "$status" -eq 77 ] || cat "$scratch/out" >&2
    exit "$status"
}
tarball=$(basename "$scratch"/here/*.tar.gz)
gzip -dc "$scratch/here/$tarball" | tar -x -f - -C "$scratch"

clone="$scratch/another place"
unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE
git clone -q --template= -c core.autocrlf=false . "$clone" 2>"$scratch/out" || {
    cat "$scratch/out" >&2
    exit 1
}
diff -r --exclude=.git "$clone" "$scratch/${tarball%.tar.gz}" || fail "the contents of $tarball differ from the commit"

# Everything that affects git archive, tar or gzip.
mkdir -p "$clone/.git/info" "$scratch/home"
echo "* export-ignore" >"$clone/.git/info/attributes"
cp "$clone/.git/info/attributes" "$scratch/home/attributes"
git -C "$clone" config core.autocrlf true
printf '[tar]\n\tumask = 0077\n[core]\n\tattributesFile = %s\n' "$scratch/home/attributes" >"$scratch/home/.gitconfig"
locale=$(locale -a 2>/dev/null | grep -v -e '^C$' -e '^POSIX$' | tail -n 1) || locale=C
# The script may be newer than the commit.
cp contrib/dist.sh "$clone/contrib/dist.sh"
(
    umask 077
    HOME="$scratch/home" LC_ALL="$locale" TZ=Asia/Tokyo GZIP=-1 sh "$clone/contrib/dist.sh" there
) >"$scratch/out" 2>&1 || {
    cat "$scratch/out" >&2
    exit 1
}
cmp "$scratch/here/$tarball" "$clone/there/$tarball" || fail "two runs with the same commit made different tarballs"
