#!/usr/bin/env bash
# fetch.sh DIR [PACKAGE...]
#
# Puts the files that sources.sha256 names, or only those of these packages, into
# the empty or new directory DIR.
# They come from ${SALLYPORT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sallyport}/sources,
# and what is missing or damaged there first from the Debian mirrors among apt's
# sources; where there is none, SALLYPORT_DEBIAN_MIRROR=http://... names one.
# What stands in DIR under its name has been checked there.
#
# A mirror keeps only the current version of a package. The cache keeps what was
# pinned, so a machine that has built once goes on building without the mirror.
set -euo pipefail
shopt -s inherit_errexit

here=$(dirname "$(realpath "$0")")
pins=$here/sources.sha256

say() { printf 'fetch.sh: %s\n' "$*" >&2; }
fail() {
	say "$*"
	exit 1
}

# intact FILE SHA256
intact() { [[ $(sha256sum <"$1") == "$2  -" ]]; }

# mirrors prints the archives that this machine takes its packages from.
mirrors() {
	if [[ -n ${SALLYPORT_DEBIAN_MIRROR:-} ]]; then
		printf '%s\n' "$SALLYPORT_DEBIAN_MIRROR"
		return
	fi
	command -v apt-get >/dev/null ||
		fail "this machine has no apt to say where Debian packages come from: set SALLYPORT_DEBIAN_MIRROR to the address of a Debian mirror"
	# shellcheck disable=SC2016 # apt expands it
	apt-get indextargets --format '$(REPO_URI)' 'Identifier: Packages' 'Component: main' | sort -u
}

# download SHA256 PATH FILE gets the file from the first mirror that has it.
download() {
	local found mirror tried=()
	found=$(mirrors)
	for mirror in $found; do
		[[ $mirror == http* ]] || continue
		if ! wget --quiet --timeout=30 --tries=5 --retry-connrefused --retry-on-http-error=500,502,503,504 --output-document="$3.part" "${mirror%/}/$2"; then
			tried+=("$mirror does not give $2")
		elif ! intact "$3.part" "$1"; then
			say "$mirror gives a $2 that has not the SHA-256 in sources.sha256: it is not used"
		else
			mv "$3.part" "$3"
			return
		fi
	done
	rm -f "$3.part"
	[[ ${#tried[@]} -eq 0 ]] || say "${tried[@]/%/;}"
	fail "${2##*/} cannot be had. If the mirror can be reached, Debian has a newer version by now: change sources.sha256, which says how to find it, and test; or put the pinned file into ${3%/*}"
}

[[ $# -ge 1 ]] || fail "usage: fetch.sh DIR [PACKAGE...]"
dir=$1
shift
cache=${SALLYPORT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sallyport}/sources
mkdir -p "$dir" "$cache"
[[ -z $(ls -A "$dir") ]] || fail "$dir is not empty"

exec 9>"$cache/lock"
flock 9
while read -r hash path; do
	package=${path##*/}
	[[ $# -eq 0 || " $* " == *" ${package%%_*} "* ]] || continue
	file=$cache/${path##*/}
	if [[ -e $file ]] && ! intact "$file" "$hash"; then
		say "$file has not the SHA-256 in sources.sha256: it is fetched anew"
		rm -f "$file"
	fi
	[[ -e $file ]] || download "$hash" "$path" "$file"
	copy=$dir/${path##*/}
	cp "$file" "$copy.part"
	intact "$copy.part" "$hash" || fail "$file changed while it was copied"
	mv "$copy.part" "$copy"
done < <(grep -v '^#' "$pins")
