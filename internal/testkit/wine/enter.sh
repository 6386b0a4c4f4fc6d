#!/usr/bin/env bash
# enter.sh [--bind DIR]... [--env NAME]... [--] CMD [ARG...]
# enter.sh [--bind DIR]... --hold
# enter.sh --join PID [--env NAME]... [--] CMD [ARG...]
#
# Runs CMD in the Wine root (root.sh, which makes it first where needed) with a
# Wine prefix of its own: Z: is the root's /, and Windows programs are run with
# "wine PROGRAM.exe". The working directory stays the same. Everything written
# is forgotten, but for what lies below this repository, Go's caches and what
# was bound. All processes end with CMD, the wineserver too.
#
# --bind DIR  DIR is there too, under the same name, and what is written is kept.
# --env NAME  this variable is passed on; all others are not.
# --hold      makes the place, starts Windows in it, prints a process id, and
#             keeps the place until stdin ends.
# --join PID  runs CMD in the place that is held under this process id. CMD ends
#             with enter.sh, but what CMD started may live on in the place.
#
# Exit status: CMD's; 125 when the place could not be made; 128+N when enter.sh
# was ended by signal N. However enter.sh ends, SIGKILL included, everything in
# the place is killed, and the kernel takes the mounts away with it.
#
# The network is the machine's own. Not a security boundary.
set -euo pipefail
shopt -s inherit_errexit

here=$(dirname "$(realpath "$0")")
# shellcheck source-path=SCRIPTDIR source=environment.sh
. "$here/environment.sh"

usage="usage: enter.sh [--bind DIR]... [--env NAME]... [--hold | [--join PID] [--] CMD [ARG...]]"

# Everything below unshare(1) dies with it (--kill-child), and it dies with us
# (--pdeathsig), whatever ends us. It ignores SIGTERM itself, hence the trap.
outside() {
  local tool
  [[ $EUID -eq 0 ]] || fail "the Wine root can be entered by root only"
  for tool in unshare setpriv mount pivot_root; do
    command -v "$tool" >/dev/null || fail "$tool is missing: ./build.sh deps installs it"
  done
  root=$("$here/root.sh")
  # Where Go's programs and caches are, for a compiler that Go calls.
  if command -v go >/dev/null; then
    mapfile -t -O "${#binds[@]}" binds < <(go env GOROOT GOMODCACHE GOCACHE)
  fi
  export WINE_ROOT=$root

  # A shell's background job has SIGINT ignored and no stdin: give both back.
  setpriv --pdeathsig KILL env --default-signal=INT,QUIT \
    unshare --mount --propagation private --pid --fork --kill-child --ipc \
    bash "$0" --inside "${binds[@]/#/--bind=}" "${names[@]/#/--env=}" ${hold:+--hold} -- "$@" <&0 &
  local child=$! signal status=0
  for signal in HUP INT TERM; do
    # shellcheck disable=SC2064 # child is meant to expand now
    trap "kill -KILL $child 2>/dev/null; exit $((128 + $(kill -l "$signal")))" "$signal"
  done
  wait "$child" || status=$?
  exit "$status"
}

# make_place turns this mount namespace into the root's: an overlay, so that all
# users of the root share what is read and none sees what another wrote.
make_place() {
  local base=$WINE_ROOT/mnt place=$WINE_ROOT/mnt/root dir file
  mount -t tmpfs -o mode=0755 wine "$base"
  mkdir "$base/upper" "$base/work" "$place"
  mount -t overlay -o "lowerdir=$WINE_ROOT,upperdir=$base/upper,workdir=$base/work" overlay "$place"
  mount -t tmpfs -o mode=1777,nosuid,nodev wine-tmp "$place/tmp"
  for dir in "${binds[@]}"; do
    [[ -d $dir ]] || continue # a cache that nothing was written to yet
    mkdir -p "$place$dir"
    mount --rbind "$dir" "$place$dir"
  done
  for file in /etc/resolv.conf /etc/hosts; do
    [[ ! -e $file ]] || cp --dereference "$file" "$place$file"
  done
  mount -t sysfs -o ro sysfs "$place/sys"
  make_dev "$place/dev"
  mount -t proc proc "$place/proc"
  # Not chroot(1): who joins this namespace must find the same root.
  cd "$place"
  pivot_root . mnt
  umount --lazy /mnt
}

# command_line CMD... sets line to what runs it in the working directory with
# nothing but the wanted variables in its environment.
command_line() {
  local name
  for name in "${names[@]}"; do
    [[ -z ${!name+set} ]] || environment+=("$name=${!name}")
  done
  # shellcheck disable=SC2016 # expands in the root
  line=(env -i "${environment[@]}" bash -c 'cd "$0" || exit 125; exec "$@"' "$PWD" "$@")
}

# Runs as process 1 of the place; when it ends the kernel ends all others.
inside() {
  # Guards against being called by hand, which would mount on the machine itself.
  [[ $$ -eq 1 ]] || fail "--inside is for enter.sh itself"
  local status=0 outer
  read -r outer _ </proc/self/stat # /proc is still the outer one
  command_line "$@"
  set -E
  trap 'fail "the place could not be made: line $LINENO failed: $BASH_COMMAND"' ERR
  make_place
  if [[ -n $hold ]]; then
    env -i "${environment[@]}" wineserver --persistent
    env -i "${environment[@]}" wine cmd /c exit # starts Windows: services and all
    trap - ERR
    echo "$outer"
    exec >/dev/null
    read -r -d '' _ || exit 0
  fi
  trap - ERR
  "${line[@]}" || status=$?
  exit "$status"
}

# join runs a command in a place that is held, and lets it die with us.
join() {
  command_line "$@"
  exec nsenter --target "$join" --mount --pid --ipc -- setpriv --pdeathsig KILL "${line[@]}"
}

binds=("$(realpath "$here/../../..")") names=() where=outside hold='' join=''
while [[ ${1-} == --* ]]; do
  case $1 in
    --) shift; break ;;
    --inside) where=inside binds=(); shift ;;
    --hold) hold=yes; shift ;;
    --join) join=${2-} where=join; shift 2 ;;
    --bind=*) binds+=("${1#*=}"); shift ;;
    --env=*) names+=("${1#*=}"); shift ;;
    --bind) binds+=("$(realpath --quiet -e -- "${2-}")") || fail "--bind ${2-}: no such directory"; shift 2 ;;
    --env) names+=("${2-}"); shift 2 ;;
    *) fail "unknown option $1; $usage" ;;
  esac
done
[[ $# -gt 0 || -n $hold ]] || fail "$usage"
"$where" "$@"
