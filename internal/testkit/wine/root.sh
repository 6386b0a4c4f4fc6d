#!/usr/bin/env bash
# root.sh
#
# Prints the directory of the Wine root: a small Debian with Wine, a Windows C++
# compiler and the tools of the installer, and an empty Wine prefix. Makes it
# when it is not there yet, which takes minutes and needs the network; it is
# kept in ${SALLYPORT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sallyport}. Two runs
# at a time make one, and what a killed run leaves is never taken for a root.
#
# Debian 12's own Wine is too old for Go programs, hence a root of its own.
#
# The packages come, signed, from the Debian mirror among apt's sources; where
# there is none, SALLYPORT_DEBIAN_MIRROR=http://... names one.
#
# Exit status: 125 when the root could not be made.
set -euo pipefail
shopt -s inherit_errexit

# shellcheck source-path=SCRIPTDIR source=environment.sh
. "$(dirname "$(realpath "$0")")/environment.sh"
# shellcheck source-path=SCRIPTDIR source=../debian/mirror.sh
. "$(dirname "$(realpath "$0")")/../debian/mirror.sh"

suite=trixie
packages=(
  wine wine64                                           # runs it
  g++-mingw-w64-x86-64-win32 mingw-w64-tools make       # builds for x64,
  clang lld llvm                                        # and for ARM64
  dpkg-dev ca-certificates                              # unpacks what is built from source
  wixl msitools osslsigncode                            # packs and signs
)

# make_prefix makes the Wine prefix that every user of the root gets a copy of.
make_prefix() {
  # shellcheck disable=SC2016 # expands in the root
  env -i "${environment[@]}" chroot "$1" sh -euc '
    mkdir -p -m 0700 "$XDG_RUNTIME_DIR"
    mkdir -p "$WINEPREFIX"
    wineboot --init
    wineserver --wait
    wine winecfg -v win10
    wineserver --wait
    test -e "$WINEPREFIX/system.reg"'
}

# make_root makes the root at $1. What it mounts goes away with its namespace.
make_root() {
  local list
  printf -v list '%s,' "${packages[@]}"
  debootstrap --variant=minbase --arch=amd64 --force-check-gpg --include="${list%,}" "$suite" "$1" "$2" ||
    fail "debootstrap failed; $(tail -n 5 "$1/debootstrap/debootstrap.log" 2>/dev/null || echo 'see above')"
  chroot "$1" apt-get clean
  rm -rf "$1"/var/lib/apt/lists/*
  printf 'deb %s %s main\ndeb-src %s %s main\n' "$2" "$suite" "$2" "$suite" >"$1/etc/apt/sources.list"

  mount -t proc proc "$1/proc"
  make_dev "$1/dev"
  make_prefix "$1" || fail "Wine could not make its prefix"
  umount --recursive "$1/dev" "$1/proc"
}

# A function, so that bash has read all of it before it runs for minutes.
main() {
  if [[ ${1-} == --make ]]; then
    [[ $$ -eq 1 ]] || fail "--make is for root.sh itself"
    make_root "$2" "$3" >&2
    return
  fi
  [[ $# -eq 0 ]] || fail "usage: root.sh"

  local cache recipe root from
  cache=${SALLYPORT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sallyport}
  recipe=$(declare -p suite packages environment; declare -f make_root make_prefix)
  root=$cache/wine-$(sha256sum <<<"$recipe" | head -c 12)
  if [[ -d $root ]]; then
    printf '%s\n' "$root"
    return
  fi

  [[ $(uname -sm) == 'Linux x86_64' ]] || fail "Wine runs here on Linux on x86_64 only, and this is $(uname -sm)"
  [[ $EUID -eq 0 ]] || fail "making the Wine root needs root"
  command -v debootstrap >/dev/null || fail "debootstrap is missing: ./build.sh deps installs it"

  mkdir -p "$cache"
  # The lock is inherited by all that make the root, and so is held until the
  # last of them is gone, also when this script is killed.
  exec 9>"$root.lock"
  flock --nonblock 9 || {
    echo "wine: waiting for another run that makes $root" >&2
    flock 9
  }
  if [[ ! -d $root ]]; then
    from=$(mirror "$suite")
    echo "wine: making $root from $from; this takes some minutes, once" >&2
    rm -rf "$root.part"
    setpriv --pdeathsig KILL \
      unshare --mount --propagation private --pid --fork --kill-child --mount-proc \
      bash "$0" --make "$root.part" "$from" ||
      fail "the root could not be made, see above"
    sync --file-system "$root.part"
    mv --no-target-directory "$root.part" "$root"
  fi
  printf '%s\n' "$root"
}

main "$@"
exit
