//go:build linux

package viewtest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport/authplugin/viewtest/screen"
)

const patience = screen.Patience

var (
	dir     string // of what was built
	desk    *screen.Screen
	missing error // why there is no screen
)

func TestMain(m *testing.M) {
	status, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "viewtest:", err)
		status = 1
	}
	os.Exit(status)
}

func run(m *testing.M) (status int, err error) {
	if missing = screen.Missing(); missing != nil {
		return m.Run(), nil // they skip, and say why
	}
	if dir, err = os.MkdirTemp("", "viewtest-"); err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	if err := os.Mkdir(filepath.Join(dir, "asan"), 0o700); err != nil {
		return 0, err
	}
	if out, err := exec.Command("make", "-s", "-C", "host", "OUT="+dir).CombinedOutput(); err != nil {
		return 0, fmt.Errorf("make: %w\n%s", err, out)
	}
	if desk, err = screen.Start(); err != nil {
		return 0, err
	}
	defer desk.Stop()
	return m.Run(), nil
}

// content is struct screen of screen.h.
type content struct {
	Version, Kind                                        uint32
	Login                                                [16]byte
	Prompt, Visible, MayBeEmpty, Ringing, Number, Unused uint32
	UntilMS                                              int64
	Phone                                                [65]byte
	User                                                 [256]byte
	Text, Notice                                         [1025]byte
	QR                                                   [6145]byte
	_                                                    [4]byte
}

const (
	ask  = 1 // SCREEN_ASK
	tell = 2 // SCREEN_TELL

	none   = 0 // ANSWER_NONE
	text   = 1 // ANSWER_TEXT
	cancel = 2 // ANSWER_CANCEL

	textMax = 128 // ANSWER_TEXT_MAX

	start = 1_000_000 // the host's clock, in milliseconds
)

// asking is a screen with a question.
func asking(question string) *content {
	s := &content{Version: 1, Kind: ask, Prompt: 1}
	copy(s.User[:255], "zoe")
	copy(s.Text[:1024], question)
	return s
}

// ringing is one with a phone beside it for 57 s.
func ringing() *content {
	s := asking("Type 42 on your phone (Zoë’s phone) to approve, then press Enter here.\nOr type a code from your authenticator app: ")
	s.Ringing, s.Number, s.UntilMS, s.MayBeEmpty = 1, 42, start+57_000, 1
	copy(s.Phone[:64], "Zoë’s phone")
	return s
}

func telling(why string) *content {
	s := asking(why)
	s.Kind = tell
	return s
}

func (s *content) hex() string {
	var b bytes.Buffer
	if err := binary.Write(&b, binary.NativeEndian, s); err != nil {
		panic(err)
	}
	return hex.EncodeToString(b.Bytes())
}

// answer is what done was called with.
type answer struct {
	kind int
	text string
}

// host is a running stand-in for SecurityAgent.
type host struct {
	t       *testing.T
	desk    *screen.Screen
	cmd     *exec.Cmd
	in      io.WriteCloser
	replies chan string
	answers chan answer
	errors  string // a file; what GNUstep leaves running holds it open, too
}

// startHost runs the host; with a wrapper before it, such as valgrind.
func startHost(t *testing.T, wrapper ...string) *host {
	t.Helper()
	return startHostOf(t, desk, filepath.Join(dir, "viewhost"), wrapper...)
}

func needScreen(t *testing.T) {
	t.Helper()
	if missing != nil {
		t.Skip("needs GNUstep, Xvfb and xdotool: " + missing.Error())
	}
}

func startHostOf(t *testing.T, desk *screen.Screen, program string, wrapper ...string) *host {
	t.Helper()
	needScreen(t)
	desk.Xdotool(t, "mousemove", "1020", "760") // it would be in the pictures
	line := append(wrapper, program, "-GSSuppressAppIcon", "YES")
	h := &host{t: t, desk: desk, cmd: exec.Command(line[0], line[1:]...), replies: make(chan string, 16), answers: make(chan answer, 1<<12)}
	h.cmd.Env = append(desk.Environment(), "ASAN_OPTIONS=detect_leaks=0:abort_on_error=1")
	stderr, err := os.CreateTemp(dir, "stderr-")
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	h.cmd.Stderr, h.errors = stderr, stderr.Name()
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := h.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := h.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	h.in = in
	go func() {
		for lines := bufio.NewReader(out); ; {
			line, err := lines.ReadString('\n')
			if err != nil {
				close(h.replies)
				return
			}
			line = strings.TrimSuffix(line, "\n")
			if rest, ok := strings.CutPrefix(line, "done "); ok {
				kind, text, _ := strings.Cut(rest, " ")
				k, _ := strconv.Atoi(kind)
				b, _ := hex.DecodeString(text)
				h.answers <- answer{k, string(b)}
				continue
			}
			h.replies <- line
		}
	}()
	t.Cleanup(h.end)
	h.expect("ready")
	return h
}

// end ends the host, and fails the test if it had died, or written of an error.
func (h *host) end() {
	io.WriteString(h.in, "quit\n")
	done := make(chan error, 1)
	go func() { done <- h.cmd.Wait() }()
	select {
	case err := <-done:
		if err != nil {
			h.t.Errorf("the host: %v", err)
		}
	case <-time.After(2 * patience):
		h.cmd.Process.Kill()
		h.t.Error("the host does not end")
	}
	text, err := os.ReadFile(h.errors)
	if err != nil {
		h.t.Error(err)
	}
	if e := string(text); strings.Contains(e, "xception") || strings.Contains(e, "ERROR: AddressSanitizer") {
		h.t.Errorf("the host said: %s", e)
	}
}

func (h *host) do(command string) string {
	h.t.Helper()
	if _, err := io.WriteString(h.in, command+"\n"); err != nil {
		h.t.Fatalf("the host is gone: %v", err)
	}
	return h.reply()
}

func (h *host) reply() string {
	h.t.Helper()
	select {
	case line, ok := <-h.replies:
		if !ok {
			h.t.Fatal("the host is gone")
		}
		return line
	case <-time.After(patience):
		h.t.Fatal("the host hangs")
	}
	return ""
}

func (h *host) expect(want string) {
	h.t.Helper()
	if got := h.reply(); got != want {
		h.t.Fatalf("the host said %q, want %q", got, want)
	}
}

// see is what the window shows now; empty when there is none.
func (h *host) see() screen.Views {
	h.t.Helper()
	var v screen.Views
	line := h.do("views")
	if err := json.Unmarshal([]byte(line), &v); err != nil {
		h.t.Fatalf("%v: %s", err, line)
	}
	return v
}

// until waits until the window shows what it should.
func (h *host) until(what string, shown func(screen.Views) bool) screen.Views {
	h.t.Helper()
	ctx, stop := context.WithTimeout(h.t.Context(), patience)
	defer stop()
	for {
		v := h.see()
		if shown(v) {
			return v
		}
		select {
		case <-ctx.Done():
			h.t.Fatalf("never seen: %s; the window shows %+v", what, v)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// open shows a screen, and waits until its window has the keyboard.
func (h *host) open(s *content) screen.Views {
	h.t.Helper()
	if got := h.do("open " + s.hex()); got != "ok" {
		h.t.Fatalf("open: %s", got)
	}
	return h.opened()
}

func (h *host) opened() screen.Views {
	h.t.Helper()
	return h.until("a window with the keyboard", func(v screen.Views) bool {
		w, ok := v.With("window")
		if !ok || !w.Focus || !h.desk.Focused(w) {
			return false
		}
		f, ok := v.Field()
		return !ok || f.Focus
	})
}

func (h *host) untilText(text string) screen.Views {
	h.t.Helper()
	return h.until(strconv.Quote(text), func(v screen.Views) bool { _, ok := v.With(text); return ok })
}

// typed waits until the field has this.
func (h *host) typed(want string) {
	h.t.Helper()
	last := ""
	h.until("the field with "+strconv.Quote(want), func(v screen.Views) bool {
		if f, ok := v.Field(); ok && f.Text != last {
			last = f.Text
		}
		return last == want
	})
}

// answer waits for done.
func (h *host) answer() answer {
	h.t.Helper()
	select {
	case a := <-h.answers:
		return a
	case <-time.After(patience):
		h.t.Fatalf("done is not called; the window shows %+v", h.see())
	}
	return answer{}
}

// nothing checks that done was not called: all that was pressed has been seen by
// then, as what the main thread does, it does in order.
func (h *host) nothing() {
	h.t.Helper()
	select {
	case a := <-h.answers:
		h.t.Fatalf("done(%d, %q)", a.kind, a.text)
	default:
	}
}
