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

# What is needed, by package manager. Build first, then test, then bench. See apt_name too.
apt_packages=(ca-certificates git make gcc libc6-dev pkg-config libpam0g-dev libnghttp2-dev libnanopb-dev
	nanopb protobuf-compiler libprotobuf-dev
	clang shellcheck swtpm oathtool pamtester openssh-server openssh-client sudo login passwd
	e2fsprogs mount util-linux iproute2 procps systemd debootstrap wget xz-utils patch
	libpam-google-authenticator libpam-oath chromium firefox-esr postgresql lintian rpm cross-gcc cross-libc
	selinux-policy-default setools)
# For what is for macOS, see macos_lacks; and npm, which also comes with others' packages of Node.
macos_apt_packages=(clang-19 lld-19 llvm-19 gobjc libgnustep-gui-dev xvfb xdotool valgrind
	libarchive-tools busybox)
dnf_packages=(ca-certificates git make gcc glibc-devel pkgconf pam-devel libnghttp2-devel nanopb nanopb-devel
	protobuf-compiler protobuf-devel clang compiler-rt ShellCheck swtpm oathtool pamtester openssh-server openssh-clients
	sudo util-linux shadow-utils e2fsprogs iproute procps-ng systemd debootstrap debian-keyring wget xz patch google-authenticator pam_oath golang
	chromium firefox postgresql-server)

on_mac() { [ "$(uname -s)" = Darwin ]; }

as_root() {
	if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null; then sudo "$@"; else
		die "root is needed to install packages: run './build.sh deps' as root"
	fi
}

# apt_get waits for another that installs, as a new machine does by itself.
apt_get() { as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::Retries=5 -o DPkg::Lock::Timeout=600 "$@"; }

installed() { dpkg-query -W -f='${Status}' "$1" 2>/dev/null | grep -q 'ok installed'; }

# offered PACKAGE: this release has it, or apt has no lists yet and cannot say.
offered() { [ -n "$(apt-cache madison "$1" 2>/dev/null)" ] || [ -z "$(apt-cache madison bash 2>/dev/null)" ]; }

# A Mac is the build machine of somebody, so nothing is installed there.
deps_on_mac() {
	local tool missing=
	xcrun --find clang >/dev/null 2>&1 || die "Xcode's command line tools are missing: xcode-select --install"
	for tool in flock wget sha256sum realpath; do
		command -v "$tool" >/dev/null || missing="$missing $tool"
	done
	[ "${BASH_VERSINFO[0]}" -ge 5 ] || missing="$missing bash-5"
	[ -z "$missing" ] || die "missing on this Mac:$missing. With Homebrew: brew install bash coreutils flock wget"
}

# apt_name prints what this release calls a package, if it has it: some are named
# after a version, which differs between releases, or after the other architecture.
apt_name() {
	case $1 in
	libclang-rt) apt-cache depends clang 2>/dev/null | sed -n 's/^ *Depends: clang-\([0-9]*\)$/libclang-rt-\1-dev/p' | head -n 1 ;;
	cross-gcc) echo "gcc-$(case "$(arch)" in amd64) echo aarch64 ;; *) echo x86-64 ;; esac)-linux-gnu" ;;
	cross-libc) echo "libc6-dev-$(case "$(arch)" in amd64) echo arm64 ;; *) echo amd64 ;; esac)-cross" ;;
	gnustep-back) apt-cache pkgnames gnustep-back | grep -x 'gnustep-back[0-9.]*-cairo' | sort -V | tail -n 1 ;;
	*) [[ " ${macos_apt_packages[*]} " == *" $1 "* ]] && ! offered "$1" || echo "$1" ;;
	esac
}

task_deps() { # install what is missing: packages, and the Go toolchain
	if on_mac; then
		deps_on_mac
	elif command -v apt-get >/dev/null; then
		local missing=()
		mapfile -t missing < <(for p in "${apt_packages[@]}"; do
			installed "$(apt_name "$p")" || echo "$p"
		done
		for p in "${macos_apt_packages[@]}"; do
			installed "$p" || ! offered "$p" || echo "$p"
		done
		command -v npm >/dev/null || echo npm)
		ls -d /usr/lib/llvm-*/lib/clang/*/lib/linux >/dev/null 2>&1 || missing+=(libclang-rt)
		installed 'gnustep-back*-cairo' || missing+=(gnustep-back)
		have_go || missing+=(golang-go)
		if [ ${#missing[@]} -gt 0 ]; then
			say "installing: ${missing[*]}"
			apt_get update
			mapfile -t missing < <(for p in "${missing[@]}"; do
				apt_name "$p"
			done)
			apt_get install -y --no-install-recommends "${missing[@]}" >&2
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
	# grpcnotrace leaves out gRPC's trace pages and the HTML templates they bring, and so
	# 3 MB of the agent, on disk and in memory (gRPC's trace_notrace.go).
	export GOFLAGS="${GOFLAGS:-} -buildvcs=false -tags=grpcnotrace"
}

# version is what git says, or SALLYPORT_VERSION in sources without a history.
version() { [ -n "${SALLYPORT_VERSION:-}" ] && echo "$SALLYPORT_VERSION" || git describe --tags --always --dirty 2>/dev/null || echo dev; }

task_build() { # build dist/linux-$arch/{sallyport,sallyport-try,sallyport-authority,pam_sallyport.so}
	## build windows: build dist/windows-{amd64,arm64}/{sallyport.exe,SallyportCredentialProvider.dll}
	## build macos: build dist/macos-universal/{sallyport,Sallyport.bundle,pam_sallyport.so.2}; on Linux in .../unreleasable
	case ${1-} in
	'') build_linux ;;
	windows) build_windows ;;
	macos) build_macos ;;
	*) die "no build for '$1'" ;;
	esac
}

build_linux() {
	task_deps
	build_agent "$(arch)"
	# Without C: it needs no NSS, and its SQLite is Go.
	CGO_ENABLED=0 go build "${flags[@]}" -o "$out/sallyport-authority" ./authority
}

# build_agent ARCH builds dist/linux-ARCH/{sallyport,sallyport-try,pam_sallyport.so}. For
# another architecture than this computer's it takes a cross compiler and Debian's libraries.
build_agent() {
	local to=$1 libs gnu=x86_64-linux-gnu
	local -a env=() tools=()
	flags=(-trimpath -buildmode=pie -ldflags "-s -w -buildid= -bindnow -X main.version=$(version)")
	if [ "$to" != "$(arch)" ]; then
		[ "$to" = amd64 ] || gnu=aarch64-linux-gnu
		libs=$(installer/linux/sysroot.sh "$to")
		env=(GOARCH="$to" CC="$gnu-gcc" CGO_CFLAGS="-O2 -isystem $libs/include" CGO_LDFLAGS="-L$libs/lib -Wl,-rpath-link,$libs/lib")
		tools=(CC="$gnu-gcc" STRIP="$gnu-strip" CPPFLAGS="-isystem $libs/include" LDFLAGS="-L$libs/lib")
	fi
	mkdir -p "dist/linux-$to"
	say "building dist/linux-$to"
	env "${env[@]}" go build "${flags[@]}" -o "dist/linux-$to/sallyport" ./agent
	env "${env[@]}" go build "${flags[@]}" -o "dist/linux-$to/sallyport-try" ./pam/try
	make -s -C pam OUT="$PWD/dist/linux-$to" "${tools[@]}"
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

# macos_dist is where programs for macOS go. Those that are linked without Apple's
# SDK are for checking only, and lie where nobody takes them for a release.
macos_dist() { if on_mac; then echo "dist/macos-$1"; else echo "dist/macos-$1/unreleasable"; fi; }

# macos_lacks says what is missing here to build for macOS, if anything is.
macos_lacks() {
	local tool
	on_mac || for tool in clang-19 ld64.lld-19 llvm-lipo-19 npm; do
		command -v "$tool" >/dev/null || { echo "$tool is missing"; return; }
	done
}

# go_macos runs a command for macOS on arm64, or on what GOARCH says, with C.
go_macos() { GOOS=darwin GOARCH="${GOARCH:-arm64}" CGO_ENABLED=1 CC=$PWD/authplugin/sdk/cc.sh "$@"; }

build_macos() {
	local to dist why agents=()
	task_deps
	why=$(macos_lacks)
	[ -z "$why" ] || die "programs for macOS cannot be built here: $why"
	for to in arm64 amd64; do
		dist=$(macos_dist "$to")
		say "building $dist"
		mkdir -p "$dist"
		# -w: Go would have dsymutil pick up what a debugger needs.
		GOARCH=$to go_macos go build -trimpath -ldflags "-w -X main.version=$(version)" -o "$dist/sallyport" ./agent
		agents+=("$PWD/$dist/sallyport")
	done
	dist=$(macos_dist universal)
	say "building $dist"
	make -s -j2 -f authplugin/darwin.mk OUT="$PWD/$dist" VERSION="$(version)" AGENTS="${agents[*]}"
	go run ./authplugin/sdk/check "$dist"
}

task_package() {
	## package linux: build dist/packages/*.deb and *.rpm for amd64 and arm64, SHA256SUMS and the SBOM
	## package windows: build dist/windows-amd64/Sallyport-VERSION-amd64.msi
	## package macos: build dist/macos-universal/Sallyport-VERSION.pkg; on Linux in .../unreleasable
	local dist
	case ${1-} in
	linux)
		package_linux
		return
		;;
	windows)
		build_windows
		dist=dist/windows-amd64
		;;
	macos)
		build_macos
		dist=$(macos_dist universal)
		;;
	*) die "what package? There are: ./build.sh package linux|windows|macos" ;;
	esac
	say "packing $dist"
	"installer/$1/build.sh" "$(version)" "$PWD/$dist" "$PWD/$dist"
}

# Everything in the packages is dated by the commit, so that the same sources give the same bytes.
package_linux() {
	local to dist=dist/packages nanopb
	task_deps
	SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
	export SOURCE_DATE_EPOCH
	rm -rf "$dist"
	mkdir -p "$dist"
	for to in amd64 arm64; do
		build_agent "$to"
	done
	for to in amd64 arm64; do
		SALLYPORT_AGENT=$PWD/$out/sallyport installer/linux/build.sh "$(version)" "$to" "dist/linux-$to" "$dist"
	done
	nanopb=$(echo NANOPB_VERSION | cc -E -P -include pb.h - | sed -n 's/^"nanopb-\(.*\)"$/\1/p')
	go run ./installer/linux/sbom -version "$(version)" -time "$SOURCE_DATE_EPOCH" -static "nanopb@$nanopb" \
		dist/linux-{amd64,arm64}/{sallyport,sallyport-try,pam_sallyport.so} >"$dist/sallyport.cdx.json"
	(cd "$dist" && LC_ALL=C && sha256sum -- *.deb *.rpm *.json >SHA256SUMS)
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
	lint_macos
	find . -name '*.sh' -not -path './dist/*' -print0 | xargs -0 shellcheck -x .ci/run installer/macos/uninstall installer/macos/scripts/{pre,post}install
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

# lint_macos vets the macOS packages, without C and with it.
lint_macos() {
	local packages staticcheck why
	staticcheck=$(go tool -n staticcheck)
	packages=$(GOOS=darwin GOARCH=arm64 CGO_ENABLED=0 macos_packages)
	GOOS=darwin GOARCH=arm64 CGO_ENABLED=0 xargs go vet <<<"$packages"
	GOOS=darwin GOARCH=arm64 CGO_ENABLED=0 xargs "$staticcheck" <<<"$packages"
	why=$(macos_lacks)
	if [ -n "$why" ]; then
		say "NOT VETTED with C for macOS: $why"
		return
	fi
	packages=$(go_macos macos_packages)
	go_macos xargs go vet <<<"$packages"
	go_macos xargs "$staticcheck" <<<"$packages"
}

# macos_packages are those that the agent for macOS is made of, and what builds it there.
macos_packages() {
	go list -deps -f '{{if .Module}}{{if .Module.Main}}{{.ImportPath}}{{end}}{{end}}' \
		./agent ./authplugin/sdk/... ./installer/macos/...
}

task_test() { # lint, build, and every test
	## test windows: only what is for Windows, under Wine
	## test macos: only what is for macOS, on Linux
	local why='' why_macos tests=(./...)
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
	macos)
		task_deps
		lint_macos
		tests=(./authplugin/... ./installer/macos/... ./pam/sudolocal/...)
		;;
	*) die "no tests of '$1'" ;;
	esac
	why_macos=$(macos_lacks)
	if [ "${1-}" = windows ]; then
		why_macos="not asked for"
	elif [ -z "$why_macos" ]; then
		build_macos
		SALLYPORT_MACOS_DIST=$PWD/$(macos_dist universal)
		export SALLYPORT_MACOS_DIST
	elif [ "${1-}" = macos ]; then
		die "macOS programs cannot be tested here: $why_macos"
	else
		say "MACOS PROGRAMS ARE NOT TESTED: $why_macos"
	fi
	if [ "${1-}" = macos ]; then
		why="not asked for"
	elif [ -z "$why" ]; then
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

task_delays() { # tests with goroutines that wait at random, to find those that go by luck
	## delays [-count=20 -run NAME] PACKAGE...: what 'go test' takes
	[ $# -gt 0 ] || die "say which: ./build.sh delays -count=20 ./agent/link"
	task_deps
	local overlay
	overlay=$(go run ./internal/testkit/delays dist/.delays) # Go looks for no packages in it
	# What the tests build has the delays as well.
	GOFLAGS="$GOFLAGS -overlay=$overlay" GOMAXPROCS=4 go test -race -count=1 -timeout 2h "$@"
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
