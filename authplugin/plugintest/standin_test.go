//go:build linux

package plugintest

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"sallyport/authplugin/viewtest/screen"
)

// standin is a running authd of ours, with the plug-in loaded into it.
type standin struct {
	t         *testing.T
	cmd       *exec.Cmd
	in        io.WriteCloser
	library   string // the plug-in's /Library/Application Support/Sallyport
	log       *syslogd
	stderr    *bytes.Buffer
	tolerates []string // violations that this test provokes

	mu     sync.Mutex
	logins map[int]*login
	next   int
	output strings.Builder
	said   map[int]chan []string
	typed  []string
}

// options of a stand-in.
type options struct {
	version   int            // of the callbacks; 0 stands for 4, -1 for 0
	instances int            // 1: everything in one
	wrapper   []string       // a program that runs it
	screen    *screen.Screen // where the real view is shown
}

// start starts a stand-in whose plug-in reaches the agent whose sockets are in dir.
func (b build) start(t *testing.T, dir string, o options) *standin {
	t.Helper()
	place, err := os.MkdirTemp("/run", "pt-")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(place) })
	s := &standin{t: t, library: filepath.Join(place, "library"), stderr: new(bytes.Buffer), logins: map[int]*login{}, said: map[int]chan []string{}}
	must(t, os.Mkdir(s.library, 0o755))
	s.log = listenLog(t, filepath.Join(place, "log"))
	switch o.version {
	case 0:
		o.version = 4
	case -1:
		o.version = 0
	}
	// A name space of its own: every plug-in finds its agent, its log and its list of
	// break-glass accounts at the same place.
	const script = `mount --bind "$1" ` + runtimeDir + ` && mount --bind "$2" "` + libraryDir + `" && mount --bind "$3" /dev/log && shift 3 && exec "$@"`
	args := append([]string{"-c", script, "authd", dir, s.library, filepath.Join(place, "log")}, o.wrapper...)
	args = append(args, b.authd, b.plugin, strconv.Itoa(o.version))
	if o.instances == 1 {
		args = append(args, "1")
	}
	s.cmd = exec.Command("sh", args...)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	s.cmd.Env = append(os.Environ(), "ASAN_OPTIONS=detect_leaks=1:abort_on_error=0", "UBSAN_OPTIONS=print_stacktrace=1")
	s.cmd.Stderr = s.stderr
	if o.screen != nil {
		s.cmd.Args = append(s.cmd.Args, "-GSSuppressAppIcon", "YES")
		s.cmd.Env = o.screen.Environment()
	}
	s.in, err = s.cmd.StdinPipe()
	must(t, err)
	stdout, err := s.cmd.StdoutPipe()
	must(t, err)
	must(t, s.cmd.Start())
	lines := bufio.NewReaderSize(stdout, 64<<10)
	ready, err := lines.ReadString('\n')
	if err != nil || ready != "ready\n" {
		s.cmd.Wait()
		t.Fatalf("the stand-in says %q, %v\n%s", ready, err, s.stderr)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.read(lines)
	}()
	t.Cleanup(func() { s.end(done) })
	return s
}

func (s *standin) read(lines *bufio.Reader) {
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			s.mu.Lock()
			for _, c := range s.said {
				close(c)
			}
			s.said = nil
			s.mu.Unlock()
			return
		}
		f := strings.Fields(line)
		s.mu.Lock()
		if len(f) < 2 || !slices.Contains([]string{"value", "views", "memory"}, f[1]) { // the test itself asked for that
			s.output.WriteString(line)
		}
		n, err := strconv.Atoi(f[0])
		if f[0] != "bye" && err == nil && len(f) > 1 {
			select {
			case s.channel(n) <- f[1:]:
			default:
				s.t.Errorf("the stand-in says too much: %s", line)
			}
		}
		s.mu.Unlock()
		if len(f) > 1 && f[1] == "violation" && !slices.ContainsFunc(s.tolerates, func(v string) bool { return strings.Contains(line, v) }) {
			s.t.Errorf("the plug-in breaks a rule: %s", line)
		}
	}
}

// channel is what is said of one engine; mu is held.
func (s *standin) channel(n int) chan []string {
	if s.said == nil {
		c := make(chan []string)
		close(c)
		return c
	}
	if s.said[n] == nil {
		s.said[n] = make(chan []string, 4096)
	}
	return s.said[n]
}

func (s *standin) say(format string, args ...any) {
	s.t.Helper()
	if _, err := fmt.Fprintf(s.in, format+"\n", args...); err != nil {
		s.t.Fatalf("the stand-in is gone: %v\n%s", err, s.stderr)
	}
}

// end ends it, and looks for what no login may leave: an answer in what it said or in
// the log, anything on stderr (sanitizers speak up there), an exit status.
func (s *standin) end(done chan struct{}) {
	if s.t.Failed() {
		s.t.Logf("the stand-in said:\n%s\nits log:\n%s", s.output.String(), s.log.text())
	}
	fmt.Fprintln(s.in, "0 end")
	s.in.Close()
	ended := make(chan error, 1)
	go func() { <-done; ended <- s.cmd.Wait() }()
	select {
	case err := <-ended:
		if err != nil || speaksUp(s.stderr.String()) {
			s.t.Errorf("the stand-in: %v\n%s", err, s.stderr)
		}
	case <-time.After(patience):
		s.t.Errorf("the stand-in does not end")
		_ = s.cmd.Process.Kill()
		<-ended
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	texts := map[string]string{"what the stand-in says": readable(s.output.String()), "the system's log": s.log.text(), "the agent's log": office.Output()}
	secrets := append(s.typed, password)
	slices.Sort(secrets)
	secrets = slices.Compact(secrets) // a thousand logins type the same
	for where, text := range texts {
		for _, typed := range secrets {
			if utf8.ValidString(typed) && regexp.MustCompile(`(^|[^0-9A-Za-z])`+regexp.QuoteMeta(typed)+`($|[^0-9A-Za-z])`).MatchString(text) {
				s.t.Errorf("what was typed is in %s", where)
			}
		}
	}
}

// speaksUp says whether somebody complains. GNUstep has words about its fonts for
// everybody.
func speaksUp(stderr string) bool {
	return slices.ContainsFunc(strings.Split(stderr, "\n"), func(line string) bool {
		return line != "" && !strings.Contains(line, "Failed to determine offsets for style")
	})
}

var aHexWord = regexp.MustCompile(`\b(?:[0-9a-f]{2}){4,}\b`)

// readable is what the stand-in said with its hex decoded.
func readable(said string) string {
	return aHexWord.ReplaceAllStringFunc(said, func(word string) string {
		b, err := hex.DecodeString(word)
		if err != nil {
			return word
		}
		return string(b)
	})
}

// login is one evaluation of a list of mechanisms.
type login struct {
	*standin
	t     *testing.T
	n     int
	who   account
	trail []string // what the mechanisms did
	shown *shown   // the last window
	open  bool
	right bool // the right code was typed, or the phone approved
}

// shown is what the window showed.
type shown struct {
	kind                          string
	prompt                        int
	visible, mayBeEmpty, ringing  bool
	number                        int
	phone, user, text, notice, qr string
}

// The lists, as the package puts them into the rights database.
const (
	atLogin = "begin,privileged prompt verify,privileged"
	session = "begin-session,privileged prompt verify,privileged"
	// password is the first factor's, which builtin:authenticate has checked.
	password = "correct horse battery"
)

// login makes an engine as it stands behind builtin:authenticate, for this account.
func (s *standin) login(t *testing.T, who account, list string) *login {
	t.Helper()
	s.mu.Lock()
	s.next++
	l := &login{standin: s, t: t, n: s.next, who: who}
	s.mu.Unlock()
	if list != "" {
		l.do("list %s", list)
	}
	l.context("username", []byte(who.name+"\x00"))
	l.context("uid", uidBytes(who.uid))
	l.context("password", []byte(password+"\x00"))
	return l
}

// uidBytes is a uid_t as authd keeps it.
func uidBytes(uid uint32) []byte { return binary.NativeEndian.AppendUint32(nil, uid) }

func (l *login) do(format string, args ...any) {
	l.t.Helper()
	l.say("%d %s", l.n, fmt.Sprintf(format, args...))
}

func toHex(b []byte) string {
	if len(b) == 0 {
		return "-"
	}
	return hex.EncodeToString(b)
}

func fromHex(t *testing.T, s string) string {
	t.Helper()
	if s == "-" {
		return ""
	}
	b, err := hex.DecodeString(s)
	must(t, err)
	return string(b)
}

func (l *login) context(key string, value []byte) {
	l.t.Helper()
	l.do("context %s %s", key, toHex(value))
}
func (l *login) hint(key string, value []byte) { l.t.Helper(); l.do("hint %s %s", key, toHex(value)) }

// runs starts the evaluation.
func (l *login) runs() *login { l.t.Helper(); l.do("run"); return l }

// until takes what is said up to one of these words.
func (l *login) until(words ...string) []string {
	l.t.Helper()
	l.mu.Lock()
	c := l.channel(l.n)
	l.mu.Unlock()
	deadline := time.After(patience)
	for {
		select {
		case f, ok := <-c:
			if !ok {
				l.t.Fatalf("the stand-in died; %q was expected\n%s", words, l.stderr)
			}
			l.note(f)
			if slices.Contains(words, f[0]) {
				return f
			}
			if f[0] == "ended" {
				l.t.Fatalf("the list ended (%s); %q was expected; %s", f[1], words, l.story())
			}
		case <-deadline:
			l.t.Fatalf("nothing happens; %q was expected; %s", words, l.story())
		}
	}
}

func (l *login) note(f []string) {
	switch f[0] {
	case "result":
		l.trail = append(l.trail, f[1]+" "+f[2])
	case "interrupt", "ignored", "skip", "deactivated", "failed", "uninvoked", "uncreated":
		l.trail = append(l.trail, f[0]+" "+f[1])
	case "closed":
		l.open = false
	case "shown":
		flag := func(i int) bool { return f[i] == "1" }
		l.shown, l.open = &shown{kind: f[1], visible: flag(3), mayBeEmpty: flag(4), ringing: flag(5),
			phone: fromHex(l.t, f[7]), user: fromHex(l.t, f[8]), text: fromHex(l.t, f[9]), notice: fromHex(l.t, f[10]), qr: fromHex(l.t, f[11])}, true
		l.shown.prompt, _ = strconv.Atoi(f[2])
		l.shown.number, _ = strconv.Atoi(f[6])
	}
}

func (l *login) story() string {
	return fmt.Sprintf("so far: %s; last shown: %+v", strings.Join(l.trail, ", "), l.shown)
}

// sees waits for a window of this kind that shows the text.
func (l *login) sees(kind, text string) *shown {
	l.t.Helper()
	l.until("shown")
	if l.shown.kind != kind || !strings.Contains(l.shown.text, text) {
		l.t.Fatalf("a window shows %+v, want %s %q", l.shown, kind, text)
	}
	return l.shown
}

// isAsked waits for a window that asks, and isTold for one that says why not.
func (l *login) isAsked(text string) *shown { l.t.Helper(); return l.sees("ask", text) }
func (l *login) isTold(text string) *shown  { l.t.Helper(); return l.sees("tell", text) }

// types answers what the window asks.
func (l *login) types(text string) {
	l.t.Helper()
	if len(text) >= 4 {
		l.mu.Lock()
		l.typed = append(l.typed, text)
		l.mu.Unlock()
	}
	l.do("type %s", toHex([]byte(text)))
}

// cancels presses the button that leaves the window.
func (l *login) cancels() { l.t.Helper(); l.do("cancel") }

// ends waits for the list's end.
func (l *login) ends(how string) {
	l.t.Helper()
	if f := l.until("ended"); f[1] != how {
		l.t.Fatalf("the list ended with %s, want %s; %s", f[1], how, l.story())
	}
	if l.open {
		l.t.Errorf("a window is still open")
	}
}

func (l *login) isIn()  { l.t.Helper(); l.ends("allow") }
func (l *login) isOut() { l.t.Helper(); l.ends("deny") }

// went checks what the mechanisms did.
func (l *login) went(want string) {
	l.t.Helper()
	if got := strings.Join(l.trail, ", "); got != want {
		l.t.Errorf("the mechanisms went\n %s\nwant\n %s", got, want)
	}
}

// closes destroys the mechanisms.
func (l *login) closes() {
	l.t.Helper()
	l.do("close")
	l.mu.Lock()
	c := l.channel(l.n)
	l.mu.Unlock()
	deadline := time.After(patience)
	for {
		select {
		case f, ok := <-c:
			if !ok {
				l.t.Fatalf("the stand-in died\n%s", l.stderr)
			}
			l.note(f)
			if f[0] == "destroyed" {
				return
			}
		case <-deadline:
			l.t.Fatalf("Destroy does not return; %s", l.story())
		}
	}
}

// memory of the stand-in's process.
type memory struct{ resident, heap, threads, files int }

func (l *login) memory() (m memory) {
	l.t.Helper()
	l.do("memory")
	f := l.until("memory")
	for i, p := range []*int{&m.resident, &m.heap, &m.threads, &m.files} {
		var err error
		*p, err = strconv.Atoi(f[i+1])
		must(l.t, err)
	}
	return m
}
