//go:build linux

package sdk

import (
	"bytes"
	"debug/macho"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// tools skips the test where there is no compiler for macOS.
func tools(t *testing.T) {
	t.Helper()
	for _, tool := range []string{"clang-19", "ld64.lld-19", "llvm-lipo-19", "npm"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip("needs the tools for macOS: " + err.Error())
		}
	}
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v: %s", name, args, err, out)
	}
}

var archs = []string{"arm64", "x86_64"}

// link links the probe for both processors, or for these.
func link(t *testing.T, archs []string, args ...string) (file string) {
	t.Helper()
	dir := t.TempDir()
	var halves []string
	for _, arch := range archs {
		half := filepath.Join(dir, arch)
		run(t, "./cc.sh", append([]string{"-arch", arch, "-O1", "-Wall", "-Werror", "-o", half, "testdata/probe.c", "-framework", "CoreFoundation"}, args...)...)
		halves = append(halves, half)
	}
	file = filepath.Join(dir, "probe")
	run(t, "llvm-lipo-19", append([]string{"-create", "-output", file}, halves...)...)
	return file
}

var (
	bundle  = []string{"-bundle", "-Wl,-fixup_chains", "-Wl,-exported_symbol,_Probe"}
	probe   = product{kind: macho.TypeBundle, exports: []string{"_Probe"}}
	program = product{kind: macho.TypeExec}
)

func mustNotice(t *testing.T, err error, notice string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), notice) {
		t.Errorf("%v; want it to say %q", err, notice)
	}
}

// A stub that names the wrong framework is invisible until dyld refuses what was
// linked with it.
func TestAStubThatNamesTheWrongFrameworkIsNoticed(t *testing.T) {
	tools(t)
	if err := probe.check(link(t, archs, bundle...)); err != nil {
		t.Fatal(err)
	}

	// The same, where Security's stub has what is in Core Foundation.
	wrong := t.TempDir()
	if err := os.CopyFS(wrong, os.DirFS("System/Library/Frameworks")); err != nil {
		t.Fatal(err)
	}
	move := func(from, to, symbol string) {
		t.Helper()
		edit(t, filepath.Join(wrong, from), "      - "+symbol+"\n", "")
		edit(t, filepath.Join(wrong, to), "    symbols:\n", "    symbols:\n      - "+symbol+"\n")
	}
	move("CoreFoundation.framework/CoreFoundation.tbd", "Security.framework/Security.tbd", "_CFRelease")
	file := link(t, archs, append([]string{"-F" + wrong, "-Wl,-F" + wrong, "-framework", "Security"}, bundle...)...)
	err := probe.check(file)
	for _, cpu := range []string{"CpuArm64", "CpuAmd64"} {
		mustNotice(t, err, "("+cpu+"): _CFRelease is taken from /System/Library/Frameworks/Security.framework/Versions/A/Security,"+
			" and is in /System/Library/Frameworks/CoreFoundation.framework/Versions/A/CoreFoundation")
	}
}

func edit(t *testing.T, file, old, replacement string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), old) {
		t.Fatalf("%s has no %q", file, old)
	}
	// #nosec G703 -- below the test's own directory
	if err := os.WriteFile(file, []byte(strings.Replace(string(text), old, replacement, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Go's standard library says of each symbol that it takes from macOS which library has
// it: a witness who knows nothing of our stubs.
func TestTheStubsSayWhatGoSays(t *testing.T) {
	owner, err := owners()
	if err != nil {
		t.Fatal(err)
	}
	root, err := exec.CommandContext(t.Context(), "go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	source := filepath.Join(strings.TrimSpace(string(root)), "src")
	directive := regexp.MustCompile(`(?m)^//go:cgo_import_dynamic \S+ (\w+) "(/(?:usr/lib|System)/[^"]*)"$`)
	compared := make(map[string]int)
	for _, dir := range []string{"crypto/x509/internal/macos", "internal/syscall/unix", "runtime", "syscall"} {
		files, err := filepath.Glob(filepath.Join(source, dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, match := range directive.FindAllStringSubmatch(string(text), -1) {
				symbol, library := "_"+match[1], match[2]
				if want := owner[symbol]; want != library && (want != "" || library != libSystem) {
					t.Errorf("%s is in %s, and the stubs say %q", symbol, library, want)
				}
				compared[library]++
			}
		}
	}
	for library, least := range map[string]int{libSystem: 100, "/usr/lib/libresolv.9.dylib": 3,
		"/System/Library/Frameworks/CoreFoundation.framework/Versions/A/CoreFoundation": 10,
		"/System/Library/Frameworks/Security.framework/Versions/A/Security":             5} {
		if compared[library] < least {
			t.Errorf("of %s %d symbols were compared", library, compared[library])
		}
	}
}

func TestAStubIsReadWholly(t *testing.T) {
	stubs, err := Stubs()
	if err != nil {
		t.Fatal(err)
	}
	if len(stubs) < 6 {
		t.Errorf("%d stubs", len(stubs))
	}
	path := regexp.MustCompile(`^(/usr/lib/lib[a-z]+\.[0-9A-Z]\.dylib|/System/Library/Frameworks/([A-Za-z]+)\.framework/Versions/[AC]/([A-Za-z]+))$`)
	for _, stub := range stubs {
		if m := path.FindStringSubmatch(stub.InstallName); m == nil || m[2] != m[3] {
			t.Errorf("%s: %s is no library of macOS's", stub.File, stub.InstallName)
		}
		if name := strings.TrimSuffix(filepath.Base(stub.File), ".tbd"); !strings.Contains(stub.InstallName, "/"+name) {
			t.Errorf("%s is for %s", stub.File, stub.InstallName)
		}
		text, err := files.ReadFile(stub.File)
		if err != nil {
			t.Fatal(err)
		}
		lines := bytes.Count(text, []byte("\n      - "))
		for _, symbol := range stub.Symbols {
			if symbol[0] != '_' {
				t.Errorf("%s: %s is no symbol of C's", stub.File, symbol)
			}
			if !strings.HasPrefix(symbol, "_OBJC_METACLASS_$_") { // two of one line
				lines--
			}
		}
		if lines != 0 {
			t.Errorf("%s: %d lines are read as nothing", stub.File, lines)
		}
	}
	for _, bad := range []string{"", "install-name: '/usr/lib/x'\n", "install-name: '/usr/lib/x'\n      - _x\n", "    symbols:\n      - _x\n"} {
		if s, err := parseStub(bad); err == nil {
			t.Errorf("%q is read as %v", bad, s)
		}
	}
}

func TestEachWeaknessOfABundleIsNoticed(t *testing.T) {
	tools(t)
	for _, test := range []struct {
		name   string
		with   []string
		notice string
	}{
		{"one export more", []string{"-Wl,-exported_symbol,_More"}, "exports [_More _Probe], and should export [_Probe]"},
		{"no signature", []string{"-Wl,-no_adhoc_codesign"}, "is not signed, not even ad hoc"},
		{"newer than macOS 12", []string{"-Wl,-platform_version,macos,13.0,13.0"}, "is not for macOS from 12.0 on"},
		{"older than macOS 12", []string{"-Wl,-platform_version,macos,11.0,11.0"}, "is not for macOS from 12.0 on"},
		{"a search path", []string{"-Wl,-rpath,@loader_path"}, "has the load command 0x8000001c"},
		{"a library that may be missing", []string{"-Wl,-weak-lresolv"}, "has the load command 0x80000018"},
		{"code that can be written", []string{"-Wl,-segprot,__TEXT,rwx,rwx"}, "segment __TEXT can be written and executed"},
		{"a symbol that may be missing", []string{"-DIMPORT=__attribute__((weak_import))", "-Wl,-U,_somewhere", "-Wl,-exported_symbol,_Elsewhere"}, "_somewhere may be missing"},
		{"a symbol of any library", []string{"-DIMPORT=", "-Wl,-U,_somewhere", "-Wl,-exported_symbol,_Elsewhere"}, "_somewhere is looked for in any library"},
		{"one namespace", []string{"-Wl,-flat_namespace"}, "is linked without: two-level namespace"},
	} {
		t.Run(test.name, func(t *testing.T) {
			mustNotice(t, probe.check(link(t, archs, append(slices.Clone(bundle), test.with...)...)), test.notice)
		})
	}

	good := link(t, archs, bundle...)
	content, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	changed := func(t *testing.T, change func(content []byte) []byte) string {
		t.Helper()
		file := filepath.Join(t.TempDir(), "probe")
		if err := os.WriteFile(file, change(bytes.Clone(content)), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	t.Run("one processor", func(t *testing.T) {
		mustNotice(t, probe.check(link(t, archs[:1], bundle...)), "is for [CpuArm64], and should be for arm64 and x86_64")
	})
	t.Run("not universal", func(t *testing.T) {
		half := filepath.Join(t.TempDir(), "half")
		run(t, "llvm-lipo-19", good, "-thin", "arm64", "-output", half)
		mustNotice(t, probe.check(half), "is not universal")
	})
	t.Run("a foreign library", func(t *testing.T) {
		mustNotice(t, probe.check(changed(t, func(content []byte) []byte {
			return bytes.ReplaceAll(content, []byte("/usr/lib/libSystem.B.dylib"), []byte("/opt/lib/libSystem.B.dylib"))
		})), "needs /opt/lib/libSystem.B.dylib, which has no stub")
	})
	t.Run("a flipped bit in the code", func(t *testing.T) {
		mustNotice(t, probe.check(changed(t, func(content []byte) []byte {
			fat, err := macho.NewFatFile(bytes.NewReader(content))
			if err != nil {
				t.Fatal(err)
			}
			half := fat.Arches[1]
			content[half.Offset+half.Section("__text").Offset] ^= 1
			return content
		})), "its signature does not fit page")
	})
	t.Run("a file that is cut off", func(t *testing.T) {
		for _, size := range []int{0, 4, 100, len(content) / 2, len(content) - 1} {
			if err := probe.check(changed(t, func(content []byte) []byte { return content[:size] })); err == nil {
				t.Errorf("%d of %d bytes are taken for whole", size, len(content))
			}
		}
	})
	t.Run("a bundle as a program", func(t *testing.T) {
		mustNotice(t, program.check(good), "is a Bundle, and should be a Exec")
	})
	t.Run("no such file", func(t *testing.T) {
		if err := CheckAll(t.TempDir()); !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
	})
}

func TestAProgramIsPositionIndependent(t *testing.T) {
	tools(t)
	if err := program.check(link(t, archs, "-DPROGRAM")); err != nil {
		t.Fatal(err)
	}
	mustNotice(t, program.check(link(t, archs[1:], "-DPROGRAM", "-Wl,-no_pie")), "is linked without PIE")
}

// Two slices that were signed before they were put together are signed after it; what
// Go's linker changed after it was signed is noticed.
func TestWhatWasBuiltIsLinkedAsItShouldBe(t *testing.T) {
	dist := os.Getenv("SALLYPORT_MACOS_DIST")
	if dist == "" {
		t.Skip("needs what ./build.sh build macos makes: run ./build.sh test macos")
	}
	if err := CheckAll(dist); err != nil {
		t.Error(err)
	}
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	here, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range products {
		file := filepath.Join(dist, p.name)
		content, err := os.ReadFile(file)
		if err != nil {
			t.Error(err)
			continue
		}
		for _, place := range []string{here + "/", filepath.Join(home, ".cache"), filepath.Join(home, "go/pkg")} {
			if bytes.Contains(content, []byte(place)) {
				t.Errorf("%s names a directory of the machine that built it, below %s", p.name, place)
			}
		}
		if size := len(content); p.kind == macho.TypeBundle && size > 600<<10 {
			t.Errorf("%s has %d bytes; the bound is 600 KiB", p.name, size)
		}
	}
	plist, err := os.ReadFile(filepath.Join(dist, "Sallyport.bundle/Contents/Info.plist"))
	if err != nil {
		t.Fatal(err)
	}
	for key, value := range map[string]string{"CFBundleIdentifier": `com\.sallyport\.plugin`, "CFBundleExecutable": "Sallyport", "CFBundlePackageType": "BNDL",
		"CFBundleShortVersionString": `\d+\.\d+\.\d+`, "CFBundleVersion": `\d+\.\d+\.\d+`, "LSMinimumSystemVersion": `12\.0`, "SallyportVersion": "[^@<]+"} {
		if !regexp.MustCompile(`<key>` + key + `</key>\s*<string>` + value + `</string>`).Match(plist) {
			t.Errorf("Info.plist has no %s that is %s", key, value)
		}
	}
	if bytes.Contains(plist, []byte("<key>NSPrincipalClass")) {
		t.Error("Info.plist names a class to make, and there is none")
	}
}
