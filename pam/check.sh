#!/bin/sh
# check.sh MODULE: looks at what the module exports, needs and weighs. It is
# loaded into sshd and sudo: nothing but what PAM calls may be visible there.
set -eu
module=$1
bad=0

fail() {
	echo "check: $module: $*" >&2
	bad=1
}

exports=$(nm -D --defined-only --format=posix "$module" | cut -d' ' -f1 | sort | tr '\n' ' ')
want='pam_sm_acct_mgmt pam_sm_authenticate pam_sm_setcred '
[ "$exports" = "$want" ] || fail "exports $exports, and should export $want"

dynamic=$(readelf -Wd "$module")
for lib in $(echo "$dynamic" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'); do
	case $lib in
	libc.so.* | libpam.so.* | libnghttp2.so.*) ;;
	*) fail "needs $lib; only libc, libpam and libnghttp2 are allowed" ;;
	esac
done

for flag in BIND_NOW NODELETE; do
	echo "$dynamic" | grep -q "$flag" || fail "is linked without $flag"
done
if echo "$dynamic" | grep -q TEXTREL; then
	fail "has relocations in its code (an object was not compiled with -fPIC)"
fi
segments=$(readelf -Wl "$module")
echo "$segments" | grep -q GNU_RELRO || fail "is linked without -z relro"
echo "$segments" | grep GNU_STACK | grep -q 'RW ' || fail "has an executable stack"
if readelf -WS "$module" | grep -q '\.symtab'; then
	fail "is not stripped"
fi

size=$(wc -c <"$module")
[ "$size" -lt 150000 ] || fail "has $size bytes; the bound is 150000"

[ "$bad" -eq 0 ] && echo "check: $module: $size bytes, exports and needs what it should"
exit "$bad"
