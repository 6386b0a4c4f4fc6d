#!/usr/bin/env bash
# build.sh ARCH SOURCES OUT
#
# Builds for ARCH (amd64 or arm64), from the source packages in SOURCES, what
# the credential provider is compiled and linked with: mingw-w64's headers, its
# C start-up code, the import libraries that are needed, nghttp2 and nanopb. All
# of it goes to OUT/include and OUT/lib. Runs in the Wine root; see sysroot.sh.
#
# Debian's own mingw-w64 would do for x64, but is not there for ARM64 and has no
# Control Flow Guard. C's library is the UCRT, a part of Windows 10 and later.
set -euo pipefail
shopt -s inherit_errexit

[[ $# -eq 3 ]] || {
	echo "usage: build.sh amd64|arm64 SOURCES OUT" >&2
	exit 1
}
arch=$1 sources=$(realpath "$2") out=$(realpath "$3")
here=$(dirname "$(realpath "$0")")

case $arch in
amd64) target=x86_64-w64-mingw32 libdir=lib64 only=(--enable-lib64 --disable-lib32) ;;
arm64) target=aarch64-w64-mingw32 libdir=libarm64 only=(--enable-libarm64 --disable-lib32 --disable-lib64) ;;
*)
	echo "build.sh: no builds for $arch: amd64 and arm64 only" >&2
	exit 1
	;;
esac

# The import libraries: Windows' own, and C's.
imports=(advapi32 gdi32 kernel32 netapi32 ole32 secur32 user32 uuid wtsapi32)
runtime=(mingw32 mingwex moldname ucrt)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# quietly CMD... shows what it printed only if it fails.
quietly() {
	"$@" >"$work/log" 2>&1 || {
		tail -n 50 "$work/log" >&2
		echo "build.sh: failed: $*" >&2
		exit 1
	}
}

# mingw PART CONFIGURE-OPTION... configures a part of mingw-w64 in a directory of
# its own, and goes there.
mingw() {
	mkdir "$work/$1-build"
	cd "$work/$1-build"
	quietly "$work/mingw-w64/mingw-w64-$1/configure" --host="$target" --prefix="$out" \
		--with-default-msvcrt=ucrt "${@:2}" "${tools[@]}"
}

"$here/unpack.sh" "$sources" mingw-w64 "$work/mingw-w64"
mkdir -p "$out/lib"

# As autoconf and mingw-w64's makefiles know them.
llvm=$(dirname "$(realpath "$(command -v clang)")")
export PATH=$llvm:$PATH
tools=(CC="clang --target=$target --sysroot=$out" AR=llvm-ar RANLIB=llvm-ranlib DLLTOOL=llvm-dlltool
	CFLAGS="-O2 -w -ffile-prefix-map=$work=.")

# _WIN32_WINNT is Windows 10.
mingw headers --with-default-win32-winnt=0x0A00
quietly make install

mingw crt --enable-cfguard --disable-dependency-tracking "${only[@]}"
mkdir "$libdir"
products=("$libdir"/{crt2,crt2u,dllcrt2}.o)
for lib in "${imports[@]}" "${runtime[@]}"; do products+=("$libdir/lib$lib.a"); done
quietly make -j"$(nproc)" "${products[@]}"
cp "${products[@]}" "$out/lib"

quietly "$here/libraries.sh" "$sources" "$work" ARCH="$arch" SYSROOT="$out"
