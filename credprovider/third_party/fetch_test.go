//go:build linux

package thirdparty

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// The two files that the mirror of these tests has, by their place in it.
var pool = map[string]string{
	"pool/main/o/one/one_1.0.orig.tar.gz":          "the first package\n",
	"pool/main/t/two/two_2.0-1+deb1.debian.tar.xz": "the second package\n",
}

// fetching is fetch.sh with pins, a mirror and a cache of its own.
type fetching struct {
	t        *testing.T
	script   string
	cache    string
	mirror   *httptest.Server
	mu       sync.Mutex
	files    map[string]string // what the mirror has
	requests int
}

func newFetching(t *testing.T) *fetching {
	t.Helper()
	f := &fetching{t: t, cache: t.TempDir(), files: make(map[string]string)}
	dir := t.TempDir()
	f.script = filepath.Join(dir, "fetch.sh")
	script, err := os.ReadFile("fetch.sh")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(f.script, script, 0o700); err != nil {
		t.Fatal(err)
	}
	pins := "# a comment\n"
	for name, content := range pool {
		pins += fmt.Sprintf("%x  %s\n", sha256.Sum256([]byte(content)), name)
		f.files["/debian/"+name] = content
	}
	if err := os.WriteFile(filepath.Join(dir, "sources.sha256"), []byte(pins), 0o600); err != nil {
		t.Fatal(err)
	}
	f.mirror = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.requests++
		content, ok := f.files[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		fmt.Fprint(w, content)
	}))
	t.Cleanup(f.mirror.Close)
	return f
}

// gives has the mirror give these files from now on.
func (f *fetching) gives(files map[string]string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.files = files
}

// run fetches into a new directory and returns it with what the script said.
func (f *fetching) run() (dir, said string, err error) {
	f.t.Helper()
	dir = filepath.Join(f.t.TempDir(), "sources")
	cmd := exec.CommandContext(f.t.Context(), f.script, dir)
	cmd.Env = append(os.Environ(), "SALLYPORT_CACHE="+f.cache, "SALLYPORT_DEBIAN_MIRROR="+f.mirror.URL+"/debian",
		"http_proxy=", "no_proxy=*")
	out, err := cmd.CombinedOutput()
	return dir, string(out), err
}

// mustRun fetches and checks that the directory holds what was pinned.
func (f *fetching) mustRun() (said string) {
	f.t.Helper()
	dir, said, err := f.run()
	if err != nil {
		f.t.Fatalf("%v: %s", err, said)
	}
	f.check(dir)
	return said
}

func (f *fetching) check(dir string) {
	f.t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		f.t.Fatal(err)
	}
	if len(entries) != len(pool) {
		f.t.Errorf("%d files, and should be %d", len(entries), len(pool))
	}
	for name, want := range pool {
		got, err := os.ReadFile(filepath.Join(dir, path.Base(name)))
		if err != nil || string(got) != want {
			f.t.Errorf("%s: %q, %v; want %q", name, got, err, want)
		}
	}
}

// mustFail fetches, and checks that it fails saying this and leaves no file
// that is not as pinned, neither in the directory nor in the cache.
func (f *fetching) mustFail(saying ...string) {
	f.t.Helper()
	dir, said, err := f.run()
	if err == nil {
		f.t.Errorf("fetched, and should have failed: %s", said)
	}
	for _, text := range saying {
		if !strings.Contains(said, text) {
			f.t.Errorf("says nothing of %q:\n%s", text, said)
		}
	}
	for _, dir := range []string{dir, filepath.Join(f.cache, "sources")} {
		files, err := filepath.Glob(filepath.Join(dir, "*.tar.*"))
		if err != nil {
			f.t.Fatal(err)
		}
		for _, file := range files {
			if content, err := os.ReadFile(file); err != nil || !pinned(filepath.Base(file), string(content)) {
				f.t.Errorf("%s is left, with %q (%v)", file, content, err)
			}
		}
	}
}

func pinned(base, content string) bool {
	for name, want := range pool {
		if path.Base(name) == base {
			return content == want
		}
	}
	return false
}

// flip changes one bit of the cached file of this package.
func (f *fetching) flip(pkg string) {
	f.t.Helper()
	files, err := filepath.Glob(filepath.Join(f.cache, "sources", pkg+"_*"))
	if err != nil || len(files) != 1 {
		f.t.Fatalf("cached are %q (%v)", files, err)
	}
	content, err := os.ReadFile(files[0])
	if err != nil {
		f.t.Fatal(err)
	}
	content[len(content)/2] ^= 1
	if err := os.WriteFile(files[0], content, 0o600); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fetching) asked() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.requests
}

func TestSourcesAreFetchedOnce(t *testing.T) {
	f := newFetching(t)
	f.mustRun()
	if n := f.asked(); n != len(pool) {
		t.Errorf("the mirror was asked %d times, and should be once for each of %d files", n, len(pool))
	}
	f.mirror.Close() // and are never asked for again
	f.mustRun()
}

func TestTwoFetchersAtATimeFetchOnce(t *testing.T) {
	f := newFetching(t)
	var fetchers sync.WaitGroup
	for range 2 {
		fetchers.Go(func() {
			dir, said, err := f.run()
			if err != nil {
				t.Errorf("%v: %s", err, said)
				return
			}
			f.check(dir)
		})
	}
	fetchers.Wait()
	if n := f.asked(); n != len(pool) {
		t.Errorf("the mirror was asked %d times, and should be once for each of %d files", n, len(pool))
	}
}

func TestAFlippedBitInTheCacheIsNoticed(t *testing.T) {
	for name := range pool {
		pkg, _, _ := strings.Cut(path.Base(name), "_")
		t.Run(pkg, func(t *testing.T) {
			f := newFetching(t)
			f.mustRun()
			f.flip(pkg)
			before := f.asked()
			if said := f.mustRun(); !strings.Contains(said, path.Base(name)+" has not the SHA-256") {
				t.Errorf("says nothing of the damaged file: %q", said)
			}
			if n := f.asked() - before; n != 1 {
				t.Errorf("the mirror was asked %d times, and should be for the damaged file only", n)
			}
			f.flip(pkg)
			f.mirror.Close()
			f.mustFail(path.Base(name)+" has not the SHA-256", "cannot be had")
		})
	}
}

func TestAFlippedBitFromTheMirrorIsNotUsed(t *testing.T) {
	f := newFetching(t)
	spoilt, honest := map[string]string{}, f.files
	for name, content := range honest {
		spoilt[name] = strings.Replace(content, "package", "qackage", 1)
	}
	f.gives(spoilt)
	f.mustFail("that has not the SHA-256 in sources.sha256: it is not used", "cannot be had")
	f.gives(honest) // mends it
	f.mustRun()
}

func TestAMirrorThatHasMovedOn(t *testing.T) {
	f := newFetching(t)
	kept := f.files
	f.gives(nil)
	f.mustFail("does not give pool/main/", "Debian has a newer version by now: change sources.sha256")

	f.gives(kept)
	f.mustRun()
	f.gives(nil) // what was fetched before goes on working
	f.mustRun()
}

func TestOnlyAnEmptyDirectoryIsFilled(t *testing.T) {
	f := newFetching(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "stray.orig.tar.gz"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), f.script, dir)
	cmd.Env = append(os.Environ(), "SALLYPORT_CACHE="+f.cache, "SALLYPORT_DEBIAN_MIRROR="+f.mirror.URL)
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "is not empty") {
		t.Errorf("%v: %s", err, out)
	}
}

// The committed pins name files of a Debian archive by SHA-256, each once.
func TestThePinsAreWellFormed(t *testing.T) {
	pins, err := os.ReadFile("sources.sha256")
	if err != nil {
		t.Fatal(err)
	}
	packages := make(map[string]bool)
	for line := range strings.Lines(string(pins)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		hash, file, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
		if !ok || len(hash) != 64 || strings.Trim(hash, "0123456789abcdef") != "" {
			t.Errorf("not a SHA-256 and a path: %q", line)
		}
		if ok, _ := path.Match("pool/main/*/*/*.tar.*", file); !ok {
			t.Errorf("not a file of an archive: %q", line)
		}
		name := strings.TrimSuffix(path.Base(path.Dir(file)), "/")
		if strings.Contains(file, ".orig.tar.") {
			if packages[name] {
				t.Errorf("%s is pinned twice", name)
			}
			packages[name] = true
		}
	}
	if len(packages) != 3 {
		t.Errorf("pinned are %v, and should be nghttp2, nanopb and mingw-w64", packages)
	}
}
