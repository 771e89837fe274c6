#!/bin/sh
# Usage: dist.sh DIR
# Makes xfer-VERSION.tar.gz from the last commit, in DIR (relative to the top directory), and prints its SHA-256.
# The same commit gives the same bytes in any directory, for any user, umask, locale and git configuration.
# Exit status: 0 success, 1 failure, 77 git is not installed or this is not a repository (such as an unpacked tarball).
set -eu

dir=${1:?usage: dist.sh DIR}
no_git() {
    echo "dist: $1; the tarball is made from a git commit" >&2
    exit 77
}

cd "$(dirname "$0")/.."
command -v git >/dev/null 2>&1 || no_git "git is not installed"
# A git hook sets these, possibly for another repository.
unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE
# The prefix is empty only at the top of a repository, not in a subdirectory of another one.
[ -z "$(git rev-parse --show-prefix 2>/dev/null || echo none)" ] || no_git "this is not a git repository"
commit=$(git rev-parse --verify --quiet 'HEAD^{commit}') || no_git "there is no commit yet"
[ -z "$(git status --porcelain)" ] || echo "dist: warning: uncommitted changes are not included" >&2

umask 022
mkdir -p "$dir"
scratch=$(mktemp -d "$dir/.dist.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# An empty repository that borrows the objects of this one, because no option of git ignores the attributes in
# .git/info. Without the environment, git reads no configuration files either.
plain_git() {
    env -i PATH="$PATH" GIT_CONFIG_NOSYSTEM=1 GIT_ATTR_NOSYSTEM=1 git --git-dir="$scratch/git" "$@"
}
plain_git init -q --bare --template= --object-format="$(git rev-parse --show-object-format)"
mkdir -p "$scratch/git/objects/info"
(cd "$(git rev-parse --git-path objects)" && pwd) >"$scratch/git/objects/info/alternates"

plain_git show "$commit:Cargo.toml" >"$scratch/Cargo.toml"
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$scratch/Cargo.toml" | head -n 1)
[ -n "$version" ] || {
    echo "dist: the committed Cargo.toml has no version" >&2
    exit 1
}
name=xfer-$version

# git sets the owner and the group to root, and all times to that of the commit. `-n` keeps the time and the name out of
# the gzip header; GZIP may contain other options.
plain_git -c tar.umask=0022 archive --format=tar --prefix="$name/" "$commit" >"$scratch/tar"
env -u GZIP gzip -n -9 <"$scratch/tar" >"$scratch/tar.gz"
mv "$scratch/tar.gz" "$dir/$name.tar.gz"

echo "made $dir/$name.tar.gz from commit $commit"
(cd "$dir" && sha256sum "$name.tar.gz")
