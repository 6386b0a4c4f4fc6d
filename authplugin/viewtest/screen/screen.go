//go:build linux

// Package screen is an X server for tests that nobody looks at, with real keys, a real
// mouse, and pictures of what it shows: Xvfb and xdotool, and GNUstep's applications on
// it.
package screen

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
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

// Patience is how long anything here may take; on a busy machine, too.
const Patience = 2 * time.Minute

// Screen is a running X server.
type Screen struct {
	dir, display string
	running      []*exec.Cmd
}

// Missing says what of GNUstep, Xvfb and xdotool is not installed.
func Missing() (missing error) {
	for _, tool := range []string{"Xvfb", "setxkbmap", "xdotool", "gdnc", "gcc", "make"} {
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
// picture in a file (-fbdir). A key that is held down is not repeated, or a machine
// that is busy between its press and its release would make many of one; flags of
// Xvfb's can undo that. Nor is the layout forgotten when the last application goes
// (Xserver(1), -noreset).
func Start(flags ...string) (_ *Screen, err error) {
	s := &Screen{}
	// GNUstep's sockets are below it, and their paths must be short.
	if s.dir, err = os.MkdirTemp("", "screen-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.Stop()
		}
	}()
	for _, d := range []string{s.home(), filepath.Join(s.dir, "screen")} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return nil, err
		}
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	args := []string{"-displayfd", "3", "-screen", "0", "1024x768x24", "-nolisten", "tcp", "-fbdir", filepath.Join(s.dir, "screen"), "-ardelay", "65535", "-noreset"}
	x := exec.Command("Xvfb", append(args, flags...)...)
	x.ExtraFiles = []*os.File{w}
	err = s.run(x)
	w.Close()
	if err != nil {
		return nil, err
	}
	if err := r.SetReadDeadline(time.Now().Add(Patience)); err != nil {
		return nil, err
	}
	number, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("no display is named by Xvfb: %w", err)
	}
	s.display = ":" + strings.TrimSpace(number)
	// A layout with letters that are not ASCII: xdotool would have to change the map
	// for each, faster than GNUstep reads it.
	layout := exec.Command("setxkbmap", "-layout", "al")
	layout.Env = s.Environment()
	if out, err := layout.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("setxkbmap: %w: %s", err, out)
	}
	return s, s.notify()
}

// notify starts gdnc(1), which an application would start, wait 5 s for, and leave.
func (s *Screen) notify() error {
	gdnc := exec.Command("gdnc", "--no-fork")
	gdnc.Env = s.Environment()
	if err := s.run(gdnc); err != nil {
		return err
	}
	// A file named in Base64 says where the server of a name listens (NSMessagePort).
	name := filepath.Join(s.home(), "NSMessagePort", "names", base64.StdEncoding.EncodeToString([]byte("GDNCServer")))
	for end := time.Now().Add(Patience); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(name); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if time.Now().After(end) {
			return errors.New("gdnc does not listen")
		}
	}
}

// run starts what ends with the screen, or with the test.
func (s *Screen) run(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err := cmd.Start()
	if err == nil {
		s.running = append(s.running, cmd)
	}
	return err
}

// Stop ends the server and what was started with it.
func (s *Screen) Stop() {
	for _, cmd := range slices.Backward(s.running) {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	}
	_ = os.RemoveAll(s.dir)
}

func (s *Screen) home() string { return filepath.Join(s.dir, "home") }

// Environment is the applications' and xdotool's. What GNUstep keeps of all of a user's
// applications (who runs, where gdnc is) is below TEMP, not TMPDIR.
func (s *Screen) Environment() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.home(), "TEMP=" + s.home(), "TMPDIR=" + s.home(), "GNUSTEP_USER_DIR=GNUstep", "DISPLAY=" + s.display, "LC_ALL=C.UTF-8"}
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

// Focused says whether X gives the keys to this window, not to the one before it.
func (s *Screen) Focused(window Seen) bool {
	cmd := exec.Command("xdotool", "getwindowfocus", "-f")
	cmd.Env = s.Environment()
	out, err := cmd.Output()
	return err == nil && strings.TrimSpace(string(out)) == strconv.Itoa(window.Window)
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
