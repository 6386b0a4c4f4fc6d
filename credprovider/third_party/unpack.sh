#!/usr/bin/env bash
# unpack.sh SOURCES PACKAGE TREE
#
# Unpacks the source package in SOURCES into the new directory TREE, with Debian's
# patches if those are in SOURCES too.
set -euo pipefail

[[ $# -eq 3 ]] || {
	echo "usage: unpack.sh SOURCES PACKAGE TREE" >&2
	exit 1
}
mkdir "$3"
tar -xf "$(echo "$1/$2"_*.orig.tar.*)" -C "$3" --strip-components=1
debian=$(echo "$1/$2"_*.debian.tar.*)
[[ -e $debian ]] || exit 0
tar -xf "$debian" -C "$3"
while read -r patch _; do
	[[ $patch == '' || $patch == '#'* ]] ||
		patch --quiet --forward -d "$3" -p1 <"$3/debian/patches/$patch"
done <"$3/debian/patches/series"
