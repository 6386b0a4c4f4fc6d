#!/usr/bin/env bash
# exec.sh PROGRAM.exe [ARG...]
#
# For go test and go run: GOOS=windows go test -exec .../exec.sh PACKAGE...
# Runs the program under Wine, in a prefix of its own. What Go's own variables
# say, and the directories in which the go command waits for results, pass.
set -euo pipefail

here=$(dirname "$(realpath "$0")")
options=(--bind "$(dirname "$(realpath "$1")")")
for name in GODEBUG GOGC GOMAXPROCS GOMEMLIMIT GORACE GOTRACEBACK GOCOVERDIR; do
  options+=(--env "$name")
done
for argument; do
  case $argument in
    -test.coverprofile=* | -test.cpuprofile=* | -test.memprofile=* | -test.blockprofile=* | \
      -test.mutexprofile=* | -test.trace=* | -test.testlogfile=*)
      options+=(--bind "$(dirname "${argument#*=}")") ;;
    -test.outputdir=* | -test.gocoverdir=*) options+=(--bind "${argument#*=}") ;;
  esac
done
exec "$here/enter.sh" "${options[@]}" -- wine "$@"
