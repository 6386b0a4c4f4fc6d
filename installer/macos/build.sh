#!/usr/bin/env bash
# build.sh VERSION DIST OUT
#
# Packs DIST/{sallyport,Sallyport.bundle,pam_sallyport.so.2} into OUT/Sallyport-VERSION.pkg. VERSION is what git
# describe says. On a Mac it is signed, notarised and stapled where these are set, all three:
#
#	SALLYPORT_SIGN_APP        Developer ID Application: ...
#	SALLYPORT_SIGN_INSTALLER  Developer ID Installer: ...
#	SALLYPORT_NOTARY_PROFILE  a profile of `notarytool store-credentials`
#
# Elsewhere the same files go into OUT/Sallyport-VERSION.not-for-release.pkg, which is for checking only.
set -euo pipefail
umask 022

fail() { printf 'installer/macos/build.sh: %s\n' "$*" >&2; exit 1; }
say() { printf 'installer/macos/build.sh: %s\n' "$*" >&2; }

[[ $# -eq 3 ]] || fail "usage: build.sh VERSION DIST OUT"
here=$(cd "$(dirname "$0")" && pwd)
version=$1 dist=$(cd "$2" && pwd) out=$(cd "$3" && pwd)

readonly identifier=com.sallyport.pkg location='/Library/Application Support/Sallyport/incoming'

on_mac() { [[ $(uname -s) == Darwin ]]; }

# numbers maps what git describe says to what Installer and MDM compare: numbers; the fourth counts the commits behind
# a version.
numbers() {
	if [[ $1 =~ ^v?([0-9]+\.[0-9]+\.[0-9]+)(-([0-9]+)-g[0-9a-f]+)?(-dirty)?$ ]]; then
		echo "${BASH_REMATCH[1]}${BASH_REMATCH[3]:+.${BASH_REMATCH[3]}}"
	else
		echo 0.0.0
	fi
}

[[ $version =~ ^[0-9A-Za-z.+-]{1,64}$ ]] || fail "'$version' is no version"
name=Sallyport-$version.pkg
on_mac || name=Sallyport-$version.not-for-release.pkg
# What fails leaves no package of this name, of an earlier build neither.
rm -f "$out/$name"
for file in sallyport pam_sallyport.so.2 Sallyport.bundle/Contents/Info.plist Sallyport.bundle/Contents/MacOS/Sallyport; do
	[[ -f $dist/$file ]] || fail "$dist/$file is not there; build it first: ./build.sh build macos"
done
app=${SALLYPORT_SIGN_APP-} installer=${SALLYPORT_SIGN_INSTALLER-} notary=${SALLYPORT_NOTARY_PROFILE-}
[[ ( -n $app && -n $installer && -n $notary ) || -z $app$installer$notary ]] ||
	fail "to sign it, SALLYPORT_SIGN_APP, SALLYPORT_SIGN_INSTALLER and SALLYPORT_NOTARY_PROFILE are needed, all three"

tmp=$(mktemp -d "$out/.pkg.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
root=$tmp/root scripts=$tmp/scripts

# agent is one that runs here, for its manual and completion.
agent() {
	if on_mac; then "$dist/sallyport" "$@"; else (cd "$here/../.." && go run -ldflags "-X main.version=$version" ./agent "$@"); fi
}

lay_out() {
	mkdir -p "$root/share/man/man1" "$root/share/completion" "$scripts"
	cp "$dist/sallyport" "$dist/pam_sallyport.so.2" "$here/uninstall" "$root"
	cp -R "$dist/Sallyport.bundle" "$root"
	(cd "$here/../.." && go run ./installer/macos/flatpkg daemon) >"$root/com.sallyport.agent.plist"
	agent man "$root/share/man/man1" >/dev/null
	agent completion zsh >"$root/share/completion/_sallyport"
	agent completion bash >"$root/share/completion/sallyport.bash"
	cp "$here/scripts/paths.sh" "$here/scripts/preinstall" "$here/scripts/postinstall" "$scripts"
	find "$root" "$scripts" -type d -exec chmod 0755 {} +
	find "$root" "$scripts" -type f -exec chmod 0644 {} +
	chmod 0755 "$root/sallyport" "$root/uninstall" "$root/Sallyport.bundle/Contents/MacOS/Sallyport" "$scripts/preinstall" "$scripts/postinstall"
}

distribution() { sed -e "s/@NUMBERS@/$(numbers "$version")/" -e "s/@PACKAGE@/$1/" "$here/Distribution.in"; }

# sign FILE IDENTIFIER. The hardened runtime without entitlements: nothing of ours needs what it forbids. (A plug-in
# runs with its host's.)
sign() {
	if [[ -n $app ]]; then
		codesign --force --sign "$app" --options runtime --timestamp --identifier "$2" "$1"
	else
		codesign --force --sign - --identifier "$2" "$1"
	fi
	codesign --verify --strict --verbose=2 "$1"
}

pack_on_mac() {
	local file said
	for file in sallyport pam_sallyport.so.2 Sallyport.bundle/Contents/MacOS/Sallyport; do
		lipo "$root/$file" -verify_arch arm64 x86_64 || fail "$file is not for both processors"
	done
	# No quarantine, and nothing that codesign calls detritus.
	xattr -cr "$root" "$scripts"
	sign "$root/sallyport" com.sallyport.agent
	sign "$root/pam_sallyport.so.2" com.sallyport.pam
	sign "$root/Sallyport.bundle" com.sallyport.plugin
	pkgbuild --root "$root" --component-plist "$here/component.plist" --scripts "$scripts" --identifier "$identifier" \
		--version "$(numbers "$version")" --ownership recommended --install-location "$location" "$tmp/sallyport.pkg"
	distribution sallyport.pkg >"$tmp/Distribution"
	if [[ -z $app ]]; then
		productbuild --distribution "$tmp/Distribution" --package-path "$tmp" "$tmp/$name"
		say "$name is NOT SIGNED: macOS's login window loads no plug-in of nobody's, so it refuses to install; it is to be looked at"
		return
	fi
	productbuild --distribution "$tmp/Distribution" --package-path "$tmp" --sign "$installer" --timestamp "$tmp/$name"
	pkgutil --check-signature "$tmp/$name"
	# It may end with 0 although Apple has refused it.
	said=$(xcrun notarytool submit "$tmp/$name" --keychain-profile "$notary" --wait) || fail "not notarised: $said"
	[[ $said == *"status: Accepted"* ]] || fail "not notarised: $said"
	xcrun stapler staple "$tmp/$name"
	xcrun stapler validate "$tmp/$name"
	spctl --assess --type install --verbose=2 "$tmp/$name"
}

pack_for_checking() {
	distribution '#sallyport.pkg' >"$tmp/Distribution"
	(cd "$here/../.." && go run ./installer/macos/flatpkg write -time "$(git log -1 --format=%ct 2>/dev/null || echo 0)" -identifier "$identifier" \
		-version "$(numbers "$version")" -location "$location" "$root" "$scripts" "$tmp/Distribution" "$tmp/$name")
}

lay_out
if on_mac; then pack_on_mac; else pack_for_checking; fi >&2
mv "$tmp/$name" "$out/$name"
echo "$out/$name"
