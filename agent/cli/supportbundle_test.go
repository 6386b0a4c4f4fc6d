package cli

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

// unpacked returns the files of a bundle.
func unpacked(t *testing.T, path string) map[string]string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	files, r := map[string]string{}, tar.NewReader(z)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files[strings.TrimPrefix(h.Name, "sallyport-support/")] = string(text)
	}
}

func wantIn(t *testing.T, files map[string]string, name string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(files[name], text) {
			t.Errorf("no %q in %s:\n%s", text, name, files[name])
		}
	}
}

func TestSupportBundle(t *testing.T) {
	s := newSession(t, newFake())
	s.deps.Command = func(context.Context, string, ...string) ([]byte, error) { return []byte("said\n"), nil }
	out := filepath.Join(t.TempDir(), "x.tar.gz")
	s.run("support-bundle", "--out", out, "--since", "7d").wantExit(0).wantOut("written: ", "x.tar.gz", "--redact-users", "Look through it before you send it", "tar -xzOf").wantNot(canarySecret, "\x1b")
	files := unpacked(t, out)
	wantIn(t, files, "MANIFEST.txt", "by sallyport 9.9.9", "status.txt", "doctor.txt", "config.txt", "events.jsonl", "Never in it:")
	wantIn(t, files, "status.txt", "sallyport 1.2.3: healthy", "bob")
	wantIn(t, files, "status.json", `"healthy":true`)
	wantIn(t, files, "doctor.txt", "agent", "failed,")
	wantIn(t, files, "config.txt", `state_dir = "/var/lib/sallyport"`, "# /etc/sallyport/sallyport.toml:7")
	wantIn(t, files, "events.jsonl", eventAlice, `"reason":"wrong_code"`)
	wantIn(t, files, "version.txt", "sallyport 9.9.9, ", "said")
	wantIn(t, files, "log.txt", "said")

	// Never over another file; and what there is of it stays.
	before, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	s.run("support-bundle", "--out", out).wantExit(ExitConflict).wantErr("is there already")
	if after, err := os.ReadFile(out); err != nil || string(after) != string(before) {
		t.Errorf("it was written over: %v", err)
	}
	for _, bad := range []string{"0s", "-1h", "soon", ""} {
		s.run("support-bundle", "--out", out+"2", "--since", bad).wantExit(ExitUsage)
	}

	// Events are those since then; with --json a program reads what came of it.
	s.deps.Now = func() time.Time { return day.Add(2 * time.Hour) }
	v := s.run("support-bundle", "--out", out+"3", "--since", "1h", "--json").wantExit(0).object()
	if v["file"] != out+"3" || len(v["parts"].([]any)) < 8 {
		t.Errorf("%v", v)
	}
	if events := unpacked(t, out+"3")["events.jsonl"]; events != "" {
		t.Errorf("old events: %s", events)
	}
}

// TestSupportBundleWithoutAnAgent: a dead agent is when a bundle is wanted.
func TestSupportBundleWithoutAnAgent(t *testing.T) {
	s := newSession(t, nil)
	s.deps.Command = func(_ context.Context, name string, _ ...string) ([]byte, error) {
		return []byte("half of it\n"), errors.New("ended badly")
	}
	out := filepath.Join(t.TempDir(), "x.tar.gz")
	s.run("support-bundle", "--out", out).wantExit(0).wantOut("missing: events.jsonl", "the agent is not running", "ended badly")
	files := unpacked(t, out)
	wantIn(t, files, "MANIFEST.txt", "What could not be had:", "events.jsonl", "the agent is not running", "ended badly")
	wantIn(t, files, "status.txt", "not running")
	wantIn(t, files, "doctor.txt", "fail  agent")
	wantIn(t, files, "config.txt", `state_dir = "/x"`)
	wantIn(t, files, "version.txt", "half of it")
}

func TestSupportBundleWithoutNames(t *testing.T) {
	s := newSession(t, newFake())
	s.deps.Command = func(context.Context, string, ...string) ([]byte, error) {
		return []byte("session opened for alice by CORP\\Dora(uid=0), mallory\n"), nil
	}
	s.deps.Root = fstest.MapFS{"etc/passwd": {Data: []byte("root:x:0:0::/root:/bin/sh\ndora:x:1004:1004::/home/dora:/bin/sh\nbackup:x:34:34::/:/bin/sh\n")}, "home/emil/x": {}}
	out := filepath.Join(t.TempDir(), "x.tar.gz")
	s.run("support-bundle", "--out", out, "--redact-users").wantExit(0).wantOut("User names are replaced")
	files := unpacked(t, out)
	for name, text := range files {
		for _, who := range []string{"alice", "bob", "carol", "Dora", "dora"} {
			if strings.Contains(text, who) {
				t.Errorf("%s names %s:\n%s", name, who, text)
			}
		}
	}
	wantIn(t, files, "events.jsonl", `"user":"user-1"`, `"key":"uid:1000"`)
	// Mallory is nobody who is known here; the manifest says so.
	wantIn(t, files, "log.txt", "for user-1 by CORP\\user-", "(uid=0), mallory")
	wantIn(t, files, "MANIFEST.txt", "the name is replaced", "A name that only a log has")
}

// TestSupportBundleListsTheFiles: of the state all that is below, and never what is in it.
func TestSupportBundleListsTheFiles(t *testing.T) {
	state := t.TempDir()
	if err := os.MkdirAll(filepath.Join(state, "keychain", "deep"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(state, "keychain", "deep", "key"), []byte("canary-content"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newSession(t, nil)
	s.deps.CheckConfig = func(string, bool) (CheckedConfig, error) {
		return CheckedConfig{Values: []ConfigValue{{"state_dir", "'" + state + "'", "default"}}}, nil
	}
	out := filepath.Join(t.TempDir(), "x.tar.gz")
	s.run("support-bundle", "--out", out, "--config", filepath.Join(t.TempDir(), "none", "x.toml")).wantExit(0)
	files := unpacked(t, out)
	wantIn(t, files, "files.txt", filepath.Join("keychain", "deep", "key"), "       14 ", "  is not there")
	if strings.Contains(files["files.txt"], "canary") {
		t.Error(files["files.txt"])
	}
}
