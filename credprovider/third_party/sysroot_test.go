//go:build linux

// Package thirdparty tests what the credential provider is linked with, and how:
// that sources are what they should be, that both architectures can be built,
// and that check.sh notices what is wrong with a DLL.
package thirdparty

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/internal/testkit/wine"
)

// builder builds the DLL and the program in testdata, in the Wine root.
type builder struct {
	t       *testing.T
	dirs    func() string // gives new directories that the root sees
	windows *wine.Wine
	arch    string
	sysroot string
	source  string // this directory
}

func newBuilder(t *testing.T, arch string) *builder {
	t.Helper()
	if err := wine.Possible(); err != nil {
		t.Skip("needs the Wine root: " + err.Error())
	}
	source, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "./sysroot.sh", arch)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("sysroot.sh %s: %v: %s", arch, err, complaint.String())
	}
	sysroot := strings.TrimSpace(string(out))
	return &builder{t: t, dirs: t.TempDir, windows: wine.New(t, sysroot), arch: arch, sysroot: sysroot, source: source}
}

// in is the builder for a subtest.
func (b *builder) in(t *testing.T) *builder {
	sub := *b
	sub.t = t
	return &sub
}

// run runs a program of the root, or of Windows if it is an .exe.
func (b *builder) run(name string, args ...string) (string, error) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 5*time.Minute)
	defer cancel()
	command := b.windows.Unix
	if strings.HasSuffix(name, ".exe") {
		command = b.windows.Command
	}
	cmd := command(ctx, name, args...)
	cmd.Dir = b.source
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		b.t.Fatalf("%s %q does not end: %s", name, args, out)
	}
	return string(out), err
}

func (b *builder) mustRun(name string, args ...string) string {
	b.t.Helper()
	out, err := b.run(name, args...)
	if err != nil {
		b.t.Fatalf("%s %q: %v: %s", name, args, err, out)
	}
	return out
}

// build builds it, with variables for its Makefile, and returns where it is.
func (b *builder) build(variables ...string) (dir string) {
	b.t.Helper()
	dir = b.dirs()
	b.mustRun("make", append([]string{"--silent", "-C", "testdata", "ARCH=" + b.arch, "SYSROOT=" + b.sysroot, "OUT=" + dir},
		variables...)...)
	return dir
}

// check runs check.sh on a DLL.
func (b *builder) check(dll, arch, def string) (string, error) {
	b.t.Helper()
	return b.run(filepath.Join(b.source, "../check.sh"), dll, arch, def)
}

const def = "testdata/probe.def"

func TestADLLForEachArchitecture(t *testing.T) {
	for _, arch := range []string{"amd64", "arm64"} {
		t.Run(arch, func(t *testing.T) {
			b := newBuilder(t, arch)
			dll := filepath.Join(b.build(), "probe.dll")
			if out, err := b.check(dll, arch, def); err != nil {
				t.Errorf("%v: %s", err, out)
			}
			// The same source gives the same file, wherever it is built.
			first, err := os.ReadFile(dll)
			if err != nil {
				t.Fatal(err)
			}
			second, err := os.ReadFile(filepath.Join(b.build(), "probe.dll"))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(first, second) {
				t.Error("two builds differ")
			}
			for _, place := range []string{"/tmp/", b.sysroot, b.source} {
				if bytes.Contains(first, []byte(place)) {
					t.Errorf("it names a directory of the machine that built it, below %s", place)
				}
			}
		})
	}
}

// The libraries work in it, and so does C++ without its library.
func TestTheDLLWorks(t *testing.T) {
	b := newBuilder(t, "amd64")
	dir := b.build()
	got := b.mustRun(filepath.Join(dir, "host.exe"), wine.Path(filepath.Join(dir, "probe.dll")), "probe")
	want := "nghttp2 1.64.0 33 nanopb 300 object 55 stack 15 session some survived"
	if strings.TrimSpace(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// A buffer that is overrun ends the process; the cookies and the bounds that the
// compiler and C's headers put in are there.
func TestAnOverrunBufferEndsTheProcess(t *testing.T) {
	b := newBuilder(t, "amd64")
	for _, test := range []struct {
		mistake string
		without []string // what makes it go unnoticed
		notice  string
	}{
		{"smash", []string{"WITH_CFLAGS=-fno-stack-protector"}, "stack smashing detected"},
		{"overflow", []string{"WITH_CFLAGS=-U_FORTIFY_SOURCE"}, "buffer overflow detected"},
	} {
		t.Run(test.mistake, func(t *testing.T) {
			b := b.in(t)
			dir := b.build()
			host, dll := filepath.Join(dir, "host.exe"), wine.Path(filepath.Join(dir, "probe.dll"))
			if out := b.mustRun(host, dll, test.mistake+"-fits"); strings.TrimSpace(out) != "survived" {
				t.Errorf("without a mistake: %s", out)
			}
			out, err := b.run(host, dll, test.mistake)
			if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || strings.Contains(out, "survived") || !strings.Contains(out, test.notice) {
				t.Errorf("%v: %s", err, out)
			}
			// The notice comes of the flag and not of the mistake itself.
			dir = b.build(test.without...)
			out, _ = b.run(filepath.Join(dir, "host.exe"), wine.Path(filepath.Join(dir, "probe.dll")), test.mistake)
			if strings.Contains(out, test.notice) {
				t.Errorf("noticed without the flag too: %s", out)
			}
		})
	}
}

func TestEachWeaknessOfADLLIsNoticed(t *testing.T) {
	b := newBuilder(t, "amd64")
	for _, test := range []struct {
		name      string
		variables []string
		notice    string
	}{
		{"no ASLR", []string{"WITH_LDFLAGS=-Wl,--disable-dynamicbase"}, "is linked without DYNAMIC_BASE"},
		{"ASLR in 2 GB", []string{"WITH_LDFLAGS=-Wl,--disable-high-entropy-va"}, "is linked without HIGH_ENTROPY_VA"},
		{"no DEP", []string{"WITH_LDFLAGS=-Wl,--disable-nxcompat"}, "is linked without NX_COMPAT"},
		{"no CFG", []string{"WITH_LDFLAGS=-mguard=none"}, "is linked without GUARD_CF"},
		{"no CFG table", []string{"WITH_LDFLAGS=-mguard=none"}, "does not tell Control Flow Guard"},
		{"no CET", []string{"WITH_LDFLAGS=-Wl,-Xlink=-cetcompat:no"}, "is linked without CET_COMPAT"},
		{"DLLs from anywhere", []string{"WITH_LDFLAGS=-Wl,-Xlink=-dependentloadflag:0"}, "from elsewhere than System32"},
		{"code that can be written", []string{"WITH_LDFLAGS=-Xlinker -Xlink=-section:.text,erw"}, "written and executed"},
		{"one export more", []string{"WITH_CFLAGS=-DEXPORT_MORE"}, "exports More Overflow Probe Smash , and should export"},
		{"symbols", []string{"WITHOUT_LDFLAGS=-s"}, "is not stripped"},
		{"too big", []string{"WITH_CFLAGS=-DBIG"}, "the bound is 307200"},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := b.in(t)
			out, err := b.check(filepath.Join(b.build(test.variables...), "probe.dll"), "amd64", def)
			mustNotice(t, out, err, test.notice)
		})
	}

	good := filepath.Join(b.build(), "probe.dll")
	t.Run("another architecture", func(t *testing.T) {
		b := b.in(t)
		out, err := b.check(good, "arm64", def)
		mustNotice(t, out, err, "is not for arm64")
	})
	t.Run("a program", func(t *testing.T) {
		b := b.in(t)
		out, err := b.check(filepath.Join(filepath.Dir(good), "host.exe"), "amd64", def)
		mustNotice(t, out, err, "is not a DLL")
	})
	t.Run("a wish for no exports", func(t *testing.T) {
		b := b.in(t)
		out, err := b.check(good, "amd64", "/dev/null")
		mustNotice(t, out, err, "names no exports")
	})
	t.Run("no such file", func(t *testing.T) {
		b := b.in(t)
		if out, err := b.check(good+".gone", "amd64", def); err == nil {
			t.Errorf("no error: %s", out)
		}
	})
	// What no option of the linker gives is written into its result.
	t.Run("a date", func(t *testing.T) {
		b := b.in(t)
		dated := b.patched(good, func(pe []byte) { binary.LittleEndian.PutUint32(pe[8:], 1_700_000_000) })
		out, err := b.check(dated, "amd64", def)
		mustNotice(t, out, err, "says when it was built")
	})
	t.Run("a foreign DLL", func(t *testing.T) {
		b := b.in(t)
		foreign := b.patched(good, func(pe []byte) {
			name := bytes.Index(pe, []byte("KERNEL32.dll\x00"))
			if name < 0 {
				t.Fatal("it does not import KERNEL32.dll")
			}
			copy(pe[name:], "libstdc6.dll")
		})
		out, err := b.check(foreign, "amd64", def)
		mustNotice(t, out, err, "needs libstdc6.dll")
	})
}

// patched is a copy of the DLL, changed from its PE header's signature on.
func (b *builder) patched(dll string, change func(pe []byte)) string {
	b.t.Helper()
	content, err := os.ReadFile(dll)
	if err != nil {
		b.t.Fatal(err)
	}
	change(content[binary.LittleEndian.Uint32(content[0x3c:]):])
	patched := filepath.Join(b.dirs(), "probe.dll")
	if err := os.WriteFile(patched, content, 0o600); err != nil {
		b.t.Fatal(err)
	}
	return patched
}

func mustNotice(t *testing.T, out string, err error, notice string) {
	t.Helper()
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) {
		t.Errorf("check.sh ends with %v", err)
	}
	if !strings.Contains(out, notice) {
		t.Errorf("check.sh does not say %q:\n%s", notice, out)
	}
}
