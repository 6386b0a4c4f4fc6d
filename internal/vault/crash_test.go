package vault

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/internal/event"
	"sallyport/internal/keychain"
)

const writerEnv = "SALLYPORT_TEST_WRITER"

// TestHelperWriter is not a test: it is the agent that the tests below kill. It
// opens the vault, says so, and then counts a few users up for ever, saying each
// step once Update has acknowledged it.
func TestHelperWriter(t *testing.T) {
	dir := os.Getenv(writerEnv)
	if dir == "" {
		return
	}
	v, err := Open(crashOptions(dir))
	if err != nil {
		fmt.Println("refused", err)
		os.Exit(1)
	}
	fmt.Println("open")
	var wg sync.WaitGroup
	for n := range 4 {
		wg.Go(func() {
			key := fmt.Sprint("uid:", n)
			for {
				var u user
				err := v.Update(context.Background(), func(tx *Tx) error {
					if _, err := tx.Get(Users, key, &u); err != nil {
						return err
					}
					u.Step++
					tx.Append(event.Event{Name: event.LoginAttempt, Key: key, Reason: strings.Repeat("x", int(u.Step%2000))})
					if u.Step%3 == 0 { // the set of records changes too
						if err := tx.Delete(Pending, key); err != nil {
							return err
						}
					} else if err := tx.Put(Pending, key, u); err != nil {
						return err
					}
					return tx.Put(Users, key, u)
				})
				if err != nil {
					fmt.Println("refused", err)
					os.Exit(1)
				}
				fmt.Printf("%s %d\n", key, u.Step)
			}
		})
	}
	wg.Wait()
}

// crashOptions are the writer's. Few events are kept, so that some are dropped.
func crashOptions(dir string) Options {
	return Options{
		Dir: dir, EventLimit: 50,
		Keychain: keychain.Config{Kind: keychain.File},
		Log:      slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
}

// writer is a running TestHelperWriter.
type writer struct {
	cmd   *exec.Cmd
	lines *bufio.Scanner
	acked map[string]int64
}

func startWriter(t *testing.T, dir string) *writer {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestHelperWriter$")
	cmd.Env = append(os.Environ(), writerEnv+"="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	return &writer{cmd, bufio.NewScanner(out), map[string]int64{}}
}

// read takes up to n acknowledgements, or all there are if n is negative.
func (w *writer) read(t *testing.T, n int) {
	t.Helper()
	for ; n != 0 && w.lines.Scan(); n-- {
		line := w.lines.Text()
		if strings.HasPrefix(line, "refused") {
			t.Fatal(line)
		}
		if key, step, ok := strings.Cut(line, " "); ok {
			s, err := strconv.ParseInt(step, 10, 64)
			if err != nil {
				continue // cut off by the kill
			}
			w.acked[key] = s
		}
	}
}

func (w *writer) kill(t *testing.T) {
	t.Helper()
	must(t, w.cmd.Process.Kill())
	w.read(t, -1) // what was acknowledged before it died
	_ = w.cmd.Wait()
}

// mustHold opens the vault and wants everything acknowledged in it, and all of it
// sound. One step more may be there: done, and killed before it could say so.
func mustHold(t *testing.T, dir string, acked map[string]int64) {
	t.Helper()
	v, err := Open(crashOptions(dir))
	if err != nil {
		t.Fatalf("locked out after a crash: %v", err)
	}
	defer v.Close()
	for key, step := range acked {
		u, _ := get(t, v, key)
		if u.Step < step || u.Step > step+1 {
			t.Errorf("%s is at step %d, acknowledged was %d", key, u.Step, step)
		}
		acked[key] = u.Step
	}
	for i, e := range events(t, v) {
		if first := v.Info().LastSeq - v.Info().Events + 1; e.Seq != first+uint64(i) {
			t.Errorf("event %d has number %d", i, e.Seq)
		}
	}
}

// TestKilledAtAnyPointNothingAcknowledgedIsLost kills the agent again and again,
// at its start, at its first start, and in the middle of commits.
func TestKilledAtAnyPointNothingAcknowledgedIsLost(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	acked := map[string]int64{}
	rounds := 60
	if testing.Short() {
		rounds = 10
	}
	for range rounds {
		w := startWriter(t, dir)
		w.acked = acked
		w.read(t, 1+rand.IntN(60)) // "open" is one
		spin(time.Duration(rand.IntN(1000)) * time.Microsecond)
		w.kill(t)
		mustHold(t, dir, acked)
	}
	if len(acked) != 4 {
		t.Errorf("%v", acked)
	}
	t.Logf("%d rounds, %v", rounds, acked)
}

func TestKilledDuringTheFirstStart(t *testing.T) {
	for range 40 {
		dir := filepath.Join(t.TempDir(), "state")
		w := startWriter(t, dir)
		// A start takes a few milliseconds; the kill comes anywhere in it.
		spin(time.Duration(rand.IntN(12000)) * time.Microsecond)
		w.kill(t)
		mustHold(t, dir, w.acked)
	}
}

// spin lets a random moment pass; what the tests need is that it is random.
func spin(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
	}
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

// TestAnchorThatCannotBeWrittenDenies has only the second witness fail. The caller
// is refused; what bbolt committed by then may stand, and the next start must be
// possible all the same.
func TestAnchorThatCannotBeWrittenDenies(t *testing.T) {
	o := options(t)
	v := mustOpen(t, o)
	put(t, v, "uid:1000", user{"alice", 1})
	for step := int64(2); step < 5; step++ {
		readOnly(t, v.anchor.f)
		err := v.Update(context.Background(), func(tx *Tx) error { return tx.Put(Users, "uid:1000", user{"alice", step}) })
		if !errors.Is(err, ErrUnwritable) || !strings.Contains(err.Error(), "anchor") {
			t.Fatalf("%v", err)
		}
		if u, _ := get(t, v, "uid:1000"); u.Step != step && u.Step != step-1 {
			t.Errorf("%v", u)
		}
	}
	put(t, v, "uid:1000", user{"alice", 9})
	mustClose(t, v)
	v = mustOpen(t, o)
	if u, _ := get(t, v, "uid:1000"); u.Step != 9 {
		t.Errorf("%v", u)
	}
}
