#!/usr/bin/env bash
# cc.sh ARG...
#
# The C compiler for macOS 12 and later, also as CC of the go command:
#
#	GOOS=darwin GOARCH=arm64 CGO_ENABLED=1 CC=$PWD/authplugin/sdk/cc.sh go build -ldflags=-w ./agent
#
# On a Mac it is Apple's, with Apple's SDK. Elsewhere it is clang and lld, with C's
# headers as libc.sh has them, and our own headers and stubs of everything else, in
# this directory. What is linked that way is not for release: Apple's SDK alone
# knows what is in which library of macOS.
#
# Whoever calls gives -arch arm64 or -arch x86_64, as Go does.
set -euo pipefail

if [[ $(uname -s) == Darwin ]]; then
	exec xcrun --sdk macosx clang -mmacosx-version-min=12.0 -Wl,-adhoc_codesign -Wno-unused-command-line-argument "$@"
fi
here=$(dirname "$(realpath "$0")")
libc=$("$here/libc.sh")
exec clang-19 --target=arm64-apple-macos12.0 -isysroot "$libc" -isystem "$here/usr/include" -isystem "$here/../shim" -iframework "$here/System/Library/Frameworks" \
	-F"$here/System/Library/Frameworks" -L"$here/usr/lib" -fuse-ld=lld -Wl,-adhoc_codesign -Wno-unused-command-line-argument "$@"
