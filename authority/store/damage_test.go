//go:build linux

package store_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport/authority/store"
	"sallyport/authority/store/storetest"
)

// refusal is why a file is not opened.
func refusal(t *testing.T, path string) string {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{SQLite: path, Node: "a"})
	if err == nil {
		_ = s.Close()
		t.Error("it opened")
		return ""
	}
	if !strings.Contains(err.Error(), path) && !strings.Contains(err.Error(), filepath.Dir(path)) {
		t.Errorf("the error does not say which file: %v", err)
	}
	return err.Error()
}

// made is the path of a database with a user and many challenges in it.
func made(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "authority.db")
	s, err := store.Open(t.Context(), store.Options{SQLite: path, Node: "a"})
	if err != nil {
		t.Fatal(err)
	}
	update(t, s, func(tx store.Tx) error {
		err := tx.CreateUser(store.User{Name: "maya"})
		for i := range 200 {
			err = errors.Join(err, tx.CreateChallenge(challenge(fmt.Sprint("c", i), "d", "maya", noon)))
		}
		return err
	})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFilesAreForTheirOwnerAlone(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o755))
	path := filepath.Join(dir, "authority.db")
	s := storetest.Open(t, store.Options{SQLite: path, Node: "a"})
	update(t, s, func(tx store.Tx) error { return tx.CreateUser(store.User{Name: "maya"}) })
	must(t, s.Backup(t.Context(), filepath.Join(dir, "backup")))
	list, err := os.ReadDir(dir)
	must(t, err)
	var names []string
	for _, e := range list {
		info, err := e.Info()
		must(t, err)
		if names = append(names, e.Name()); info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %04o", e.Name(), info.Mode().Perm())
		}
	}
	same(t, "files", names, []string{"authority.db", "authority.db-shm", "authority.db-wal", "backup"})
}

func TestAFileThatOthersReachIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		harm func(path string) error
		says string
	}{
		"readable":           {func(p string) error { return os.Chmod(p, 0o640) }, "chmod 600"},
		"readable by all":    {func(p string) error { return os.Chmod(p, 0o604) }, "chmod 600"},
		"writable":           {func(p string) error { return os.Chmod(p, 0o620) }, "chmod 600"},
		"readable log":       {func(p string) error { return os.WriteFile(p+"-wal", nil, 0o644) }, "chmod 600"},
		"writable directory": {func(p string) error { return os.Chmod(filepath.Dir(p), 0o777) }, "chmod go-w"},
		"symbolic link":      {func(p string) error { return errors.Join(os.Rename(p, p+"2"), os.Symlink(p+"2", p)) }, "no regular file"},
		"directory":          {func(p string) error { return errors.Join(os.Remove(p), os.Mkdir(p, 0o700)) }, "no regular file"},
	} {
		t.Run(name, func(t *testing.T) {
			path := made(t)
			must(t, c.harm(path))
			if text := refusal(t, path); !strings.Contains(text, c.says) {
				t.Errorf("%q", text)
			}
		})
	}
}

// TestADamagedFileIsRefused: an empty file most of all, which SQLite itself takes
// for a new database, in which nobody is enrolled.
func TestADamagedFileIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		harm func(path string) error
		says string
	}{
		"empty":     {func(p string) error { return os.Truncate(p, 0) }, "is empty: restore a backup"},
		"garbage":   {func(p string) error { return os.WriteFile(p, []byte(strings.Repeat("garbage ", 1000)), 0o600) }, "restore a backup"},
		"truncated": {func(p string) error { return os.Truncate(p, 5000) }, "restore a backup"},
		"another's": {func(p string) error {
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			b = []byte(strings.ReplaceAll(string(b), "sallyport_schema", "somebodys_schema"))
			return os.WriteFile(p, b, 0o600)
		}, "is no database of sallyport-authority"},
	} {
		t.Run(name, func(t *testing.T) {
			path := made(t)
			must(t, c.harm(path))
			if text := refusal(t, path); !strings.Contains(text, c.says) {
				t.Errorf("%q", text)
			}
		})
	}
}

// TestDamageInTheMiddle is found where it is read, and is no answer.
func TestDamageInTheMiddle(t *testing.T) {
	path := made(t)
	b, err := os.ReadFile(path)
	must(t, err)
	for i := 4096 * 10; i < len(b); i++ {
		b[i] = 0xaa
	}
	must(t, os.WriteFile(path, b, 0o600))
	s, err := store.Open(t.Context(), store.Options{SQLite: path, Node: "a"})
	if err == nil {
		defer func() { _ = s.Close() }()
		var failed []error
		for i := range 200 {
			err := s.View(t.Context(), func(tx store.Tx) error { return second(tx.Challenge(fmt.Sprint("c", i))) })
			if err != nil {
				failed = append(failed, err)
			}
		}
		err = s.Update(t.Context(), func(tx store.Tx) error { return tx.EndChallenge("c100", "code", noon) })
		failed = append(failed, err)
		for _, err = range failed {
			if !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "restore a backup") {
				t.Fatalf("%v", err)
			}
		}
		t.Logf("%d of 201 calls failed: %v", len(failed), err)
		if err := s.Backup(t.Context(), path+".backup"); err == nil {
			t.Error("a damaged database was backed up as if nothing were")
		}
		if _, err := os.Lstat(path + ".backup"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("half a backup is left: %v", err)
		}
	} else if !strings.Contains(err.Error(), "restore a backup") {
		t.Error(err)
	}
}

// TestBackupOfARunningServer: it is one moment of the database, and a database.
func TestBackupOfARunningServer(t *testing.T) {
	dir := t.TempDir()
	s := storetest.Open(t, store.Options{SQLite: filepath.Join(dir, "authority.db"), Node: "a"})
	ctx, cancel := context.WithCancel(t.Context())
	running, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		n := 0
		ended <- count(ctx, s, func(string, int) {
			if n++; n == 100 {
				close(running)
			}
		})
	}()
	<-running
	path := filepath.Join(dir, "it's a ?backup%")
	must(t, s.Backup(t.Context(), path))
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := s.Backup(t.Context(), path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over another file: %v", err)
	}
	if err := s.Backup(t.Context(), filepath.Join(dir, "nowhere", "backup")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("into no directory: %v", err)
	}
	b := storetest.Open(t, store.Options{SQLite: path, Node: "a"})
	view(t, b, func(tx store.Tx) error {
		for n := range counters {
			key := fmt.Sprint("key", n)
			step, err := stepOf(tx, key)
			if err != nil || step == 0 {
				t.Errorf("%s: %d %v", key, step, err)
			}
			if second(tx.Challenge(fmt.Sprint(key, "/", step))) != nil || second(tx.Challenge(fmt.Sprint(key, "/", step+1))) != store.ErrNotFound {
				t.Errorf("%s is half a step", key)
			}
		}
		return nil
	})
	list, err := filepath.Glob(filepath.Join(dir, ".*"))
	if err != nil || len(list) > 0 {
		t.Errorf("left behind: %v %v", list, err)
	}
	pg := storetest.Open(t, store.Options{PostgreSQL: storetest.Database(t), Node: "a"})
	if err := pg.Backup(t.Context(), filepath.Join(dir, "pg")); err == nil || !strings.Contains(err.Error(), "pg_dump") {
		t.Errorf("%v", err)
	}
}

const namespaceEnv = "SALLYPORT_TEST_STORE_NAMESPACE"

// inNamespace runs the test again in a mount namespace of its own; true there.
func inNamespace(t *testing.T) bool {
	t.Helper()
	if os.Getenv(namespaceEnv) == t.Name() {
		return true
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), namespaceEnv+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) {
		t.Skip("this system allows no mount namespaces")
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
	return false
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestFullDiskRefusesAndRecovers: what was acknowledged stays, what was refused
// is not there, and the server goes on when there is room again.
func TestFullDiskRefusesAndRecovers(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	dir := t.TempDir()
	must(t, syscall.Mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""))
	must(t, syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=3m,mode=0700"))
	defer func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) }()
	path := filepath.Join(dir, "authority.db")
	s := storetest.Open(t, store.Options{SQLite: path, Node: "a"})
	var full error
	last := -1
	put := func(i int) error {
		return s.Update(t.Context(), func(tx store.Tx) error {
			c := challenge(fmt.Sprint("c", i), "d", "maya", noon)
			c.Bytes = make([]byte, 20000)
			return errors.Join(tx.PutSetting("last", fmt.Append(nil, i)), tx.CreateChallenge(c))
		})
	}
	filler := filepath.Join(dir, "filler")
	must(t, put(0))
	fill, err := os.Create(filler)
	must(t, err)
	for err == nil {
		_, err = fill.Write(make([]byte, 4096))
	}
	must(t, fill.Close())
	for i := 0; full == nil && i < 1000; i++ {
		if full = put(i + 1); full == nil {
			last = i + 1
		}
	}
	if !errors.Is(full, store.ErrUnavailable) || !strings.Contains(full.Error(), "disk is full") || !strings.Contains(full.Error(), path) {
		t.Fatalf("on a full disk: %v", full)
	}
	t.Logf("after %d: %v", last, full)
	holds := func(s store.Store, n int) {
		t.Helper()
		view(t, s, func(tx store.Tx) error {
			if v, err := tx.Setting("last"); err != nil || string(v) != fmt.Sprint(n) {
				t.Errorf("%q %v, want %d", v, err, n)
			}
			if second(tx.Challenge(fmt.Sprint("c", n))) != nil || second(tx.Challenge(fmt.Sprint("c", n+1))) != store.ErrNotFound {
				t.Error("half done")
			}
			return nil
		})
	}
	last = max(last, 0)
	holds(s, last)
	if err := s.Ping(t.Context()); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Ping on a full disk: %v", err)
	}
	if _, err := store.Open(t.Context(), store.Options{SQLite: path + "2", Node: "a"}); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a new database on a full disk: %v", err)
	}
	if err := s.Backup(t.Context(), path+".backup"); err == nil {
		t.Error("a backup on a full disk")
	}
	list, err := os.ReadDir(dir)
	must(t, err)
	if slices.ContainsFunc(list, func(e fs.DirEntry) bool {
		return strings.Contains(e.Name(), "backup") || strings.Contains(e.Name(), "new") || strings.Contains(e.Name(), "db2")
	}) {
		t.Errorf("left behind: %v", list)
	}
	must(t, os.Remove(filler))
	must(t, put(last+1))
	holds(s, last+1)
	must(t, s.Close())
	holds(storetest.Open(t, store.Options{SQLite: path, Node: "a"}), last+1)
}

func TestReadOnlyDiskIsRefused(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	path := made(t)
	dir := filepath.Dir(path)
	must(t, syscall.Mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""))
	must(t, syscall.Mount(dir, dir, "", syscall.MS_BIND, ""))
	defer func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) }()
	must(t, syscall.Mount("", dir, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
	for _, p := range []string{path, filepath.Join(dir, "new.db")} {
		start := time.Now()
		_, err := store.Open(t.Context(), store.Options{SQLite: p, Node: "a"})
		if !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s on a read-only disk: %v", p, err)
		}
		t.Log(time.Since(start), err)
	}
}
