// Package sudolocal puts our PAM module into sudo on macOS, by /etc/pam.d/sudo_local,
// which upgrades of macOS leave alone (macOS 14 and later; sudo_local.template there).
//
// /etc/pam.d/sudo includes sudo_local ahead of everything else, the check of the
// password too. So our block checks the password itself before it asks for anything,
// and ends the chain: OpenPAM stops at a sufficient module that succeeded
// (pam.conf(5)), and pam_deny stands behind it.
package sudolocal

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Where things are below the root of the file system.
const (
	Sudo   = "etc/pam.d/sudo"
	Local  = "etc/pam.d/sudo_local"
	Module = "/Library/Security/Sallyport/pam_sallyport.so.2"
)

const (
	first = "# Sallyport: these lines are its own; \"sallyport sudo remove\" takes them out.\n"
	last  = "# Sallyport: end.\n"
	block = first +
		"auth       requisite      pam_opendirectory.so\n" +
		"auth       sufficient     " + Module + " skip=success\n" +
		"auth       requisite      pam_deny.so\n" +
		last
)

// ErrTooOld says that this macOS's sudo does not read sudo_local.
var ErrTooOld = errors.New("/etc/pam.d/sudo does not include sudo_local: that came with macOS 14. Before it an upgrade of macOS takes every change of /etc/pam.d/sudo back, so none is made")

// State is how sudo is guarded.
type State struct {
	Included bool `json:"included"` // sudo reads sudo_local
	Guarded  bool `json:"guarded"`  // and our block is in it, whole
	// Before are the modules ahead of our block that let somebody in without it.
	Before []string `json:"before"`
}

// Add returns text with our block at its top, where nothing lets anybody in before it.
func Add(text []byte) ([]byte, error) {
	rest, err := Remove(text)
	if err != nil {
		return nil, err
	}
	return append([]byte(block), rest...), nil
}

// Remove returns text without our block, and everything else byte for byte.
func Remove(text []byte) ([]byte, error) {
	from := bytes.Index(text, []byte(first))
	if from < 0 {
		if strings.Contains(string(text), Module) {
			return nil, fmt.Errorf("/%s names our module outside of the block that we write: take those lines out by hand", Local)
		}
		return text, nil
	}
	n := bytes.Index(text[from:], []byte(last))
	if n < 0 {
		return nil, fmt.Errorf("/%s has the first line of our block and not its last: take the block out by hand", Local)
	}
	return append(bytes.Clone(text[:from]), text[from+n+len(last):]...), nil
}

// Check says how sudo is guarded, by the two files' texts.
func Check(sudo, local []byte) State {
	s := State{Before: []string{}}
	for _, f := range lines(sudo) {
		if f[0] == "auth" && f[1] == "include" && f[2] == "sudo_local" {
			s.Included = true
			break
		}
		if opens(f) { // ahead of sudo_local
			s.Before = append(s.Before, f[2])
		}
	}
	before, _, found := strings.Cut(string(local), block)
	s.Guarded = s.Included && found
	if found {
		for _, f := range lines([]byte(before)) {
			if opens(f) {
				s.Before = append(s.Before, f[2])
			}
		}
	}
	return s
}

// opens says whether a line lets somebody in without those behind it.
func opens(f []string) bool { return f[0] == "auth" && (f[1] == "sufficient" || f[1] == "binding") }

// lines are the fields of each line that says something: facility, control, module.
func lines(text []byte) [][]string {
	var list [][]string
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		if f := strings.Fields(line); len(f) >= 3 {
			list = append(list, f)
		}
	}
	return list
}

// Install guards sudo below root, which is "/" but in tests. It returns how sudo is
// guarded then.
func Install(root string) (State, error) {
	if s, err := Read(root); err != nil || !s.Included {
		return s, errors.Join(err, tooOld(s))
	}
	info, err := os.Lstat(filepath.Join(root, Module))
	if err != nil {
		return State{}, fmt.Errorf("the PAM module is not there, and without it sudo would let nobody in: %w", err)
	}
	if !info.Mode().IsRegular() {
		return State{}, fmt.Errorf("%s is not a file", Module)
	}
	if err := edit(root, Add); err != nil {
		return State{}, err
	}
	return Read(root)
}

func tooOld(s State) error {
	if s.Included {
		return nil
	}
	return ErrTooOld
}

// Uninstall takes our block out.
func Uninstall(root string) error { return edit(root, Remove) }

// Read says how sudo is guarded below root.
func Read(root string) (State, error) {
	sudo, err := os.ReadFile(filepath.Join(root, Sudo))
	if err != nil {
		return State{}, err
	}
	local, _, err := readLocal(root)
	if err != nil {
		return State{}, err
	}
	return Check(sudo, local), nil
}

// readLocal returns sudo_local's text and mode; that it is not there is no error.
func readLocal(root string) ([]byte, fs.FileMode, error) {
	path := filepath.Join(root, Local)
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0o444, nil
	}
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("/%s is not a file: whatever it leads to is not changed", Local)
	}
	text, err := os.ReadFile(path)
	return text, info.Mode().Perm(), err
}

// edit puts a changed text in the file's place at once: sudo reads the old or the new
// one. An empty one goes away, as macOS comes without.
func edit(root string, change func([]byte) ([]byte, error)) error {
	path := filepath.Join(root, Local)
	was, mode, err := readLocal(root)
	if err != nil {
		return err
	}
	text, err := change(was)
	if err != nil || bytes.Equal(text, was) {
		return err
	}
	if len(text) == 0 {
		return os.Remove(path)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".sudo_local.*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(text)
	if err = errors.Join(err, tmp.Chmod(mode), tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}
