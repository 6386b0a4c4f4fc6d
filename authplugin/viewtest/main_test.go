//go:build linux

package viewtest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the pictures of docs/img anew")

// patience is how long anything here may take; on a busy machine, too.
const patience = 20 * time.Second

var (
	dir     string // of what was built, the screen's memory and the host's home
	display string
	missing error // why there is no display
)

func TestMain(m *testing.M) {
	flag.Parse()
	status, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "viewtest:", err)
		status = 1
	}
	os.Exit(status)
}

func run(m *testing.M) (status int, err error) {
	for _, tool := range []string{"Xvfb", "setxkbmap", "xdotool", "gcc", "make"} {
		if _, err := exec.LookPath(tool); err != nil {
			missing = errors.Join(missing, err)
		}
	}
	if _, err := os.Stat("/usr/include/GNUstep/AppKit/AppKit.h"); err != nil {
		missing = errors.Join(missing, err)
	}
	if missing != nil {
		return m.Run(), nil // they skip, and say why
	}
	if dir, err = os.MkdirTemp("", "viewtest-"); err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	for _, d := range []string{"home", "screen", "asan"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			return 0, err
		}
	}
	if out, err := exec.Command("make", "-s", "-C", "host", "OUT="+dir).CombinedOutput(); err != nil {
		return 0, fmt.Errorf("make: %w\n%s", err, out)
	}
	stop, err := startX()
	if err != nil {
		return 0, err
	}
	defer stop()
	defer endServants()
	return m.Run(), nil
}

// startX starts an X server on a number that was free (Xvfb(1), -displayfd), its
// picture in a file (-fbdir).
func startX() (stop func(), err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	x := exec.Command("Xvfb", "-displayfd", "3", "-screen", "0", "1024x768x24", "-nolisten", "tcp", "-fbdir", filepath.Join(dir, "screen"))
	x.ExtraFiles = []*os.File{w}
	x.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := x.Start(); err != nil {
		return nil, err
	}
	w.Close()
	stop = func() {
		x.Process.Signal(syscall.SIGTERM)
		x.Wait()
	}
	if err := r.SetReadDeadline(time.Now().Add(patience)); err != nil {
		stop()
		return nil, err
	}
	number, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		stop()
		return nil, fmt.Errorf("Xvfb names no display: %w", err)
	}
	display = ":" + strings.TrimSpace(number)
	// A layout with letters that are not ASCII: xdotool would have to change the map
	// for each, faster than GNUstep reads it.
	layout := exec.Command("setxkbmap", "-layout", "al")
	layout.Env = environment()
	if out, err := layout.CombinedOutput(); err != nil {
		stop()
		return nil, fmt.Errorf("setxkbmap: %w: %s", err, out)
	}
	return stop, nil
}

// environment is the host's and xdotool's. HOME marks what GNUstep starts.
func environment() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + filepath.Join(dir, "home"), "GNUSTEP_USER_DIR=GNUstep", "DISPLAY=" + display, "LC_ALL=C.UTF-8"}
}

// endServants ends the daemons (gdnc) that GNUstep has started for the hosts and left.
func endServants() {
	mark := []byte("HOME=" + filepath.Join(dir, "home") + "\x00")
	all, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, file := range all {
		env, err := os.ReadFile(file)
		pid, bad := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err == nil && bad == nil && pid != os.Getpid() && bytes.Contains(append([]byte{0}, env...), append([]byte{0}, mark...)) {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// screen is struct screen of screen.h.
type screen struct {
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
func asking(question string) *screen {
	s := &screen{Version: 1, Kind: ask, Prompt: 1}
	copy(s.User[:255], "zoe")
	copy(s.Text[:1024], question)
	return s
}

// ringing is one with a phone beside it for 57 s.
func ringing() *screen {
	s := asking("Type 42 on your phone (Zoë’s phone) to approve, then press Enter here.\nOr type a code from your authenticator app: ")
	s.Ringing, s.Number, s.UntilMS, s.MayBeEmpty = 1, 42, start+57_000, 1
	copy(s.Phone[:64], "Zoë’s phone")
	return s
}

func telling(why string) *screen {
	s := asking(why)
	s.Kind = tell
	return s
}

func (s *screen) hex() string {
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

// seen is one thing on the screen, in X's coordinates.
type seen struct {
	Class, Text, Label                   string
	X, Y, W, H, Level                    int
	Enabled, Editable, Selectable, Focus bool
}

type views []seen

// with finds what has this text, or is of this class.
func (v views) with(name string) (seen, bool) {
	i := slices.IndexFunc(v, func(s seen) bool { return s.Text == name || s.Class == name })
	if i < 0 {
		return seen{}, false
	}
	return v[i], true
}

func (v views) field() (seen, bool) {
	i := slices.IndexFunc(v, func(s seen) bool { return s.Editable })
	if i < 0 {
		return seen{}, false
	}
	return v[i], true
}

// host is a running stand-in for SecurityAgent.
type host struct {
	t       *testing.T
	cmd     *exec.Cmd
	in      io.WriteCloser
	replies chan string
	answers chan answer
	errors  string // a file; what GNUstep leaves running holds it open, too
}

// startHost runs the host; with a wrapper before it, such as valgrind.
func startHost(t *testing.T, wrapper ...string) *host {
	t.Helper()
	return startHostOf(t, filepath.Join(dir, "viewhost"), wrapper...)
}

func startHostOf(t *testing.T, program string, wrapper ...string) *host {
	t.Helper()
	if missing != nil {
		t.Skip("needs GNUstep, Xvfb and xdotool: " + missing.Error())
	}
	line := append(wrapper, program, "-GSSuppressAppIcon", "YES")
	h := &host{t: t, cmd: exec.Command(line[0], line[1:]...), replies: make(chan string, 16), answers: make(chan answer, 1<<12)}
	h.cmd.Env = append(environment(), "ASAN_OPTIONS=detect_leaks=0:abort_on_error=1")
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
func (h *host) see() views {
	h.t.Helper()
	var v views
	line := h.do("views")
	if err := json.Unmarshal([]byte(line), &v); err != nil {
		h.t.Fatalf("%v: %s", err, line)
	}
	return v
}

// until waits until the window shows what it should.
func (h *host) until(what string, shown func(views) bool) views {
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
func (h *host) open(s *screen) views {
	h.t.Helper()
	if got := h.do("open " + s.hex()); got != "ok" {
		h.t.Fatalf("open: %s", got)
	}
	return h.opened()
}

func (h *host) opened() views {
	h.t.Helper()
	return h.until("a window with the keyboard", func(v views) bool {
		w, ok := v.with("window")
		return ok && w.Focus && xFocus(h.t)
	})
}

func (h *host) untilText(text string) views {
	h.t.Helper()
	return h.until(strconv.Quote(text), func(v views) bool { _, ok := v.with(text); return ok })
}

// typed waits until the field has this.
func (h *host) typed(want string) {
	h.t.Helper()
	last := ""
	h.until("the field with "+strconv.Quote(want), func(v views) bool {
		if f, ok := v.field(); ok && f.Text != last {
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

func xdotool(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command("xdotool", args...)
	cmd.Env = environment()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("xdotool %v: %v: %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// xFocus says whether X gives the keys to a window.
func xFocus(t *testing.T) bool {
	cmd := exec.Command("xdotool", "getwindowfocus")
	cmd.Env = environment()
	out, err := cmd.Output()
	id, bad := strconv.Atoi(strings.TrimSpace(string(out)))
	return err == nil && bad == nil && id > 1
}

func keys(t *testing.T, names ...string) {
	t.Helper()
	xdotool(t, append([]string{"key", "--delay", "2"}, names...)...)
}

// keysyms are names of the layout's that xdotool finds by name alone.
var keysyms = map[rune]string{'ë': "ediaeresis", 'ç': "ccedilla"}

func typing(t *testing.T, text string) {
	t.Helper()
	var named []string
	for _, c := range text {
		if c < 0x80 {
			named = append(named, string(c)) // a letter or a digit is named as it is
		} else {
			named = append(named, keysyms[c])
		}
	}
	if !strings.ContainsFunc(text, func(c rune) bool { return c >= 0x80 }) {
		xdotool(t, "type", "--delay", "2", text)
		return
	}
	keys(t, named...)
}

// click presses the mouse, and lets it go when the button is seen to be down: GNUstep
// loses a release that comes with the press, and waits for it for ever.
func click(t *testing.T, s seen) {
	t.Helper()
	xdotool(t, "mousemove", strconv.Itoa(s.X+s.W/2), strconv.Itoa(s.Y+s.H/2))
	up := steady(t, s)
	xdotool(t, "mousedown", "1")
	for end := time.Now().Add(patience); bytes.Equal(up.Pix, picture(t, s).Pix); {
		if time.Now().After(end) {
			t.Fatalf("%q does not go down", s.Text)
		}
		time.Sleep(10 * time.Millisecond)
	}
	xdotool(t, "mouseup", "1")
}
