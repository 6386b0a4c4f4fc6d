#!/usr/bin/env bash
# root.sh
#
# Prints the directory of a small Debian 12 with systemd, sshd, rpm, dnf and authselect, for packages to be installed in
# (in a copy: see boot.sh). It is made when it is not there yet, which takes a minute, root and the network, and is kept in
# ${SALLYPORT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sallyport}. What a killed run leaves is never taken for a root.
set -euo pipefail
shopt -s inherit_errexit

fail() { printf 'installer/linux/packagetest/root.sh: %s\n' "$*" >&2; exit 1; }

# shellcheck source-path=SCRIPTDIR source=../../../internal/testkit/debian/mirror.sh
. "$(dirname "$(realpath "$0")")/../../../internal/testkit/debian/mirror.sh"

suite=bookworm
# Of ours it has no more than what the package says that it needs.
packages=(systemd systemd-sysv openssh-server libnghttp2-14 libpam-runtime login passwd procps rpm)
# What Red Hat's systems have more. Debian 12 has no authselect; Debian 13's runs on it.
redhat=(dnf libpam-sss libpam-pwquality)
newer=(authselect libauthselect3)

cache=${SALLYPORT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sallyport}
root=$cache/linux-root-$(declare -p suite packages redhat newer | sha256sum | head -c 12)
if [[ ! -d $root ]]; then
	[[ $EUID -eq 0 ]] || fail "making the root needs root"
	command -v debootstrap >/dev/null || fail "debootstrap is missing: ./build.sh deps installs it"
	mkdir -p "$cache"
	# Held until the last of those that make it is gone, also when this is killed.
	exec 9>"$root.lock"
	flock 9
	if [[ ! -d $root ]]; then
		printf -v list '%s,' "${packages[@]}" "${redhat[@]}"
		from=$(mirror "$suite")
		rm -rf "$root.part" "$root.part.debs"
		unshare --mount --propagation private --pid --fork --kill-child --mount-proc \
			debootstrap --variant=minbase --force-check-gpg --include="${list%,}" "$suite" "$root.part" "$from" >&2 ||
			fail "debootstrap failed: $(tail -n 5 "$root.part/debootstrap/debootstrap.log" 2>/dev/null || echo 'see above')"
		mkdir "$root.part.debs"
		download "$(dpkg --print-architecture)" trixie "$root.part.debs" "${newer[@]}" >&2
		unshare --mount --propagation private dpkg --root="$root.part" --install "$root.part.debs"/*.deb >&2
		rm -rf "$root.part.debs"
		rm -rf "$root.part"/var/cache/apt/archives/*.deb "$root.part"/var/lib/apt/lists/*
		sync --file-system "$root.part"
		mv --no-target-directory "$root.part" "$root"
	fi
fi
printf '%s\n' "$root"
