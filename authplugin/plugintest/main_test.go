//go:build linux

package plugintest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/authplugin/viewtest/screen"
	"sallyport/internal/testkit/sandbox"
	"sallyport/pam/e2e/machine"
)

// patience bounds every wait; it is longer than every wait of the plug-in's.
const patience = 2 * time.Minute

// build is one way to build plug-in and stand-in.
type build struct{ name, plugin, authd string }

var (
	shipped, asan build
	onScreen      build             // with the real view
	dist          string            // the agent and the authority
	office        *machine.Computer // the agent that most tests log in with
)

func TestMain(m *testing.M) {
	if !sandbox.Inside() { // so that go test knows what these tests depend on
		if err := touchSources("..", "../../internal/hookclient"); err != nil {
			fmt.Fprintln(os.Stderr, "plugintest:", err)
			os.Exit(1)
		}
	}
	machine.Main(m, setUp, "sallyport", "sallyport-authority")
}

// touchSources reads every C source, so that a cached result is not shown for
// changed C.
func touchSources(dirs ...string) error {
	for _, dir := range dirs {
		if err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || strings.HasSuffix(path, ".go") {
				return err
			}
			_, err = os.ReadFile(path)
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

// Where the plug-in looks, whatever agent a test gives it.
const (
	runtimeDir = "/run/sallyport"
	libraryDir = "/Library/Application Support/Sallyport"
)

func setUp(from string) error {
	dist = from
	const out = "/run/plugintest"
	for _, dir := range []string{out, runtimeDir, libraryDir} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	for _, args := range [][]string{
		{"-C", "..", "OUT=" + out, "VIEW=host/view_scripted.c", "all", "asan"},
		{"-C", "../host", "OUT=" + out, "all", "asan"},
	} {
		if text, err := runMake(args...); err != nil {
			return fmt.Errorf("make: %w (./build.sh deps installs what it needs)\n%s", err, text)
		}
	}
	shipped = build{"shipped", out + "/authplugin.so", out + "/authd"}
	if screen.Missing() == nil {
		if text, err := runMake("-C", "../host", "OUT="+out, "screen"); err != nil {
			return fmt.Errorf("make: %w\n%s", err, text)
		}
	}
	onScreen = build{"screen", out + "/screen/authplugin.so", out + "/screen/authd"}
	asan = build{"asan", out + "/asan/authplugin.so", out + "/asan/authd"}
	if err := os.Remove("/dev/log"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.WriteFile("/dev/log", nil, 0o600); err != nil { // what every stand-in's log is put over
		return err
	}
	var err error
	office, err = machine.NewComputer(dist, "/run/office", officeSettings...)
	return err
}

func runMake(args ...string) (string, error) {
	cmd := exec.Command("make", append([]string{"-s"}, args...)...)
	// A make around this test must not pass its own jobs and variables on.
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "MAKE") && !strings.HasPrefix(v, "MFLAGS") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	text, err := cmd.CombinedOutput()
	return string(text), err
}

// each runs a test with the plug-in as it is and with the sanitized one.
func each(t *testing.T, test func(t *testing.T, b build)) {
	t.Helper()
	sandbox.Need(t)
	t.Parallel()
	for _, b := range []build{shipped, asan} {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			test(t, b)
		})
	}
}

// must ends the test on an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var (
	passwdMu sync.Mutex
	nextUID  = uint32(30000)
)

// account is one of this computer's.
type account struct {
	name string
	uid  uint32
}

// newAccount adds one to the sandbox's passwd(5).
func newAccount(t *testing.T, prefix string) account {
	t.Helper()
	passwdMu.Lock()
	defer passwdMu.Unlock()
	nextUID++
	return addAccount(t, fmt.Sprintf("%s%d", prefix, nextUID))
}

var names = map[string]int{}

// accountNamed adds one under a name that a picture can show; when a test is run again
// (-count), under one that is new.
func accountNamed(t *testing.T, name string) account {
	t.Helper()
	passwdMu.Lock()
	defer passwdMu.Unlock()
	nextUID++
	if names[name]++; names[name] > 1 {
		name = fmt.Sprint(name, names[name])
	}
	return addAccount(t, name)
}

// addAccount is newAccount for a name that a configuration knows; passwdMu is held.
func addAccount(t *testing.T, name string) account {
	t.Helper()
	a := account{name, nextUID}
	f, err := os.OpenFile("/etc/passwd", os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	_, err = fmt.Fprintf(f, "%s:x:%d:100::/nonexistent:/bin/sh\n", a.name, a.uid)
	must(t, errors.Join(err, f.Close()))
	return a
}

// syslogd keeps what one stand-in writes to the system's log (syslog(3)).
type syslogd struct {
	mu    sync.Mutex
	lines []string
	path  string
	read  chan struct{} // a mark was read, and so was everything sent before it
}

const logMark = "read up to here"

func listenLog(t *testing.T, path string) *syslogd {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	must(t, err)
	s := &syslogd{path: path, read: make(chan struct{})}
	t.Cleanup(func() { conn.Close() })
	go func() {
		b := make([]byte, 64<<10)
		for {
			n, err := conn.Read(b)
			if err != nil {
				close(s.read)
				return
			}
			if string(b[:n]) == logMark {
				s.read <- struct{}{}
				continue
			}
			s.mu.Lock()
			s.lines = append(s.lines, string(b[:n]))
			s.mu.Unlock()
		}
	}()
	return s
}

// text is all that was written before the call: syslog(3) returns once its line is in the
// socket's queue, and the queue keeps its order.
func (s *syslogd) text() string {
	if conn, err := net.Dial("unixgram", s.path); err == nil {
		io.WriteString(conn, logMark)
		conn.Close()
		<-s.read
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.lines, "\n")
}

func (s *syslogd) says(t *testing.T, text string) {
	t.Helper()
	if got := s.text(); !strings.Contains(got, text) {
		t.Errorf("the log does not say %q: %s", text, got)
	}
}
