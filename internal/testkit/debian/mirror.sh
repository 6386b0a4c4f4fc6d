# shellcheck shell=bash
# mirror SUITE prints the address of the Debian archive that this machine uses. Who
# reads this file has a function fail.
mirror() {
  local suite=$1 uri file
  if [[ -n ${SALLYPORT_DEBIAN_MIRROR:-} ]]; then
    printf '%s' "$SALLYPORT_DEBIAN_MIRROR"
    return
  fi
  command -v apt-get >/dev/null || fail "this is made of Debian packages, and this machine has no apt to say from where: set SALLYPORT_DEBIAN_MIRROR to the address of a Debian mirror"
  file=$(mktemp)
  # shellcheck disable=SC2016 # apt expands it
  for uri in $(apt-get indextargets --format '$(REPO_URI)' 'Identifier: Packages' 'Component: main' | sort -u); do
    if [[ $uri == http* ]] &&
      /usr/lib/apt/apt-helper -qq download-file "${uri%/}/dists/$suite/InRelease" "$file" >/dev/null 2>&1 &&
      grep -qx 'Label: Debian' "$file"; then
      rm -f "$file"
      printf '%s' "$uri"
      return
    fi
    rm -f "$file"
  done
  fail "none of apt's sources serves Debian $suite (or it cannot be reached): set SALLYPORT_DEBIAN_MIRROR to the address of a Debian mirror"
}
