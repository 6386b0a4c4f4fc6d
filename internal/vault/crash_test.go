package vault

import (
	"bufio"
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
	"testing"
	"time"

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
				if _, err := fmt.Printf("%s %d\n", key, u.Step); err != nil {
					os.Exit(1) // whoever started this is gone
				}
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
	dieWithUs(cmd)
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
			w.acked[key] = max(w.acked[key], s) // a number may be cut off, too
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
	begun := time.Now()
	w := startWriter(t, filepath.Join(t.TempDir(), "state"))
	w.read(t, 1)
	took := time.Since(begun)
	w.kill(t)
	rounds := 40
	if testing.Short() {
		rounds = 10
	}
	for range rounds {
		dir := filepath.Join(t.TempDir(), "state")
		w := startWriter(t, dir)
		// The kill comes anywhere in the start, or right after it.
		spin(rand.N(took * 5 / 4))
		w.kill(t)
		mustHold(t, dir, w.acked)
	}
}

// spin lets a random moment pass; what the tests need is that it is random.
func spin(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
	}
}

// onWriter runs fn on the writer's goroutine, to which what fn changes belongs.
func onWriter(t *testing.T, v *Vault, fn func() error) {
	t.Helper()
	must(t, v.enqueue(context.Background(), &request{alone: fn, done: make(chan error, 1)}))
}

// TestAnchorThatCannotBeWrittenDenies has only the second witness fail. The caller
// is refused; what bbolt committed by then may stand, and the next start must be
// possible all the same.
func TestAnchorThatCannotBeWrittenDenies(t *testing.T) {
	o := options(t)
	v := mustOpen(t, o)
	put(t, v, "uid:1000", user{"alice", 1})
	for step := int64(2); step < 5; step++ {
		onWriter(t, v, func() error {
			f, err := os.Open(v.anchor.f.Name())
			must(t, err)
			must(t, v.anchor.f.Close())
			v.anchor.f = f
			return nil
		})
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
