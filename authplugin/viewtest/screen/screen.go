//go:build linux

// Package screen is an X server for tests that nobody looks at, with real keys, a real
// mouse, and pictures of what it shows: Xvfb and xdotool, and GNUstep's applications on
// it.
package screen

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Patience is how long anything here may take; on a busy machine, too.
const Patience = 20 * time.Second

// Screen is a running X server.
type Screen struct {
	dir, display string
	x            *exec.Cmd
}

// Missing says what of GNUstep, Xvfb and xdotool is not installed.
func Missing() (missing error) {
	for _, tool := range []string{"Xvfb", "setxkbmap", "xdotool", "gcc", "make"} {
		if _, err := exec.LookPath(tool); err != nil {
			missing = errors.Join(missing, err)
		}
	}
	if _, err := os.Stat("/usr/include/GNUstep/AppKit/AppKit.h"); err != nil {
		missing = errors.Join(missing, err)
	}
	return missing
}

// Start starts an X server on a number that was free (Xvfb(1), -displayfd), its
// picture in a file (-fbdir) in dir, where its applications have their home, too.
func Start(dir string) (*Screen, error) {
	s := &Screen{dir: dir}
	for _, d := range []string{s.home(), filepath.Join(dir, "screen")} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return nil, err
		}
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	s.x = exec.Command("Xvfb", "-displayfd", "3", "-screen", "0", "1024x768x24", "-nolisten", "tcp", "-fbdir", filepath.Join(dir, "screen"))
	s.x.ExtraFiles = []*os.File{w}
	s.x.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err = s.x.Start()
	w.Close()
	if err != nil {
		return nil, err
	}
	if err := r.SetReadDeadline(time.Now().Add(Patience)); err != nil {
		s.Stop()
		return nil, err
	}
	number, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		s.Stop()
		return nil, fmt.Errorf("no display is named by Xvfb: %w", err)
	}
	s.display = ":" + strings.TrimSpace(number)
	// A layout with letters that are not ASCII: xdotool would have to change the map
	// for each, faster than GNUstep reads it.
	layout := exec.Command("setxkbmap", "-layout", "al")
	layout.Env = s.Environment()
	if out, err := layout.CombinedOutput(); err != nil {
		s.Stop()
		return nil, fmt.Errorf("setxkbmap: %w: %s", err, out)
	}
	return s, nil
}

// Stop ends the server, and the daemons (gdnc) that GNUstep has started for its
// applications and left.
func (s *Screen) Stop() {
	mark := []byte("\x00HOME=" + s.home() + "\x00")
	all, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, file := range all {
		env, err := os.ReadFile(file)
		pid, bad := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err == nil && bad == nil && pid != os.Getpid() && bytes.Contains(append([]byte{0}, env...), mark) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	_ = s.x.Process.Signal(syscall.SIGTERM)
	_ = s.x.Wait()
}

func (s *Screen) home() string { return filepath.Join(s.dir, "home") }

// Environment is the applications' and xdotool's. HOME marks what GNUstep starts.
func (s *Screen) Environment() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.home(), "TMPDIR=" + s.home(), "GNUSTEP_USER_DIR=GNUstep", "DISPLAY=" + s.display, "LC_ALL=C.UTF-8"}
}

// Xdotool runs xdotool(1).
func (s *Screen) Xdotool(t testing.TB, args ...string) string {
	t.Helper()
	cmd := exec.Command("xdotool", args...)
	cmd.Env = s.Environment()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("xdotool %v: %v: %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// Focused says whether X gives the keys to a window.
func (s *Screen) Focused() bool {
	cmd := exec.Command("xdotool", "getwindowfocus")
	cmd.Env = s.Environment()
	out, err := cmd.Output()
	id, bad := strconv.Atoi(strings.TrimSpace(string(out)))
	return err == nil && bad == nil && id > 1
}

// Keys presses keys, by X's names for them.
func (s *Screen) Keys(t testing.TB, names ...string) {
	t.Helper()
	s.Xdotool(t, append([]string{"key", "--delay", "2"}, names...)...)
}

// keysyms are names of the layout's that xdotool finds by name alone.
var keysyms = map[rune]string{'ë': "ediaeresis", 'ç': "ccedilla"}

// Type types a text.
func (s *Screen) Type(t testing.TB, text string) {
	t.Helper()
	if !strings.ContainsFunc(text, func(c rune) bool { return c >= 0x80 }) {
		s.Xdotool(t, "type", "--delay", "2", text)
		return
	}
	var named []string
	for _, c := range text {
		if c < 0x80 {
			named = append(named, string(c)) // a letter or a digit is named as it is
		} else {
			named = append(named, keysyms[c])
		}
	}
	s.Keys(t, named...)
}

// Click presses the mouse, and lets it go when the button is seen to be down: GNUstep
// loses a release that comes with the press, and waits for it for ever.
func (s *Screen) Click(t testing.TB, button Seen) {
	t.Helper()
	s.Xdotool(t, "mousemove", strconv.Itoa(button.X+button.W/2), strconv.Itoa(button.Y+button.H/2))
	up := s.Steady(t, button)
	s.Xdotool(t, "mousedown", "1")
	for end := time.Now().Add(Patience); bytes.Equal(up.Pix, s.Picture(t, button).Pix); {
		if time.Now().After(end) {
			t.Fatalf("%q does not go down", button.Text)
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.Xdotool(t, "mouseup", "1")
}
