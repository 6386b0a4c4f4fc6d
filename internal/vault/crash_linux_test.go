package vault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// dieWithUs has a process killed when the test is.
func dieWithUs(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }

const namespaceEnv = "SALLYPORT_TEST_NAMESPACE"

// inNamespace runs the calling test again in a mount namespace of its own, and
// says whether this is that run. What is mounted there is gone with it.
func inNamespace(t *testing.T) bool {
	t.Helper()
	if os.Getenv(namespaceEnv) == t.Name() {
		return true
	}
	if os.Geteuid() != 0 {
		t.Skip("mounting a file system image needs root")
	}
	for _, tool := range []string{"mkfs.ext4", "mount", "umount"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed", tool)
		}
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), namespaceEnv+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) {
		t.Skip("this system allows no mount namespaces")
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if bytes.Contains(out, []byte("--- SKIP")) {
		t.Skipf("skipped in its namespace:\n%s", out)
	}
	return false
}

func run1(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// makeImage makes an ext4 image of the given size, all of it written.
func makeImage(t testing.TB, path string, size int) {
	t.Helper()
	writeFile(t, path, make([]byte, size))
	run1(t, "mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard", path)
}

func mount(t testing.TB, image, dir string) {
	t.Helper()
	must(t, os.MkdirAll(dir, 0o755))
	run1(t, "mount", "-o", "loop,nodiscard", image, dir)
}

func umount(t testing.TB, dir string) {
	t.Helper()
	run1(t, "umount", dir)
}

// TestPowerCutForgetsNothingAcknowledged runs the agent on an ext4 image. At
// random points it is stopped, and the image, which lacks whatever was not
// flushed, is copied: that is what the disk holds if the power is cut there. The
// copy is mounted, which replays its journal, and must hold every step that was
// acknowledged.
func TestPowerCutForgetsNothingAcknowledged(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	tmp := t.TempDir()
	image, disk := filepath.Join(tmp, "disk.img"), filepath.Join(tmp, "disk")
	cut, after := filepath.Join(tmp, "cut.img"), filepath.Join(tmp, "cut")
	makeImage(t, image, 24<<20)
	mount(t, image, disk)
	defer umount(t, disk)
	dir := filepath.Join(disk, "state")
	w := startWriter(t, dir)
	defer w.kill(t)
	w.read(t, 1)
	rounds := 24
	if testing.Short() {
		rounds = 4
	}
	for range rounds {
		w.read(t, 1+rand.IntN(40))
		must(t, w.cmd.Process.Signal(syscall.SIGSTOP))
		waitStopped(t, w.cmd.Process.Pid)
		// Flushes that were under way when it stopped still end. The copy is
		// good when the image no longer changes.
		for copied := []byte(nil); ; {
			now := readFile(t, image)
			if bytes.Equal(now, copied) {
				break
			}
			copied = now
			writeFile(t, cut, now)
		}
		acked := map[string]int64{}
		for k, s := range w.acked {
			acked[k] = s
		}
		mount(t, cut, after)
		// What was acknowledged after the last line we read is there too; only
		// too little is an error.
		v, err := Open(crashOptions(filepath.Join(after, "state")))
		if err != nil {
			t.Fatalf("locked out after a power cut: %v", err)
		}
		for key, step := range acked {
			if u, _ := get(t, v, key); u.Step < step {
				t.Errorf("%s is at step %d, acknowledged was %d", key, u.Step, step)
			}
		}
		put(t, v, "uid:9", user{})
		mustClose(t, v)
		umount(t, after)
		must(t, w.cmd.Process.Signal(syscall.SIGCONT))
	}
	t.Logf("%d rounds, %v", rounds, w.acked)
}

// waitStopped waits until every thread of the process is stopped.
func waitStopped(t *testing.T, pid int) {
	t.Helper()
	var status unix.WaitStatus
	if _, err := unix.Wait4(pid, &status, unix.WUNTRACED, nil); err != nil || !status.Stopped() {
		t.Fatalf("not stopped: %v %v", status, err)
	}
}

// TestFullDiskDeniesAndRecovers fills the disk under the vault.
func TestFullDiskDeniesAndRecovers(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	tmp := t.TempDir()
	image, disk := filepath.Join(tmp, "disk.img"), filepath.Join(tmp, "disk")
	makeImage(t, image, 8<<20)
	mount(t, image, disk)
	defer umount(t, disk)
	o := options(t)
	o.Dir = filepath.Join(disk, "state")
	v := mustOpen(t, o)
	defer v.Close()
	put(t, v, "uid:1000", user{"alice", 1})

	filler := filepath.Join(disk, "filler")
	f, err := os.Create(filler)
	must(t, err)
	for size := 1 << 16; size >= 512; size /= 2 {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
			if err == nil {
				err = f.Sync()
			}
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
	}
	must(t, f.Close())

	// Free pages of the file may take a few commits; then there is no more room.
	var denied error
	var last int64 = 1
	for i := int64(2); denied == nil && i < 10000; i++ {
		denied = v.Update(context.Background(), func(tx *Tx) error {
			if err := tx.Put(Pending, fmt.Sprint("x", i), make([]byte, 9000)); err != nil {
				return err
			}
			return tx.Put(Users, "uid:1000", user{"alice", i})
		})
		if denied == nil {
			last = i
		}
	}
	if !errors.Is(denied, ErrUnwritable) || !strings.Contains(denied.Error(), "disk space") {
		t.Fatalf("on a full disk: %v", denied)
	}
	t.Log(denied)
	if u, ok := get(t, v, "uid:1000"); !ok || u.Step != last {
		t.Errorf("after the refusal: %v %v, acknowledged was %d", u, ok, last)
	}
	must(t, os.Remove(filler))
	put(t, v, "uid:1000", user{"alice", 1000000})
	mustClose(t, v)
	v = mustOpen(t, o)
	if u, _ := get(t, v, "uid:1000"); u.Step != 1000000 {
		t.Errorf("%v", u)
	}
	mustClose(t, v)
}

// TestReadOnlyDiskDeniesAndRecovers has the file system turn read-only under the
// running agent, as ext4 does after an error, and at a start.
func TestReadOnlyDiskDeniesAndRecovers(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	tmp := t.TempDir()
	image, disk := filepath.Join(tmp, "disk.img"), filepath.Join(tmp, "disk")
	makeImage(t, image, 16<<20)
	mount(t, image, disk)
	o := options(t)
	o.Dir = filepath.Join(disk, "state")
	v := mustOpen(t, o)
	put(t, v, "uid:1000", user{"alice", 1})

	run1(t, "mount", "-o", "remount,abort", disk)
	for range 2 {
		err := v.Update(context.Background(), func(tx *Tx) error { return tx.Put(Users, "uid:1000", user{"alice", 2}) })
		if !errors.Is(err, ErrUnwritable) {
			t.Fatalf("on a read-only disk: %v", err)
		}
		t.Log(err)
	}
	if err := v.View(func(tx *Tx) error { return nil }); !errors.Is(err, ErrUnwritable) {
		t.Errorf("View: %v", err)
	}
	if p := v.Info().Problem; !strings.Contains(p, "read-only") {
		t.Errorf("the problem shown: %q", p)
	}
	// Mounted again: the same agent goes on.
	umount(t, disk)
	mount(t, image, disk)
	if u, _ := get(t, v, "uid:1000"); u.Step != 1 {
		t.Errorf("%v", u)
	}
	put(t, v, "uid:1000", user{"alice", 3})
	if p := v.Info().Problem; p != "" {
		t.Errorf("the problem shown: %q", p)
	}
	mustClose(t, v)

	umount(t, disk)
	run1(t, "mount", "-o", "loop,ro", image, disk)
	mustDeny(t, o, ErrUnwritable)
	fresh := options(t)
	fresh.Dir = filepath.Join(disk, "other")
	if _, err := Open(fresh); !errors.Is(err, ErrUnwritable) {
		t.Errorf("a first start on a read-only disk: %v", err)
	}
	umount(t, disk)
	mount(t, image, disk)
	v = mustOpen(t, o)
	if u, _ := get(t, v, "uid:1000"); u.Step != 3 {
		t.Errorf("%v", u)
	}
	mustClose(t, v)
	umount(t, disk)
}

// TestFailingFlushDeniesAndForgetsNothing lets the disk under the file system run
// out, so that writes succeed and the flush fails. (Without a journal:
// with one, ext4 turns read-only, see above.)
func TestFailingFlushDeniesAndForgetsNothing(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	tmp := t.TempDir()
	under, disk := filepath.Join(tmp, "under"), filepath.Join(tmp, "disk")
	must(t, os.Mkdir(under, 0o700))
	run1(t, "mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", under)
	defer umount(t, under)
	image := filepath.Join(under, "disk.img")
	must(t, os.WriteFile(image, nil, 0o600))
	must(t, os.Truncate(image, 48<<20)) // sparse: its data blocks need room below
	run1(t, "mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,nodiscard", "-O", "^has_journal", "-e", "continue", image)
	mount(t, image, disk)
	defer umount(t, disk)
	o := options(t)
	o.Dir = filepath.Join(disk, "state")
	v := mustOpen(t, o)
	defer v.Close()
	put(t, v, "uid:1000", user{"alice", 1})
	unix.Sync()

	filler, err := os.Create(filepath.Join(under, "filler"))
	must(t, err)
	for err = nil; err == nil; {
		_, err = filler.Write(make([]byte, 4096))
	}
	must(t, filler.Close())
	var denied error
	var last int64 = 1
	for i := int64(2); denied == nil && i < 1000; i++ {
		denied = v.Update(context.Background(), func(tx *Tx) error {
			if err := tx.Put(Pending, fmt.Sprint("x", i), make([]byte, 30000)); err != nil {
				return err
			}
			return tx.Put(Users, "uid:1000", user{"alice", i})
		})
		if denied == nil {
			last = i
		}
	}
	if !errors.Is(denied, ErrUnwritable) {
		t.Fatalf("with a failing flush: %v", denied)
	}
	t.Log(denied)
	must(t, os.Remove(filepath.Join(under, "filler")))
	put(t, v, "uid:1001", user{"bob", 1})
	check := func(v *Vault) {
		if u, _ := get(t, v, "uid:1000"); u.Step < last {
			t.Errorf("forgotten: %v, acknowledged was %d", u, last)
		}
		if u, _ := get(t, v, "uid:1001"); u.Step != 1 {
			t.Errorf("%v", u)
		}
	}
	check(v)
	mustClose(t, v)
	// What counts is on the disk, not in the cache.
	umount(t, disk)
	mount(t, image, disk)
	v = mustOpen(t, o)
	check(v)
	mustClose(t, v)
}
