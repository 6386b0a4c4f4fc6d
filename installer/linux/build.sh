#!/usr/bin/env bash
# build.sh VERSION ARCH DIST OUT
#
# Packs DIST/{sallyport,sallyport-try,pam_sallyport.so}, which are for ARCH (amd64 or arm64), into a .deb and a .rpm in
# OUT, and prints their names. VERSION is what git describe says, SOURCE_DATE_EPOCH what all files in them are
# dated; the same programs give the same bytes. SALLYPORT_AGENT is one that runs here, where that in DIST does not;
# SALLYPORT_COMPRESSION is xz unless somebody is in a hurry (gzip). nfpm is pinned by tools.mod.
set -euo pipefail
shopt -s inherit_errexit
umask 022

fail() { printf 'installer/linux/build.sh: %s\n' "$*" >&2; exit 1; }

[[ $# -eq 4 && -n ${SOURCE_DATE_EPOCH-} ]] || fail "usage: SOURCE_DATE_EPOCH=SECONDS build.sh VERSION ARCH DIST OUT"
here=$(dirname "$(realpath "$0")")
version=$1 arch=$2 dist=$(realpath "$3") out=$(realpath "$4")
repository=$(realpath "$here/../..")
[[ $version =~ ^[0-9A-Za-z.+-]{1,64}$ ]] || fail "'$version' is no version"
case $arch in
amd64) triplet=x86_64-linux-gnu ;;
arm64) triplet=aarch64-linux-gnu ;;
*) fail "no packages for '$arch': amd64 and arm64 only" ;;
esac
for file in sallyport sallyport-try pam_sallyport.so; do
	[[ -f $dist/$file ]] || fail "$dist/$file is not there; build it first: ./build.sh package linux"
done

# numbers maps what git describe says to what dpkg and rpm compare (deb-version(7)): what lies between two versions is
# newer than the first. Without a tag the time of the commit is what orders them.
numbers() {
	if [[ $1 =~ ^v?([0-9]+\.[0-9]+\.[0-9]+)(-((alpha|beta|rc)[0-9.]*))?(-([0-9]+)-g([0-9a-f]+))?(-dirty)?$ ]]; then
		echo "${BASH_REMATCH[1]}${BASH_REMATCH[3]:+~${BASH_REMATCH[3]}}${BASH_REMATCH[6]:+.${BASH_REMATCH[6]}.g${BASH_REMATCH[7]}}${BASH_REMATCH[8]:++dirty}"
	else
		echo "0.0.0.$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y%m%d%H%M%S).${1//-/+}"
	fi
}

tmp=$(mktemp -d "$out/.pack.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
date=$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)
root=$tmp/root doc=/usr/share/doc/sallyport

# agent is one that runs here, for its manual, completions and settings.
agent() { "${SALLYPORT_AGENT:-$dist/sallyport}" "$@"; }

lay_out() {
	local page shell
	mkdir -p "$root"/usr/{bin,lib/systemd/system,share/{man/man1,pam-configs,bash-completion/completions,fish/vendor_completions.d}} \
		"$root/etc/sallyport/config.d" "$root$doc"
	install -m 0755 "$dist/sallyport" "$dist/sallyport-try" "$root/usr/bin"
	install -m 0644 "$dist/pam_sallyport.so" "$tmp"
	sed 's|^ExecStart=.*|ExecStart=/usr/bin/sallyport run|' "$here/sallyport.service" >"$root/usr/lib/systemd/system/sallyport.service"
	cp "$here"/pam.d/debian/pam-configs/* "$root/usr/share/pam-configs"
	agent man "$tmp/man" >/dev/null
	for page in "$tmp"/man/*.1; do
		gzip -9n <"$page" >"$root/usr/share/man/man1/${page##*/}.gz"
	done
	for shell in bash zsh fish; do
		agent completion "$shell" >"$tmp/completion.$shell"
	done
	cp "$tmp/completion.bash" "$root/usr/share/bash-completion/completions/sallyport"
	cp "$tmp/completion.fish" "$root/usr/share/fish/vendor_completions.d/sallyport.fish"
	agent config default >"$tmp/sallyport.toml"
	cp -R "$here/pam.d" "$root$doc/pam.d"
	rm "$root$doc/pam.d/"*.go
	cp "$here/README.package" "$root$doc/README"
	cp "$here/copyright" "$root$doc/copyright"
	install -D -m 0644 "$here/selinux/sallyport.cil" "$root/usr/share/selinux/packages/sallyport.cil"
	# A comment in the example, a feature in a profile of authselect.
	sed -e '/^# /d' -e 's/^#\(auth.*\)/\1 {include if "with-sallyport-breakglass"}/' "$here/pam.d/redhat/auth-lines" >"$tmp/auth-lines"
	printf 'sallyport (%s-1) stable; urgency=medium\n\n  * %s, built from the sources of that name.\n\n -- %s  %s\n' "$numbers" "$version" "$maintainer" \
		"$(LC_ALL=C date -u -R -d "@$SOURCE_DATE_EPOCH")" | gzip -9n >"$tmp/changelog.gz"
}

# script NAME MODULE: a package's script, with what all share in it.
script() {
	echo '#!/bin/sh'
	sed -e "/^\. common.sh/{r $here/scripts/common.sh" -e 'd}' "$here/scripts/$1.sh" |
		sed -e '/^# shellcheck s/d' -e "s|@VERSION@|$version|g" -e "s|@MODULE@|$2|g"
}

# pack FORMAT MODULE CONTENTS...
pack() {
	local format=$1 module=$2 name doc=
	[[ $format != rpm ]] || doc=', type: doc'
	for name in preinst postinst prerm postrm; do
		script "$name" "$module" >"$tmp/$name"
	done
	# File by file: a package must not own the system's directories.
	{
		cat "$here/nfpm.yaml"
		(cd "$root" && find . -type f -printf '/%P\n' | LC_ALL=C sort) | sed -e 's|.*|  - {src: "@TMP@/root&", dst: "&"}|' -e "/share\/\(doc\|man\)/s|}\$|$doc}|" -e '/share\/pam-configs/s|"}$|", packager: deb}|'
	} | sed -e "s|@ARCH@|$arch|g" -e "s|@NUMBERS@|$numbers|g" -e "s|@DATE@|$date|g" -e "s|@MAINTAINER@|$maintainer|g" \
		-e "s|@TMP@|$tmp|g" -e "s|@MODULE@|$module|g" -e "s|@HERE@|$here|g" -e "s|@COMPRESSION@|${SALLYPORT_COMPRESSION:-xz}|g" >"$tmp/nfpm.yaml"
	name=$(cd "$repository" && go tool -modfile=installer/linux/tools.mod nfpm package --config "$tmp/nfpm.yaml" --packager "$format" --target "$tmp") || fail "nfpm: $name"
	name=${name##*/}
	mv "$tmp/$name" "$out/$name"
	echo "$out/$name"
}

maintainer='Sallyport <packages@sallyport.example>'
numbers=$(numbers "$version")
lay_out
pack deb "/usr/lib/$triplet/security/pam_sallyport.so"
pack rpm /usr/lib64/security/pam_sallyport.so
