#!/usr/bin/env bash
# Every task of the project has one name here: ./build.sh help
set -euo pipefail
cd "$(dirname "$0")"

# The toolchain and the packages that everything needs.
go_version=$(sed -n 's/^toolchain //p' go.mod)

say() { printf '\033[1m==> %s\033[0m\n' "$*" >&2; }
[ -t 2 ] || say() { printf '==> %s\n' "$*" >&2; }
die() { printf 'build.sh: %s\n' "$*" >&2; exit 1; }

# arch is the architecture as Go names it.
arch() {
	case "$(uname -m)" in
	x86_64) echo amd64 ;;
	aarch64 | arm64) echo arm64 ;;
	*) die "no builds for $(uname -m): amd64 and arm64 only" ;;
	esac
}
out=dist/linux-$(arch)
wine=$PWD/internal/testkit/wine

# What is needed, by package manager. Build first, then test, then bench.
apt_packages=(ca-certificates git make gcc libc6-dev pkg-config libpam0g-dev libnghttp2-dev libnanopb-dev
	nanopb protobuf-compiler libprotobuf-dev
	clang libclang-rt-14-dev shellcheck swtpm oathtool pamtester openssh-server openssh-client sudo login passwd
	e2fsprogs mount util-linux iproute2 procps systemd debootstrap wget
	libpam-google-authenticator libpam-oath chromium firefox-esr postgresql)
dnf_packages=(ca-certificates git make gcc glibc-devel pkgconf pam-devel libnghttp2-devel nanopb nanopb-devel
	protobuf-compiler protobuf-devel clang compiler-rt ShellCheck swtpm oathtool pamtester openssh-server openssh-clients
	sudo util-linux shadow-utils e2fsprogs iproute procps-ng systemd debootstrap debian-keyring wget google-authenticator pam_oath golang
	chromium firefox postgresql-server)

as_root() {
	if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null; then sudo "$@"; else
		die "root is needed to install packages: run './build.sh deps' as root"
	fi
}

# libclang-rt is named after clang's version, which differs between releases.
apt_names() {
	local p
	for p in "${apt_packages[@]}"; do
		case $p in
		libclang-rt-14-dev) apt-cache depends clang 2>/dev/null | sed -n 's/^ *Depends: clang-\([0-9]*\)$/libclang-rt-\1-dev/p' | head -n 1 ;;
		*) echo "$p" ;;
		esac
	done
}

task_deps() { # install what is missing: packages, and the Go toolchain
	if command -v apt-get >/dev/null; then
		local missing=()
		mapfile -t missing < <(for p in "${apt_packages[@]}"; do
			[ "$p" = libclang-rt-14-dev ] && continue
			dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || echo "$p"
		done)
		ls -d /usr/lib/llvm-*/lib/clang/*/lib/linux >/dev/null 2>&1 || missing+=(libclang-rt)
		have_go || missing+=(golang-go)
		if [ ${#missing[@]} -gt 0 ]; then
			say "installing: ${missing[*]}"
			as_root apt-get update -qq
			mapfile -t missing < <(for p in "${missing[@]}"; do
				if [ "$p" = libclang-rt ]; then apt_names | grep libclang-rt; else echo "$p"; fi
			done)
			as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
		fi
	elif command -v dnf >/dev/null; then
		local missing=()
		mapfile -t missing < <(for p in "${dnf_packages[@]}"; do rpm -q --quiet "$p" || echo "$p"; done)
		if [ ${#missing[@]} -gt 0 ]; then
			say "installing: ${missing[*]}"
			as_root dnf install -y "${missing[@]}" >&2
		fi
	else
		die "this system has neither apt nor dnf. Install the equivalents of these Debian packages, and Go 1.21 or later, by hand:
  ${apt_packages[*]}"
	fi
	go_path
}

have_go() { command -v go >/dev/null || [ -x /usr/local/go/bin/go ]; }

# go_path puts the toolchain that go.mod names in front. A Go from 1.21 on gets
# it by itself; an older one (Debian 12 has 1.19) can fetch it as the module it is.
go_path() {
	command -v go >/dev/null || PATH=$PATH:/usr/local/go/bin
	have_go || die "there is no Go; run: ./build.sh deps"
	# Asked from outside the module: an old Go cannot read our go.mod.
	local have root module
	module=golang.org/toolchain@v0.0.1-$go_version.linux-$(arch)
	have=$(cd / && go env GOVERSION)
	case $have in
	go1.[0-9] | go1.[0-9].* | go1.1[0-9]* | go1.20*)
		root=$(cd / && go env GOMODCACHE)/$module
		if [ ! -x "$root/bin/go" ]; then
			say "fetching the toolchain $go_version with $have"
			(cd / && GOFLAGS=-mod=mod go mod download "$module")
			chmod -R u+w "$root"
			find "$root/bin" "$root/pkg/tool" -type f -exec chmod +x {} +
		fi
		export PATH=$root/bin:$PATH GOTOOLCHAIN=local
		;;
	*) export GOTOOLCHAIN=auto ;; # Debian's default is to never fetch one
	esac
	# NSS, and so every company directory, is only there with cgo.
	export CGO_ENABLED=1
	# The checkout may belong to another user than root, which git refuses to read.
	export GOFLAGS="${GOFLAGS:-} -buildvcs=false"
}

version() { git describe --tags --always --dirty 2>/dev/null || echo dev; }

task_build() { # build dist/linux-$arch/{sallyport,sallyport-try,sallyport-authority,pam_sallyport.so}
	## build windows: build dist/windows-{amd64,arm64}/{sallyport.exe,SallyportCredentialProvider.dll}
	case ${1-} in
	'') build_linux ;;
	windows) build_windows ;;
	*) die "no build for '$1'" ;;
	esac
}

build_linux() {
	task_deps
	mkdir -p "$out"
	say "building $out"
	local flags=(-trimpath -buildmode=pie -ldflags "-s -w -X main.version=$(version)")
	go build "${flags[@]}" -o "$out/sallyport" ./agent
	go build "${flags[@]}" -o "$out/sallyport-try" ./pam/try
	# Without C: it needs no NSS, and its SQLite is Go.
	CGO_ENABLED=0 go build "${flags[@]}" -o "$out/sallyport-authority" ./authority
	make -s -C pam OUT="$PWD/$out"
}

# The programs for Windows are built on Linux: the agent by Go alone, the
# credential provider by the compilers in the Wine root, which needs root.
build_windows() {
	local to sysroot
	task_deps
	for to in amd64 arm64; do
		say "building dist/windows-$to"
		mkdir -p "dist/windows-$to"
		GOOS=windows GOARCH=$to CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$(version)" \
			-o "dist/windows-$to/sallyport.exe" ./agent
		sysroot=$(credprovider/third_party/sysroot.sh "$to")
		"$wine/enter.sh" --bind "$sysroot" -- \
			make -s -C credprovider ARCH="$to" SYSROOT="$sysroot" OUT="$PWD/dist/windows-$to" VERSION="$(version)"
	done
}

task_package() {
	## package windows: build dist/windows-amd64/Sallyport-VERSION-amd64.msi
	[ "${1-}" = windows ] || die "what package? There is: ./build.sh package windows"
	build_windows
	say "packing dist/windows-amd64"
	installer/windows/build.sh "$(version)" "$PWD/dist/windows-amd64" "$PWD/dist/windows-amd64"
}

# built builds, unless SALLYPORT_BUILT says that it is done: a test that runs a
# task must not change what others are testing.
built() { if [ -n "${SALLYPORT_BUILT:-}" ]; then go_path; else build_linux; fi; }

# generate writes the code made from proto/ below $1.
generate() {
	protoc -I proto --go_out="$1" --go_opt=module=sallyport --go-grpc_out="$1" --go-grpc_opt=module=sallyport \
		--plugin=protoc-gen-go="$(go tool -n protoc-gen-go)" --plugin=protoc-gen-go-grpc="$(go tool -n protoc-gen-go-grpc)" \
		sallyport/login/v1/login.proto sallyport/admin/v1/admin.proto sallyport/authority/v1/authority.proto
	mkdir -p "$1/internal/hookclient/pb"
	nanopb_generator -q -I proto -D "$1/internal/hookclient/pb" -f proto/sallyport/login/v1/login.options sallyport/login/v1/login.proto
}
nanopb_generator() { if command -v nanopb_generator.py >/dev/null; then nanopb_generator.py "$@"; else command nanopb_generator "$@"; fi; }

task_proto() { # write the code generated from proto/ anew
	task_deps
	generate .
}

task_lint() { # gofmt, vet, staticcheck, shellcheck, and whether generated code is current
	task_deps
	say lint
	local bad
	bad=$(gofmt -l agent authority authplugin credprovider internal pam proto installer 2>/dev/null || true)
	[ -z "$bad" ] || die "not gofmt'ed: $bad"
	go vet ./...
	go tool staticcheck ./...
	lint_windows
	find . -name '*.sh' -not -path './dist/*' -print0 | xargs -0 shellcheck .ci/run
	local tmp
	tmp=$(mktemp -d)
	generate "$tmp"
	local f
	while IFS= read -r f; do
		# nanopb's output differs between its versions; they work together (0.4.x).
		if [[ $f == *.pb.[ch] && $(sed -n 's/.*Generated by //p' "$f") != "$(sed -n 's/.*Generated by //p' "${f#"$tmp"/}")" ]]; then
			say "not compared, as another nanopb is installed here: ${f#"$tmp"/}"
			continue
		fi
		# protoc writes its version into a comment.
		diff <(grep -v '^//' "$f") <(grep -v '^//' "${f#"$tmp"/}") >/dev/null ||
			die "${f#"$tmp"/} is not what proto/ says; run: ./build.sh proto"
	done < <(find "$tmp" -type f)
	rm -rf "$tmp"
}

# lint_windows vets the Windows packages. The tools themselves are Linux programs.
lint_windows() {
	local packages staticcheck
	packages=$(windows_packages)
	staticcheck=$(go tool -n staticcheck)
	GOOS=windows CGO_ENABLED=0 xargs go vet <<<"$packages"
	GOOS=windows CGO_ENABLED=0 xargs "$staticcheck" <<<"$packages"
}

# windows_packages are those that the agent for Windows is made of, and what
# helps to test them there.
windows_packages() {
	GOOS=windows CGO_ENABLED=0 go list -deps -f '{{if .Module}}{{if .Module.Main}}{{.ImportPath}}{{end}}{{end}}' \
		./agent ./internal/testkit/wine/... ./credprovider/hosttest/relay
}

task_test() { # lint, build, and every test
	## test windows: only what is for Windows, under Wine
	local why='' tests=(./...)
	[ "$(id -u)" = 0 ] || why="it needs root"
	[ "$(arch)" = amd64 ] || why="Wine runs on amd64 only"
	case ${1-} in
	'')
		task_lint
		build_linux
		;;
	windows)
		[ -z "$why" ] || die "Windows programs cannot be tested here: $why"
		task_deps
		lint_windows
		# These run on Linux and drive Wine.
		tests=(./agent/wintest ./credprovider/... ./installer/windows/... ./internal/testkit/wine/...)
		;;
	*) die "no tests of '$1'" ;;
	esac
	if [ -z "$why" ]; then
		build_windows
		export SALLYPORT_WINDOWS_DIST=$PWD/dist/windows-amd64
	else
		say "WINDOWS PROGRAMS ARE NOT TESTED: $why"
	fi
	say tests
	local log status=0
	log=$(mktemp)
	go test -race -count=1 -timeout 25m -json "${tests[@]}" >"$log" || status=$?
	[ -n "$why" ] || test_under_wine >>"$log" || status=$?
	go run ./internal/testkit/summary <"$log" || status=1
	rm -f "$log"
	return "$status"
}

# test_under_wine runs the tests of the Windows packages as Windows programs. Those
# with random damage get fewer rounds: the same code was tried at length on Linux.
test_under_wine() {
	local packages
	packages=$(windows_packages) || return
	printf '%s\n' '{"Action":"output","Output":"as Windows programs, under Wine:\n"}'
	GOOS=windows GOARCH=amd64 CC=$wine/cc.sh \
		xargs go test -race -short -count=1 -timeout 10m -json -exec "$wine/exec.sh" <<<"$packages"
}

task_demo() { # a real login being guarded: sshd, in a private machine
	## demo push: the same, approved on a phone
	[ "$(id -u)" = 0 ] || die "the demo makes a private machine and needs root: sudo ./build.sh demo"
	built
	go build -trimpath -o "$out/demo" ./pam/demo
	# Through the outer /proc the demo learns the process id to reach it by from outside.
	exec 3</proc
	exec internal/testkit/sandbox/enter.sh -- "$PWD/$out/demo" "$@"
}

task_bench() { # speed and memory beside the peers, and the targets
	## bench authority: the same of the authority
	[ "$(id -u)" = 0 ] || die "the bench makes a private machine and needs root: sudo ./build.sh bench"
	build_linux
	if [ "${1:-}" = authority ]; then
		shift
		go build -o "$out/bench-authority" ./authority/bench
		exec "$out/bench-authority" -dist "$out" "$@"
	fi
	go build -o "$out/bench" ./pam/bench
	exec "$out/bench" -dist "$out" "$@"
}

task_clean() { # remove what was built
	rm -rf dist
}

task_help() { # this list
	echo "usage: ./build.sh TASK"
	sed -n 's/^task_\([a-z]*\)() { # \(.*\)/  \1\t\2/p; s/^\t## \(.*\): \(.*\)/  \1\t\2/p' "$0" | expand -t 20
}

task=${1:-help}
[ $# -eq 0 ] || shift
declare -F "task_$task" >/dev/null || { task_help >&2; die "no task '$task'"; }
"task_$task" "$@"
