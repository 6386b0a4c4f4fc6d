#!/usr/bin/env bash
# libraries.sh SOURCES WORK VARIABLE=VALUE...
#
# Builds nghttp2 and nanopb from their source packages in SOURCES, with the directory
# WORK for what is in between. The variables are the Makefile's: see there.
set -euo pipefail

[[ $# -ge 2 ]] || {
	echo "usage: libraries.sh SOURCES WORK VARIABLE=VALUE..." >&2
	exit 1
}
here=$(dirname "$(realpath "$0")")
for package in nghttp2 nanopb; do "$here/unpack.sh" "$1" "$package" "$2/$package"; done
version=$(basename "$1"/nghttp2_*.orig.tar.*)
version=${version#nghttp2_}
make -s -j"$(getconf _NPROCESSORS_ONLN)" -C "$here" WORK="$2" \
	NGHTTP2="$2/nghttp2" NGHTTP2_VERSION="${version%.orig.tar.*}" NANOPB="$2/nanopb" "${@:3}"
