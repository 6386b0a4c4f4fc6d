#!/usr/bin/env bash
# libs.sh ARCH
#
# Prints the directory of nghttp2 and nanopb for macOS on ARCH (arm64 or x86_64):
# include/ and lib/. They are built from the same source packages as for Windows,
# when they are not there yet, and kept in
# ${SALLYPORT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sallyport} under a name that
# changes with everything they are made of. Two runs at a time make one, and what a
# killed run leaves is never taken for one. On Linux as on a Mac.
set -euo pipefail
shopt -s inherit_errexit

here=$(dirname "$(realpath "$0")")
third_party=$(realpath "$here/../../credprovider/third_party")

fail() {
	printf 'libs.sh: %s\n' "$*" >&2
	exit 1
}

case ${1-} in
arm64 | x86_64) arch=$1 ;;
*) fail "usage: libs.sh arm64|x86_64" ;;
esac

cache=${SALLYPORT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sallyport}
recipe=$(cd "$third_party" && sha256sum sources.sha256 unpack.sh libraries.sh Makefile &&
	cd "$here" && sha256sum libs.sh libc.sh cc.sh flags.mk && ./cc.sh --version)
libs=$cache/darwin-libs-$arch-$(sha256sum <<<"$recipe" | head -c 12)
if [[ ! -d $libs ]]; then
	mkdir -p "$cache"
	# Held until the last of those that make it is gone; see libc.sh.
	exec 9>"$libs.lock"
	flock 9
	if [[ ! -d $libs ]]; then
		echo "libs.sh: making $libs, once" >&2
		part=$libs.part
		rm -rf "$part"
		mkdir -p "$part/work" "$part/libs"
		"$third_party/fetch.sh" "$part/sources" nghttp2 nanopb
		"$third_party/libraries.sh" "$part/sources" "$part/work" \
			FLAGS="$here/flags.mk" ARCH="$arch" SYSROOT="$part/libs" >"$part/log" 2>&1 || {
			tail -n 50 "$part/log" >&2
			fail "they could not be built, see above"
		}
		sync
		mv "$part/libs" "$libs"
		rm -rf "$part"
	fi
fi
printf '%s\n' "$libs"
