#!/usr/bin/env bash
# enter.sh [--bind DIR]... [--] CMD [ARG...]
#
# Runs CMD as root on a private copy of this machine and leaves the machine as
# it was: every file can be written, users added, sshd and sudo run, and nothing
# of it is seen outside or outlives CMD. Its own processes, mounts, host name
# and network (loopback only: no way out). The working directory stays the same.
#
# --bind DIR  what is written below DIR is kept (for results and coverage).
#
# Exit status: CMD's; 125 when the sandbox could not be made; 128+N when enter.sh
# was ended by signal N. However enter.sh ends, SIGKILL included, everything in
# the sandbox is killed, and the kernel takes the mounts away with it.
#
# Not a security boundary: root inside is root, on the same kernel.
set -euo pipefail

readonly failed=125

die() {
  printf 'sandbox: %s\n' "$*" >&2
  exit "$failed"
}

# Everything below unshare(1) dies with it (--kill-child), and it dies with us
# (--pdeathsig), whatever ends us. It ignores SIGTERM itself, hence the trap.
outside() {
  [[ $EUID -eq 0 ]] || die "must be run as root"
  local tool
  for tool in unshare setpriv ip mount chroot; do
    command -v "$tool" >/dev/null || die "$tool is missing: ./build.sh deps installs it"
  done

  # A shell's background job has SIGINT ignored and no stdin: give both back.
  setpriv --pdeathsig KILL env --default-signal=INT,QUIT \
    unshare --mount --propagation private --pid --fork --kill-child --net --uts --ipc \
    bash "$0" --inside "$@" <&0 &
  local child=$! signal status=0
  for signal in HUP INT TERM; do
    # shellcheck disable=SC2064 # child is meant to expand now
    trap "kill -KILL $child 2>/dev/null; exit $((128 + $(kill -l "$signal")))" "$signal"
  done
  wait "$child" || status=$?
  exit "$status"
}

# mount_points prints "MOUNTPOINT<tab>TYPE<tab>OPTIONS" for every mount, escapes undone.
mount_points() {
  local _id _parent _dev _root where options rest
  while read -r _id _parent _dev _root where options rest; do
    rest=${rest#*- }
    printf '%b\t%s\t%s\n' "$where" "${rest%% *}" "$options"
  done </proc/self/mountinfo
}

# spare_directory prints a directory to hang the new root on: one that exists
# and that nothing else is mounted on or below. What it holds stays visible in
# the sandbox, for the copy is made of the file system, not of what covers it.
spare_directory() {
  local candidate where _rest taken
  for candidate in /mnt /media /srv /opt; do
    [[ -d $candidate ]] || continue
    taken=
    while IFS=$'\t' read -r where _rest; do
      [[ $where == "$candidate" || $where == "$candidate"/* ]] && taken=1
    done < <(mount_points)
    [[ -n $taken ]] || { printf '%s' "$candidate"; return; }
  done
  die "nowhere to build the sandbox: /mnt, /media, /srv and /opt are all in use as mount points"
}

layers=0
# copy_mount SOURCE TARGET: TARGET becomes a writable copy of SOURCE.
copy_mount() {
  local layer=$base/layers/$((++layers))
  mkdir -p "$layer/upper" "$layer/work"
  chmod --reference="$1" "$layer/upper"
  mount -t overlay -o "lowerdir=$1,upperdir=$layer/upper,workdir=$layer/work" overlay "$2" 2>/dev/null
}

is_bound() {
  local dir
  for dir in "${binds[@]}"; do
    [[ $1 == "$dir" || $1 == "$dir"/* ]] && return
  done
  return 1
}

# Other file systems mounted on the machine: copied where the kernel can, else
# read only. Devices, kernel file systems and /run are made anew, not copied.
copy_submounts() {
  local where type options
  local -A seen=()
  while IFS=$'\t' read -r where type options; do
    [[ -z ${seen[$where]-} ]] || continue
    seen[$where]=1
    case $where/ in
      / | // | /proc/* | /sys/* | /dev/* | /run/* | "$base"/*) continue ;;
    esac
    [[ $type != autofs && $type != nsfs ]] || continue
    if [[ -f $where ]]; then # a single file, as container runtimes mount /etc/hosts
      cp --preserve=mode,ownership "$where" "$root$where"
    elif [[ -d $root$where ]] && ! is_bound "$where"; then
      if [[ ,$options, == *,ro,* ]] || ! copy_mount "$where" "$root$where"; then
        mount --bind "$where" "$root$where"
        mount -o remount,bind,ro "$root$where"
      fi
    fi
  done < <(mount_points)
}

# A /dev of its own: login and sshd change owner and mode of terminals, and
# what listens on /dev/log here must not be the machine's log.
make_dev() {
  local dev=$root/dev n
  mount -t tmpfs -o mode=0755,nosuid sandbox-dev "$dev"
  mknod -m 0666 "$dev/null" c 1 3
  mknod -m 0666 "$dev/zero" c 1 5
  mknod -m 0666 "$dev/full" c 1 7
  mknod -m 0666 "$dev/random" c 1 8
  mknod -m 0666 "$dev/urandom" c 1 9
  mknod -m 0666 "$dev/tty" c 5 0
  mknod -m 0600 "$dev/loop-control" c 10 237
  for n in {0..31}; do
    mknod -m 0600 "$dev/loop$n" b 7 "$n"
  done
  ln -s /proc/self/fd "$dev/fd"
  ln -s fd/0 "$dev/stdin"
  ln -s fd/1 "$dev/stdout"
  ln -s fd/2 "$dev/stderr"
  ln -s pts/ptmx "$dev/ptmx"
  mkdir "$dev/pts" "$dev/shm"
  mount -t devpts -o newinstance,gid=5,mode=0620,ptmxmode=0666 sandbox-pts "$dev/pts"
  mount -t tmpfs -o mode=1777,nosuid,nodev sandbox-shm "$dev/shm"
}

make_run() {
  mount -t tmpfs -o mode=0755,nosuid,nodev sandbox-run "$root/run"
  mkdir "$root/run/sshd" "$root/run/sudo"
  mkdir -m 1777 "$root/run/lock"
  install -m 0664 -g utmp /dev/null "$root/run/utmp"
  echo "made by enter.sh" >"$root/run/sallyport-sandbox" # Inside() looks for it
}

make_network() {
  hostname sandbox
  printf '127.0.0.1 localhost sandbox\n::1 localhost\n' >"$root/etc/hosts"
  ip link set lo up
}

make_root() {
  base=$(spare_directory)
  root=$base/root
  mount -t tmpfs -o mode=0755 sandbox "$base"
  mkdir "$root"
  copy_mount / "$root" || die "cannot lay an overlay over /: is the kernel's overlay file system there?"
  copy_submounts
  local dir
  for dir in "${binds[@]}"; do
    [[ -d $dir && -d $root$dir ]] || die "--bind $dir: no such directory"
    mount --bind "$dir" "$root$dir"
  done
  mount -t proc proc "$root/proc"
  mount -t sysfs -o ro sysfs "$root/sys"
  make_dev
  make_run
  make_network
}

# Runs as process 1 of the sandbox; when it ends the kernel ends all others.
inside() {
  # Guards against being called by hand, which would mount on the machine itself.
  [[ $$ -eq 1 ]] || die "--inside is for enter.sh itself"
  set -E
  trap 'die "could not be made: line $LINENO failed: $BASH_COMMAND"' ERR
  make_root
  trap - ERR
  local status=0
  # shellcheck disable=SC2016 # expands in the new root
  chroot "$root" /bin/bash -c 'cd "$0" && exec "$@"' "$PWD" "$@" || status=$?
  exit "$status"
}

where=outside
if [[ ${1-} == --inside ]]; then
  where=inside
  shift
fi
arguments=("$@")
binds=()
while [[ ${1-} == --* ]]; do
  case $1 in
    --) shift; break ;;
    --bind) binds+=("$(realpath --quiet -e -- "${2-}")") || die "--bind ${2-}: no such directory"; shift 2 ;;
    *) die "unknown option $1; usage: enter.sh [--bind DIR]... [--] CMD [ARG...]" ;;
  esac
done
[[ $# -gt 0 ]] || die "usage: enter.sh [--bind DIR]... [--] CMD [ARG...]"

if [[ $where == outside ]]; then
  outside "${arguments[@]}"
else
  inside "$@"
fi
