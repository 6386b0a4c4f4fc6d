#!/usr/bin/env bash
# cc.sh ARG...
#
# The Wine root's C compiler for Windows on x64, for CC of a go command that
# needs cgo, as for -race: CC=.../cc.sh GOOS=windows CGO_ENABLED=1 go test -race
set -euo pipefail
exec "$(dirname "$(realpath "$0")")/enter.sh" --bind "${TMPDIR:-/tmp}" -- x86_64-w64-mingw32-gcc "$@"
