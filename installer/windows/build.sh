#!/usr/bin/env bash
# build.sh VERSION DIST OUT
#
# Packs DIST/sallyport.exe and DIST/SallyportCredentialProvider.dll into OUT/Sallyport-VERSION-amd64.msi. VERSION is what
# git describe says. Signs all three where a certificate is given: see sign.sh.
set -euo pipefail

fail() { printf 'installer/windows/build.sh: %s\n' "$*" >&2; exit 1; }

[[ $# -eq 3 ]] || fail "usage: build.sh VERSION DIST OUT"
version=$1 dist=$(realpath "$2") out=$(realpath "$3")
here=$(dirname "$(realpath "$0")")
enter=$here/../../internal/testkit/wine/enter.sh

# For ever: by it Windows Installer knows the versions of one product.
upgrade_code=3E0C1B52-9A7D-4C55-8C1F-6D2A4F9B7E10

# msi_version maps what git describe says to what Windows Installer compares: three numbers. Builds between two versions
# have the number of the older one, and replace it and each other. Without a tag it is 0.0.0.
msi_version() {
	if [[ $1 =~ ^v?([0-9]+)\.([0-9]+)\.([0-9]+)(-[0-9]+-g[0-9a-f]+)?(-dirty)?$ ]]; then
		((10#${BASH_REMATCH[1]} < 256 && 10#${BASH_REMATCH[2]} < 256 && 10#${BASH_REMATCH[3]} < 65536)) ||
			fail "$1: Windows Installer takes versions up to 255.255.65535"
		echo "$((10#${BASH_REMATCH[1]})).$((10#${BASH_REMATCH[2]})).$((10#${BASH_REMATCH[3]}))"
	else
		echo 0.0.0
	fi
}

# guid derives one from this build and a name (RFC 9562, version 8): the same build has the same product code.
guid() {
	local h
	h=$(printf '%s %s' "$build" "$1" | sha256sum)
	h=${h^^}
	printf '%s-%s-8%s-8%s-%s' "${h:0:8}" "${h:8:4}" "${h:12:3}" "${h:15:3}" "${h:18:12}"
}

[[ $version =~ ^[0-9A-Za-z.+-]{1,64}$ ]] || fail "'$version' is no version"
for file in sallyport.exe SallyportCredentialProvider.dll; do
	[[ -f $dist/$file ]] || fail "$dist/$file is not there; build it first: ./build.sh build windows"
done

# Beside the result, as only what is bound is seen by the tools.
tmp=$(mktemp -d "$out/.msi.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
admx=$here/admx
cp "$dist/sallyport.exe" "$dist/SallyportCredentialProvider.dll" "$tmp"

# shellcheck disable=SC2016 # expands in the root
"$enter" --bind "$out" -- x86_64-w64-mingw32-gcc -shared -Os -s -Wall -Wextra -Werror -static -static-libgcc \
	-Wl,--dynamicbase,--nxcompat,--high-entropy-va -o "$tmp/run.dll" "$here/action/run.c" -lmsi
"$here/sign.sh" "$tmp/sallyport.exe" "$tmp/SallyportCredentialProvider.dll" "$tmp/run.dll"

# What makes one build another one: each has its own product code, components and directory.
build=$(cd "$tmp" && { echo "$version"; sha256sum sallyport.exe SallyportCredentialProvider.dll run.dll; sha256sum <"$here/sallyport.wxs"; } | sha256sum)
directory=${version#v}-${build:0:8}
msi=$tmp/Sallyport-$version-amd64.msi
"$enter" --bind "$out" -- wixl --arch x64 -o "$msi" \
	-D UpgradeCode="$upgrade_code" -D ProductCode="$(guid product)" -D Version="$version" -D MsiVersion="$(msi_version "$version")" \
	-D Directory="$directory" -D AgentGuid="$(guid agent)" -D ProviderGuid="$(guid provider)" \
	-D TemplatesGuid="$(guid templates)" -D EnglishGuid="$(guid english)" \
	-D Dist="$tmp" -D Run="$tmp/run.dll" -D Licence="$here/../../LICENSE" -D Admx="$admx" "$here/sallyport.wxs"

# What wixl leaves out. HideTarget (0x2000) keeps an action's data out of the log, MsiHiddenProperties a property's value;
# the properties of SecureCustomProperties reach the installer's service from a user's command line.
hidden='ENROLL_TOKEN;Activate;SetActivate'
secure='SERVER_URL;ENROLL_TOKEN;BREAK_GLASS;MESSAGE;OLDER_FOUND;NEWER_FOUND'
names=() # "Filename": the short one, too
short() { names+=(-q "UPDATE \`$1\` SET \`$2\` = '$3|$4' WHERE \`$1\` = '$5'"); }
short File FileName SALLYP~1.EXE sallyport.exe agent
short File FileName SALLYP~1.DLL SallyportCredentialProvider.dll provider
short File FileName SALLYP~1.ADM Sallyport.admx admx
short File FileName SALLYP~1.ADM Sallyport.adml adml
short Directory DefaultDir SALLYP~1 Sallyport CompanyDir
short Directory DefaultDir "${build:0:8}" "$directory" BuildDir
short Directory DefaultDir POLICY~1 PolicyDefinitions TemplatesDir
"$enter" --bind "$out" -- msibuild "$msi" \
	-q "DELETE FROM \`Property\` WHERE \`Property\` = 'SecureCustomProperties'" \
	-q "INSERT INTO \`Property\` (\`Property\`, \`Value\`) VALUES ('SecureCustomProperties', '$secure')" \
	-q "INSERT INTO \`Property\` (\`Property\`, \`Value\`) VALUES ('MsiHiddenProperties', '$hidden')" \
	-q "UPDATE \`CustomAction\` SET \`Type\` = $((3073 + 0x2000)) WHERE \`Action\` = 'Activate'" \
	-q "UPDATE \`CustomAction\` SET \`Type\` = $((51 + 0x2000)) WHERE \`Action\` = 'SetActivate'" \
	-q "UPDATE \`InstallExecuteSequence\` SET \`Condition\` = 'REINSTALL' WHERE \`Action\` = 'StopServices'" \
	"${names[@]}" \
	-q "UPDATE \`RemoveFile\` SET \`DirProperty\` = 'CompanyDir' WHERE \`FileKey\` = 'Company'" \
	-q "UPDATE \`Environment\` SET \`Name\` = '=-*PATH' WHERE \`Component_\` = 'Agent'"
"$here/sign.sh" "$msi"
mv "$msi" "$out/"
printf '%s\n' "$out/${msi##*/}"
