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

# download ARCH SUITE DIR PACKAGES... gets packages from that archive into DIR, for
# another architecture or release than this machine's too. apt checks the signatures.
download() {
  local arch=$1 suite=$2 dir=$3 apt from
  shift 3
  from=$(mirror "$suite")
  mkdir -p "$dir"/apt/{state/lists/partial,cache/archives/partial}
  : >"$dir/apt/status"
  printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n' "$from" "$suite" >"$dir/apt/sources.list"
  apt=(apt-get -qq -o "APT::Architecture=$arch" -o "APT::Architectures::=$arch" -o APT::Sandbox::User=root -o "Dir::State=$dir/apt/state"
    -o "Dir::State::status=$dir/apt/status" -o "Dir::Cache=$dir/apt/cache" -o "Dir::Etc::sourcelist=$dir/apt/sources.list" -o Dir::Etc::sourceparts=-)
  "${apt[@]}" update
  (cd "$dir" && "${apt[@]}" download "$@")
}
