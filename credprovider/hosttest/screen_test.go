package hosttest

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// patience bounds every wait for the screen; it is longer than any of the DLL's own.
const patience = 2 * time.Minute

// awaitMS is how long the host waits for the provider to speak up; less than patience.
const awaitMS = 60_000

// screen is a login screen, and the person in front of it. Its methods fail the
// test when the host says that the provider broke a contract.
type screen struct {
	t     *testing.T
	in    io.WriteCloser
	said  chan answer
	shown chan string // the messages of a submit under way
	logs  chan string // the entries of the Event Log
	done  chan error  // how the host ended; closed then

	visit     visit
	providers []provider
	tiles     []tile
	fields    []field // of the tile that is selected
	last      answer  // to submit
}

// answer is what the host says to a line.
type answer struct {
	Error    string
	Breaches []string

	Providers []provider
	Tiles     []tile
	Default   *int
	Automatic bool
	Changed   bool
	Fields    []field

	Connect              string
	ConnectMS, SilenceMS int
	Cancelled            bool
	Messages             []string
	SerializeMS          int
	BlockedMS            int // the same, on the host's clock that stands still when the host does
	Serialize, Response  string
	Text, Icon           string
	Credential           *credential

	Set, Reported, Disconnected string
	Updated, To, Taken          string
	Blob                        hexBytes

	Found    []struct{ At, As, Around string }
	Searched int
	figures

	CanUnload, Unloaded                  bool
	ProviderReferences, FilterReferences int
}

type provider struct {
	CLSID, Name    string
	Allowed, Ready bool
	Created, Usage string
}

type tile struct {
	Provider              string
	SID                   string
	Selected, Connectable bool
	Fields                []field
}

type field struct {
	ID                     int
	Type, Label            string
	Shown, ShownUnselected bool
	Interactive, Text      string
	Beside                 int
}

type credential struct {
	CLSID     string
	Negotiate bool // it is for that package
	Blob      hexBytes
}

type figures struct {
	Handles, GDI, User    int
	Committed             int
	HeapBlocks, HeapBytes int
}

type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

// turnOn starts a host that has seen nothing yet, with these variables (NAME=value)
// in its environment.
func turnOn(t *testing.T, env ...string) *screen {
	t.Helper()
	need(t)
	w := *windows(t)
	w.Env = append(env, "WINEDEBUG=-all,err+eventlog,warn+eventlog,err+heap") // all on stderr
	ctx, cancel := context.WithCancel(context.Background())                   // t's own is over before its clean-up
	cmd := w.Command(ctx, filepath.Join(dist, "logonui-host.exe"))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	log, stderr, err := os.Pipe() // which what Windows starts beside the host keeps open for longer
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = stderr
	err = cmd.Start()
	stderr.Close()
	if err != nil {
		t.Fatal(err)
	}
	s := &screen{t: t, in: in, said: make(chan answer, 16), shown: make(chan string, 100), logs: make(chan string, 10_000), done: make(chan error, 1)}
	go s.readLog(log)
	go func() {
		s.read(out)
		close(s.said)
		if err := cmd.Wait(); err != nil {
			s.done <- fmt.Errorf("the host ended with %w", err)
		}
		close(s.done)
	}()
	t.Cleanup(func() {
		defer cancel()
		in.Close() // the host ends with it
		if err := s.end(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// end waits for the host's end.
func (s *screen) end() error {
	select {
	case err := <-s.done:
		return err
	case <-time.After(patience):
		return errors.New("the host does not end")
	}
}

// diesOf wants the host to have ended with an exit status.
func (s *screen) diesOf(status int) {
	s.t.Helper()
	var exit *exec.ExitError
	if err := s.end(); !errors.As(err, &exit) || exit.ExitCode() != status {
		s.t.Errorf("the host ended with %v, want exit status %d", err, status)
	}
}

// read hands on what the host says until it ends.
func (s *screen) read(out io.Reader) {
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<22)
	for lines.Scan() {
		var line struct {
			Shown *string
			answer
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			line.Error = fmt.Sprintf("the host says %q: %v", lines.Text(), err)
		}
		if line.Shown != nil {
			s.shown <- *line.Shown
			continue
		}
		s.said <- line.answer
	}
}

// readLog hands on what the DLL writes to the Event Log, which under Wine goes nowhere
// else.
func (s *screen) readLog(from *os.File) {
	defer from.Close()
	entry := regexp.MustCompile(`:(err|warn):eventlog:ReportEventW L"(.*)"$`)
	for lines := bufio.NewScanner(from); lines.Scan(); {
		switch m := entry.FindStringSubmatch(lines.Text()); {
		case m != nil:
			s.logs <- m[2]
		case strings.Contains(lines.Text(), ":err:heap:"):
			s.t.Errorf("a heap is damaged: %s", lines.Text())
		default:
			fmt.Fprintln(os.Stderr, lines.Text())
		}
	}
}

// logged waits for an entry in the Event Log.
func (s *screen) logged(part string) {
	s.t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case entry := <-s.logs:
			if strings.Contains(entry, password) {
				s.t.Errorf("the password is in the Event Log: %s", entry)
			}
			if strings.Contains(entry, part) {
				return
			}
		case <-deadline:
			s.t.Fatalf("the Event Log has no entry with %q", part)
		}
	}
}

// try does one command and returns what the host says, errors too.
func (s *screen) try(command string, words ...any) answer {
	s.t.Helper()
	s.start(command, words...)
	return s.finish(command)
}

// start does not wait for the answer.
func (s *screen) start(command string, words ...any) {
	s.t.Helper()
	for _, w := range words {
		command += " " + strings.ReplaceAll(url.QueryEscape(fmt.Sprint(w)), "+", "%20")
	}
	if _, err := io.WriteString(s.in, command+"\n"); err != nil {
		s.t.Fatalf("the host is gone: %v", err)
	}
}

// finish takes the answer, and a breach in it fails the test.
func (s *screen) finish(command string) answer {
	s.t.Helper()
	a := s.listen(command)
	for _, b := range a.Breaches {
		s.t.Errorf("%s: %s", command, b)
	}
	if a.Fields != nil {
		s.fields = a.Fields
	}
	return a
}

// listen takes the answer as it is.
func (s *screen) listen(command string) answer {
	s.t.Helper()
	select {
	case a, ok := <-s.said:
		if !ok {
			s.t.Fatalf("%s: the host died: %v", command, <-s.done)
		}
		return a
	case <-time.After(patience):
		s.t.Fatalf("%s: the screen hangs", command)
	}
	panic("not reached")
}

// do is try for what must work.
func (s *screen) do(command string, words ...any) answer {
	s.t.Helper()
	a := s.try(command, words...)
	if a.Error != "" {
		s.t.Fatalf("%s: %s; on the screen: %s", command, a.Error, s.look())
	}
	return a
}

// look is what the person sees of the selected tile, for messages of a test.
func (s *screen) look() string {
	var b strings.Builder
	for _, f := range s.fields {
		if f.Shown {
			fmt.Fprintf(&b, "\n  [%d %s] %s: %q %s", f.ID, f.Type, f.Label, f.Text, f.Interactive)
		}
	}
	return b.String()
}
