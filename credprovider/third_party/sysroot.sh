#!/usr/bin/env bash
# sysroot.sh ARCH
#
# Prints the directory of what the credential provider is built with for ARCH
# (amd64 or arm64): include/ and lib/ of Windows, of C, of nghttp2 and nanopb. It
# is made by build.sh when it is not there yet, which takes a minute, and is kept
# in ${SALLYPORT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sallyport} under a name that
# changes with everything it is made of. Two runs at a time make one, and what a
# killed run leaves is never taken for one.
set -euo pipefail
shopt -s inherit_errexit

here=$(dirname "$(realpath "$0")")
wine=$here/../../internal/testkit/wine

fail() {
	printf 'sysroot.sh: %s\n' "$*" >&2
	exit 1
}

case ${1-} in
amd64 | arm64) arch=$1 ;;
*) fail "usage: sysroot.sh amd64|arm64" ;;
esac

cache=${SALLYPORT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sallyport}
root=$("$wine/root.sh") # has the compiler
recipe=$(cd "$here" && sha256sum sources.sha256 build.sh unpack.sh libraries.sh flags.mk Makefile chkstk.S && cat "$root/var/lib/dpkg/info/clang-"*.md5sums)
sysroot=$cache/sysroot-$arch-$(sha256sum <<<"$recipe" | head -c 12)
if [[ ! -d $sysroot ]]; then
	mkdir -p "$cache"
	# The lock is inherited by all that make it, and so is held until the last of
	# them is gone, also when this script is killed.
	exec 9>"$sysroot.lock"
	flock 9
	if [[ ! -d $sysroot ]]; then
		echo "sysroot.sh: making $sysroot; this takes a minute, once" >&2
		part=$sysroot.part
		rm -rf "$part"
		mkdir "$part"
		"$here/fetch.sh" "$part/sources"
		"$wine/enter.sh" --bind "$part" -- "$here/build.sh" "$arch" "$part/sources" "$part/sysroot" >&2 ||
			fail "it could not be made, see above"
		sync --file-system "$part"
		mv --no-target-directory "$part/sysroot" "$sysroot"
		rm -rf "$part"
	fi
fi
printf '%s\n' "$sysroot"
