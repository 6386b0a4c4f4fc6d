#!/usr/bin/env bash
# sysroot.sh ARCH
#
# Prints the directory of the libraries that the programs for ARCH (amd64 or arm64) are linked with on a computer of
# another architecture: include/ and lib/ of Debian's libpam, nghttp2 and nanopb. The C library comes with the cross
# compiler. It is made when it is not there yet, which needs apt and the network, and is kept in
# ${SALLYPORT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sallyport}.
set -euo pipefail
shopt -s inherit_errexit

fail() { printf 'installer/linux/sysroot.sh: %s\n' "$*" >&2; exit 1; }

# shellcheck source-path=SCRIPTDIR source=../../internal/testkit/debian/mirror.sh
. "$(dirname "$(realpath "$0")")/../../internal/testkit/debian/mirror.sh"

suite=bookworm
packages=(libpam0g-dev libpam0g libaudit1 libcap-ng0 libnghttp2-dev libnghttp2-14 libnanopb-dev)

# fetch DIR gets the packages and unpacks them.
fetch() {
	local dir=$1 package
	download "$arch" "$suite" "$dir/debs" "${packages[@]}"
	for package in "$dir"/debs/*.deb; do
		dpkg-deb --extract "$package" "$dir/root"
	done
	mkdir "$dir/sysroot"
	mv "$dir/root/usr/include" "$dir/sysroot/include"
	mkdir "$dir/sysroot/lib"
	# Debian 12 has libraries in both, and links from one to the other.
	cp -a "$dir/root/lib/$triplet/." "$dir/root/usr/lib/$triplet/." "$dir/sysroot/lib/"
	# Links that are absolute there would lead to this computer's.
	find "$dir/sysroot/lib" -type l -lname '/*' -exec sh -c 'for l; do ln -sf "$(basename "$(readlink "$l")")" "$l"; done' - {} +
}

case ${1-} in
amd64) triplet=x86_64-linux-gnu ;;
arm64) triplet=aarch64-linux-gnu ;;
*) fail "usage: sysroot.sh amd64|arm64" ;;
esac
arch=$1
cache=${SALLYPORT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sallyport}
sysroot=$cache/linux-libs-$arch-$(declare -p suite packages | cat - <(declare -f fetch) | sha256sum | head -c 12)
if [[ ! -d $sysroot ]]; then
	command -v apt-get >/dev/null || fail "libraries for $arch are Debian's, and this machine has no apt: make the packages for it on Debian or Ubuntu, or on $arch"
	mkdir -p "$cache"
	# Held until the last of those that make it is gone, also when this is killed.
	exec 9>"$sysroot.lock"
	flock 9
	if [[ ! -d $sysroot ]]; then
		rm -rf "$sysroot.part"
		fetch "$sysroot.part" >&2 || fail "they could not be fetched, see above"
		sync --file-system "$sysroot.part"
		mv --no-target-directory "$sysroot.part/sysroot" "$sysroot"
		rm -rf "$sysroot.part"
	fi
fi
printf '%s\n' "$sysroot"
