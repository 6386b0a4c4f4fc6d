# shellcheck shell=bash
# What root.sh and enter.sh share.

fail() {
  printf 'wine: %s\n' "$*" >&2
  exit 125
}

# The whole environment of a command in the root. TMPDIR is not in it because
# Wine's installer library aborts on it, nor DISPLAY because nothing is drawn.
# shellcheck disable=SC2034 # used by those who read this file
environment=(
  PATH=/usr/sbin:/usr/bin
  HOME=/root
  LC_ALL=C.UTF-8
  XDG_RUNTIME_DIR=/run/user/0
  WINEPREFIX=/var/lib/wine
  WINEARCH=win64
  "WINEDLLOVERRIDES=mscoree,mshtml="
  WINEDEBUG=-all
)

# make_dev DIR makes a /dev for a root at DIR: the machine's harmless devices.
make_dev() {
  local device
  mount -t tmpfs -o mode=0755,nosuid wine-dev "$1"
  for device in null zero full random urandom tty; do
    : >"$1/$device"
    mount --bind "/dev/$device" "$1/$device"
  done
  ln -s /proc/self/fd "$1/fd"
  ln -s fd/0 "$1/stdin"
  ln -s fd/1 "$1/stdout"
  ln -s fd/2 "$1/stderr"
  ln -s pts/ptmx "$1/ptmx"
  mkdir "$1/pts" "$1/shm"
  mount -t devpts -o newinstance,mode=0620,ptmxmode=0666 wine-pts "$1/pts"
  mount -t tmpfs -o mode=1777,nosuid,nodev wine-shm "$1/shm"
}
