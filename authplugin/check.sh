#!/bin/sh
# check.sh MODULE OBJECT...: looks at what the plug-in exports, needs and keeps. One
# process may load it for several evaluations at once: it has no state but what a host
# holds, so its own objects have nothing that can be written.
set -eu
module=$1
shift
bad=0

fail() {
	echo "check: $*" >&2
	bad=1
}

exports=$(nm -D --defined-only --format=posix "$module" | cut -d' ' -f1 | sort | tr '\n' ' ')
[ "$exports" = 'AuthorizationPluginCreate ' ] || fail "$module exports $exports, and should export AuthorizationPluginCreate"

for lib in $(readelf -Wd "$module" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'); do
	case $lib in
	libc.so.* | libnghttp2.so.*) ;;
	*) fail "$module needs $lib; only libc and libnghttp2 are allowed" ;;
	esac
done

[ $# -gt 0 ] || fail "no objects were given"
for object; do
	# .data.rel.ro is written by the loader only.
	written=$(readelf -WS "$object" | sed 's/^ *\[ *[0-9]*\] //' |
		awk '$1 ~ /^\.(data|bss|tdata|tbss)/ && $1 !~ /^\.data\.rel\.ro/ && $5 !~ /^0+$/ { print $1 }')
	[ -z "$written" ] || fail "$object has globals that can be written: $written"
done

[ "$bad" -eq 0 ] && echo "check: $module exports and needs what it should; $# objects without state"
exit "$bad"
