#!/bin/sh
# Usage: dist.sh DIR
# Makes xfer-VERSION.tar.gz of what is committed, in DIR (seen from the directory of the project), and prints its sha256.
# The same commit gives the same bytes in whatever directory, with whatever user, umask, locale and configuration of git.
# Exit status: 0 made, 1 not, 77 there is no git, or no repository here (an unpacked tarball is none).
set -eu

dir=${1:?usage: dist.sh DIR}
no_git() {
    echo "dist: $1: the tarball is made from what git has" >&2
    exit 77
}

cd "$(dirname "$0")/.."
command -v git >/dev/null 2>&1 || no_git "git is not installed"
# A hook of git names its repository by these, and that need not be this one.
unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE
# In a directory of somebody else's repository this is no empty line.
[ -z "$(git rev-parse --show-prefix 2>/dev/null || echo none)" ] || no_git "here is no repository of git"
commit=$(git rev-parse --verify --quiet 'HEAD^{commit}') || no_git "nothing is committed yet"
[ -z "$(git status --porcelain)" ] || echo "dist: what is not committed is left out" >&2

umask 022
mkdir -p "$dir"
scratch=$(mktemp -d "$dir/.dist.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# An empty repository that borrows the objects of this one: attributes in .git/info count, and no option turns them
# off. Without the environment, there are no files of git's configuration either.
plain_git() {
    env -i PATH="$PATH" GIT_CONFIG_NOSYSTEM=1 GIT_ATTR_NOSYSTEM=1 git --git-dir="$scratch/git" "$@"
}
plain_git init -q --bare --template= --object-format="$(git rev-parse --show-object-format)"
mkdir -p "$scratch/git/objects/info"
(cd "$(git rev-parse --git-path objects)" && pwd) >"$scratch/git/objects/info/alternates"

plain_git show "$commit:Cargo.toml" >"$scratch/Cargo.toml"
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$scratch/Cargo.toml" | head -n 1)
[ -n "$version" ] || {
    echo "dist: the Cargo.toml that is committed names no version" >&2
    exit 1
}
name=xfer-$version

# To git, owner and group are root and all times that of the commit. `-n`: neither time nor name in the header of gzip,
# which takes options from GZIP, too.
plain_git -c tar.umask=0022 archive --format=tar --prefix="$name/" "$commit" >"$scratch/tar"
env -u GZIP gzip -n -9 <"$scratch/tar" >"$scratch/tar.gz"
mv "$scratch/tar.gz" "$dir/$name.tar.gz"

echo "made $dir/$name.tar.gz of commit $commit"
(cd "$dir" && sha256sum "$name.tar.gz")
