#!/bin/sh
# check.sh DLL ARCH DEF: looks at how the DLL for ARCH (amd64 or arm64) was
# linked, what it needs and weighs, and whether it exports what DEF says. It is
# loaded into LogonUI. Runs in the Wine root, which has llvm-readobj.
set -eu
[ $# -eq 3 ] || {
	echo "usage: check.sh DLL amd64|arm64 DEF" >&2
	exit 1
}
dll=$1 arch=$2 def=$3
bad=0

fail() {
	echo "check: $dll: $*" >&2
	bad=1
}

facts=$(llvm-readobj --file-headers --sections --coff-debug-directory --coff-load-config --coff-imports --coff-exports "$dll")

# fact PATTERN: a line of the facts is this, but for the space before it.
fact() { echo "$facts" | grep -Eqx "[[:space:]]*$1"; }

case $arch in
amd64) fact 'Machine: IMAGE_FILE_MACHINE_AMD64 .*' || fail "is not for amd64" ;;
arm64) fact 'Machine: IMAGE_FILE_MACHINE_ARM64 .*' || fail "is not for arm64" ;;
*) fail "no DLL for $arch: amd64 and arm64 only" ;;
esac
fact 'IMAGE_FILE_DLL .*' || fail "is not a DLL"

# ASLR needs the relocations as well as the flag.
for flag in DYNAMIC_BASE HIGH_ENTROPY_VA NX_COMPAT GUARD_CF; do
	fact "IMAGE_DLL_CHARACTERISTICS_$flag .*" || fail "is linked without $flag"
done
fact 'BaseRelocationTableSize: 0x[0-9A-F]*[1-9A-F][0-9A-F]*' || fail "has no relocations"
fact 'IMAGE_FILE_RELOCS_STRIPPED .*' && fail "has no relocations"
fact 'GuardCFFunctionCount: [1-9][0-9]*' || fail "does not tell Control Flow Guard what may be called"
[ "$arch" != amd64 ] || fact 'IMAGE_DLL_CHARACTERISTICS_EX_CET_COMPAT .*' ||
	fail "is linked without CET_COMPAT"
fact 'DependentLoadFlags: 0x800' || fail "would take the DLLs that it needs from elsewhere than System32"

echo "$facts" | awk '
	/^  Section \{/ { w = x = 0 }
	/IMAGE_SCN_MEM_WRITE/ { w = 1 }
	/IMAGE_SCN_MEM_EXECUTE/ { x = 1 }
	/^  \}/ { if (w && x) found = 1; w = x = 0 }
	END { exit found }' || fail "has a section that can be written and executed"

exports=$(echo "$facts" | awk '/^Export \{/ { e = 1 } /^\}/ { e = 0 } e && /^  Name:/ { print $2 }' | sort | tr '\n' ' ')
want=$(awk '/^EXPORTS/ { e = 1; next } e && NF && !/^[ \t]*;/ { print $1 }' "$def" | sort | tr '\n' ' ')
[ -n "$want" ] || fail "$def names no exports"
[ "$exports" = "$want" ] || fail "exports ${exports:-nothing}, and should export $want"

# Each is a part of Windows. Those of C's library are the UCRT.
imports=$(echo "$facts" | awk '/^(Delay)?Import \{/ { i = 1 } /^\}/ { i = 0 } i && /^  Name:/ { print tolower($2) }' | sort -u)
[ -n "$imports" ] || fail "imports nothing, which cannot be"
for lib in $imports; do
	case $lib in
	advapi32.dll | gdi32.dll | kernel32.dll | netapi32.dll | ole32.dll | secur32.dll | user32.dll | wtsapi32.dll) ;;
	api-ms-win-crt-*.dll) ;;
	*) fail "needs $lib, which is not on the list of check.sh" ;;
	esac
done

echo "$facts" | grep 'TimeDateStamp:' | grep -Fqv '(0x0)' && fail "says when it was built, so the same source does not give the same file"
fact 'PointerToSymbolTable: 0x0' || fail "is not stripped"
size=$(wc -c <"$dll")
[ "$size" -lt 307200 ] || fail "has $size bytes; the bound is 307200"

[ "$bad" -eq 0 ] && echo "check: $dll: $size bytes, linked as it should be, exports and needs what it should"
exit "$bad"
