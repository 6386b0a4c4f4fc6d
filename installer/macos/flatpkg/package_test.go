//go:build linux

package main

import (
	"bytes"
	"crypto/sha256"
	"debug/macho"
	"encoding/binary"
	"encoding/xml"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"sallyport/installer/macos/launchd"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// dist is where the programs lie: the shipped ones where they were built, else made-up
// ones of the same form.
func dist(t *testing.T) string {
	t.Helper()
	if dir := os.Getenv("SALLYPORT_MACOS_DIST"); dir != "" {
		return dir
	}
	t.Log("SALLYPORT_MACOS_DIST is not set: the programs in this package are made up")
	dir := t.TempDir()
	for _, name := range []string{"sallyport", "pam_sallyport.so.2", "Sallyport.bundle/Contents/MacOS/Sallyport"} {
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700))
		must(t, os.WriteFile(filepath.Join(dir, name), universal(), 0o700))
	}
	must(t, os.WriteFile(filepath.Join(dir, "Sallyport.bundle/Contents/Info.plist"), []byte("<plist/>"), 0o600))
	return dir
}

// universal is the least that is a program for both processors (mach-o/fat.h).
func universal() []byte {
	thin := func(cpu uint32) []byte {
		var b bytes.Buffer
		_ = binary.Write(&b, binary.LittleEndian, []uint32{0xfeedfacf, cpu, 0, 2, 0, 0, 0, 0})
		return b.Bytes()
	}
	var b bytes.Buffer
	_ = binary.Write(&b, binary.BigEndian, []uint32{0xcafebabe, 2, 0x0100000c, 0, 64, 32, 0, 0x01000007, 3, 96, 32, 0})
	b.Write(make([]byte, 64-b.Len()))
	b.Write(thin(0x0100000c))
	b.Write(thin(0x01000007))
	return b.Bytes()
}

// build runs build.sh and returns the package.
func build(t *testing.T, version, dist string) (path string) {
	t.Helper()
	cmd := exec.Command("../build.sh", version, dist, t.TempDir())
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, complaint.String())
	}
	path = strings.TrimSpace(string(out))
	if list, err := os.ReadDir(filepath.Dir(path)); err != nil || len(list) != 1 {
		t.Errorf("it left %v, %v", list, err)
	}
	return path
}

func read(t *testing.T, path string) ([]byte, Contents) {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	c, err := Read(b)
	must(t, err)
	return b, c
}

// TestWhatThePackageBrings: each file, its mode, its owner, and what is in it.
func TestWhatThePackageBrings(t *testing.T) {
	programs := dist(t)
	path := build(t, "v1.2.3-4-gabcdef0", programs)
	if name := filepath.Base(path); name != "Sallyport-v1.2.3-4-gabcdef0.not-for-release.pkg" {
		t.Errorf("it is called %s", name)
	}
	b, c := read(t, path)

	daemon, err := launchd.Plist(launchd.Program, launchd.Arguments(config))
	must(t, err)
	want := map[string]struct {
		mode fs.FileMode
		from string // a file that it is
		text []byte
	}{
		".": {mode: fs.ModeDir | 0o755}, "./share": {mode: fs.ModeDir | 0o755}, "./share/man": {mode: fs.ModeDir | 0o755},
		"./share/man/man1": {mode: fs.ModeDir | 0o755}, "./share/completion": {mode: fs.ModeDir | 0o755},
		"./Sallyport.bundle": {mode: fs.ModeDir | 0o755}, "./Sallyport.bundle/Contents": {mode: fs.ModeDir | 0o755},
		"./Sallyport.bundle/Contents/MacOS":           {mode: fs.ModeDir | 0o755},
		"./Sallyport.bundle/Contents/MacOS/Sallyport": {mode: 0o755, from: programs + "/Sallyport.bundle/Contents/MacOS/Sallyport"},
		"./Sallyport.bundle/Contents/Info.plist":      {mode: 0o644, from: programs + "/Sallyport.bundle/Contents/Info.plist"},
		"./sallyport":                                 {mode: 0o755, from: programs + "/sallyport"},
		"./pam_sallyport.so.2":                        {mode: 0o644, from: programs + "/pam_sallyport.so.2"},
		"./uninstall":                                 {mode: 0o755, from: "../uninstall"},
		"./com.sallyport.agent.plist":                 {mode: 0o644, text: daemon},
		"./share/completion/_sallyport":               {mode: 0o644},
		"./share/completion/sallyport.bash":           {mode: 0o644},
	}
	manual := 0
	for _, f := range c.Payload {
		if f.UID != 0 || f.GID != 0 {
			t.Errorf("%s belongs to %d:%d", f.Name, f.UID, f.GID)
		}
		if strings.HasPrefix(f.Name, "./share/man/man1/sallyport") && f.Mode == 0o644 {
			manual++
			continue
		}
		w, ok := want[f.Name]
		if !ok || f.Mode != w.mode {
			t.Errorf("%s with mode %v", f.Name, f.Mode)
		}
		delete(want, f.Name)
		if w.from != "" {
			w.text, err = os.ReadFile(w.from)
			must(t, err)
		}
		if w.text != nil && sha256.Sum256(f.Data) != sha256.Sum256(w.text) {
			t.Errorf("%s is something else", f.Name)
		}
		if !f.Mode.IsDir() && len(f.Data) == 0 {
			t.Errorf("%s is empty", f.Name)
		}
	}
	if len(want) > 0 || manual == 0 {
		t.Errorf("not there: %v; %d pages of the manual", want, manual)
	}
	for _, name := range []string{"preinstall", "postinstall", "paths.sh"} {
		i := slices.IndexFunc(c.Scripts, func(f File) bool { return f.Name == "./"+name })
		if i < 0 {
			t.Errorf("there is no %s", name)
			continue
		}
		text, err := os.ReadFile("../scripts/" + name)
		must(t, err)
		f := c.Scripts[i]
		if runs := name != "paths.sh"; f.UID != 0 || !bytes.Equal(f.Data, text) || (f.Mode&0o111 == 0o111) != runs || f.Mode&0o022 != 0 {
			t.Errorf("%s: %v, uid %d", name, f.Mode, f.UID)
		}
	}
	if len(c.Scripts) != 4 { // with the folder
		t.Errorf("%d scripts", len(c.Scripts))
	}

	i := c.Info
	if i.Identifier != "com.sallyport.pkg" || i.Version != "1.2.3.4" || i.Location != "/Library/Application Support/Sallyport/incoming" || i.Auth != "root" ||
		i.Relocatable || i.Payload.Files != len(c.Payload) || i.Pre.File != "./preinstall" || i.Post.File != "./postinstall" {
		t.Errorf("%+v", i)
	}
	if strings.Contains(c.Distribution, "@") || !strings.Contains(c.Distribution, `version="1.2.3.4"`) {
		t.Error(c.Distribution)
	}
	must(t, xml.Unmarshal([]byte(c.Distribution), new(struct{})))
	for _, err := range append(notUniversal(c.Payload), tells(c, b)...) {
		t.Error(err)
	}
}

// notUniversal are the programs that are not for both processors.
func notUniversal(files []File) (errs []error) {
	n := 0
	for _, f := range files {
		fat, err := macho.NewFatFile(bytes.NewReader(f.Data))
		if errors.Is(err, macho.ErrNotFat) || err == nil {
			n++
		}
		switch {
		case errors.Is(err, macho.ErrNotFat):
			errs = append(errs, fmt.Errorf("%s is for one processor", f.Name))
		case err == nil && (len(fat.Arches) != 2 || fat.Arches[0].Cpu == fat.Arches[1].Cpu):
			errs = append(errs, fmt.Errorf("%s is for other processors", f.Name))
		}
	}
	if n != 3 {
		errs = append(errs, fmt.Errorf("%d programs", n))
	}
	return errs
}

// tells is what a package says of who made it, and where.
func tells(c Contents, whole []byte) (errs []error) {
	here, err := filepath.Abs("../../..")
	if err != nil {
		return []error{err}
	}
	words := []string{here, os.TempDir() + "/"}
	if home, err := os.UserHomeDir(); err == nil && home != "/" {
		words = append(words, home+"/")
	}
	if who, err := user.Current(); err == nil && who.Username != "root" { // root is in every file
		words = append(words, who.Username)
	}
	if name, err := os.Hostname(); err == nil && len(name) > 6 {
		words = append(words, name)
	}
	for _, w := range words {
		for _, f := range append(c.Payload, c.Scripts...) {
			// Go's own programs name places for temporary files.
			if w != os.TempDir()+"/" && bytes.Contains(f.Data, []byte(w)) {
				errs = append(errs, fmt.Errorf("%s holds %q", f.Name, w))
			}
		}
		if bytes.Contains(whole, []byte(w)) || strings.Contains(c.Distribution, w) {
			errs = append(errs, fmt.Errorf("the package holds %q", w))
		}
	}
	return errs
}

// TestTheSameTwice: two builds of the same are the same, whatever the times and modes
// of the files that they were made of.
func TestTheSameTwice(t *testing.T) {
	programs := dist(t)
	a, c := read(t, build(t, "v1.2.3", programs))
	b, _ := read(t, build(t, "v1.2.3", programs))
	if !bytes.Equal(a, b) {
		t.Errorf("%d bytes, and then %d others", len(a), len(b))
	}
	for _, f := range append(c.Payload, c.Scripts...) {
		if !f.Time.Equal(c.Payload[0].Time) || f.Time.After(time.Now()) {
			t.Errorf("%s is of %v", f.Name, f.Time)
		}
	}
}

// TestAnotherReader reads it with libarchive.
func TestAnotherReader(t *testing.T) {
	if _, err := exec.LookPath("bsdtar"); err != nil {
		t.Skip("there is no bsdtar here (libarchive-tools)")
	}
	p := Package{Identifier: "x", Version: "1", Location: "/", Time: time.Unix(1700000000, 0)}
	root := fstest.MapFS{"bin/tool": {Data: []byte("text"), Mode: 0o755}, "bin": {Mode: fs.ModeDir | 0o700}}
	b, err := p.Write(root, fstest.MapFS{"postinstall": {Data: []byte("#!/bin/sh"), Mode: 0o755}}, []byte("<x/>"))
	must(t, err)
	dir := t.TempDir()
	must(t, os.WriteFile(dir+"/x.pkg", b, 0o644))
	tar := func(args ...string) string {
		cmd := exec.Command("bsdtar", append([]string{"-C", dir}, args...)...)
		cmd.Env = append(os.Environ(), "TZ=UTC")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	tar("-xf", dir+"/x.pkg")
	list := tar("-tvf", dir+"/sallyport.pkg/Payload")
	for _, w := range []string{"-rwxr-xr-x", "./bin/tool", "drwx------", "Nov 14  2023"} {
		if !strings.Contains(list, w) {
			t.Errorf("no %q in\n%s", w, list)
		}
	}
	if text, err := os.ReadFile(dir + "/Distribution"); err != nil || string(text) != "<x/>" {
		t.Errorf("%q, %v", text, err)
	}
}

// TestAPackageThatIsNotWhole is no package, wherever it was damaged or ends.
func TestAPackageThatIsNotWhole(t *testing.T) {
	p := Package{Identifier: "x", Version: "1", Location: "/", Time: time.Unix(1700000000, 0)}
	b, err := p.Write(fstest.MapFS{"a": {Data: []byte("text")}}, fstest.MapFS{}, []byte("<x/>"))
	must(t, err)
	if _, err := Read(b); err != nil {
		t.Fatal(err)
	}
	for n := range b {
		if _, err := Read(b[:n]); err == nil {
			t.Fatalf("the first %d of %d bytes are a package", n, len(b))
		}
		damaged := bytes.Clone(b)
		damaged[n] ^= 0xff
		if _, err := Read(damaged); err == nil && n >= 24 {
			t.Fatalf("byte %d of %d does not matter", n, len(b))
		}
	}
	if _, err := p.Write(fstest.MapFS{"a": {Mode: fs.ModeSymlink}}, fstest.MapFS{}, nil); err == nil {
		t.Error("a link")
	}
}

// TestTheConfigurationsPath is internal/config's, which only a build for macOS has.
func TestTheConfigurationsPath(t *testing.T) {
	text, err := os.ReadFile("../../../internal/config/platform_darwin.go")
	must(t, err)
	if !strings.Contains(string(text), fmt.Sprintf("DefaultPath = %q", config)) {
		t.Errorf("%s is not the agent's", config)
	}
}
