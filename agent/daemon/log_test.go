package daemon

import (
	"bufio"
	"os"
	"strings"
	"testing"
	"time"
)

// A log that nobody reads (a full pipe, a journal that hangs) must not keep
// anybody from logging in.
func TestALogThatBlocksStopsNothing(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr := os.Stderr
	os.Stderr = w
	log, flush := newLog("stderr")
	logged := make(chan struct{})
	go func() {
		defer close(logged)
		for range 10 * logLines {
			log.Info(strings.Repeat("x", 200))
		}
	}()
	select {
	case <-logged:
	case <-time.After(time.Minute):
		t.Fatal("the log stopped whoever logs")
	}
	// Once it is read again, it says what is missing.
	said := make(chan struct{}, 1)
	go func() {
		lines := bufio.NewScanner(r)
		for lines.Scan() {
			if strings.Contains(lines.Text(), "lines_dropped=") {
				select {
				case said <- struct{}{}:
				default:
				}
			}
		}
	}()
	log.Info("one more, behind the gap")
	select {
	case <-said:
	case <-time.After(time.Minute):
		t.Error("nothing says that lines were dropped")
	}
	flush()
	os.Stderr = stderr
	w.Close()
	log.Info("after the end") // is lost, and does no harm
}
