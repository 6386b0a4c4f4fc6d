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
	"path"
	"path/filepath"
	"slices"
	"strings"

	"sallyport/internal/vault/statefile"
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

// managed is where macOS keeps the policies of an MDM (declarative device management,
// "Services Configuration Files": com.apple.pam). OpenPAM looks there first.
const managed = "private/var/db/ManagedConfigurationFiles/com.apple.pam/"

var (
	// ErrTooOld says that this macOS's sudo does not read sudo_local.
	ErrTooOld = errors.New("/etc/pam.d/sudo does not include sudo_local: that came with macOS 14. Before it an upgrade of macOS takes every change of /etc/pam.d/sudo back, so none is made")
	// ErrManaged says that what would be written is not read.
	ErrManaged = errors.New("an MDM manages sudo_local, and macOS reads no other")
)

// Verdict is how sudo is guarded, in one word.
type Verdict string

// The verdicts. Only with Guarded is everybody asked.
const (
	TooOld    Verdict = "too_old"   // sudo does not read sudo_local
	Unguarded Verdict = "unguarded" // the password is enough
	Stray     Verdict = "stray"     // our module is named, and not in our block
	Bypassed  Verdict = "bypassed"  // something ahead of our block lets in without it
	Guarded   Verdict = "guarded"
)

// State is how sudo is guarded.
type State struct {
	Verdict Verdict `json:"verdict"`
	// Before are the modules ahead of our block that let somebody in without it, and
	// the policies that are included there.
	Before []string `json:"before"`
	// Managed says whether the sudo_local that macOS reads is an MDM's.
	Managed bool `json:"managed"`
	// Names says whether our module is named at all: without it sudo lets nobody in.
	Names bool `json:"-"`
}

// Text says it to people, without a full stop.
func (s State) Text() string {
	switch s.Verdict {
	case TooOld:
		return "sudo asks for no code: /" + Local + " came with macOS 14"
	case Unguarded:
		return "sudo asks for no code: the password is enough"
	case Stray:
		return "sudo's policy names our module, and not in the block that we write: who is asked is not certain"
	case Bypassed:
		if slices.ContainsFunc(s.Before, func(m string) bool { return strings.HasPrefix(path.Base(m), "pam_tid") }) {
			return "Touch ID lets in before our module is asked, without a code (pam_tid.so ahead of our block)"
		}
		return "these let in before our module is asked, without a code: " + strings.Join(s.Before, ", ")
	}
	return "sudo asks for the second factor"
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
	s := State{Verdict: TooOld, Before: []string{}, Names: strings.Contains(string(sudo)+string(local), Module)}
	for _, f := range lines(sudo) {
		if f[0] == "auth" && f[1] == "include" && f[2] == "sudo_local" {
			s.Verdict = Unguarded
			break
		}
		if opens(f) { // ahead of sudo_local
			s.Before = append(s.Before, f[2])
		}
	}
	before, _, found := strings.Cut(string(local), block)
	switch {
	case s.Verdict == TooOld:
		return s
	case !found && s.Names:
		s.Verdict = Stray
		return s
	case !found:
		return s
	}
	for _, f := range lines([]byte(before)) {
		if opens(f) {
			s.Before = append(s.Before, f[2])
		}
	}
	s.Verdict = Guarded
	if len(s.Before) > 0 {
		s.Verdict = Bypassed
	}
	return s
}

// opens says whether a line can let somebody in without those behind it. What another
// policy says is not looked at.
func opens(f []string) bool {
	return f[0] == "auth" && (f[1] == "sufficient" || f[1] == "binding" || f[1] == "include")
}

// lines are the fields of each line that says something: facility, control, module. As
// OpenPAM reads them: a backslash at the end goes on in the next line, and the first
// two words are read in any case (openpam_readline(3)).
func lines(text []byte) [][]string {
	var list [][]string
	var all string
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		all += strings.TrimRight(line, " \t\r\n")
		if strings.HasSuffix(all, "\\") {
			all = strings.TrimSuffix(all, "\\") + " "
			continue
		}
		if f := strings.Fields(all); len(f) >= 3 {
			list = append(list, append([]string{strings.ToLower(f[0]), strings.ToLower(f[1])}, f[2:]...))
		}
		all = ""
	}
	return list
}

// Look says how sudo is guarded; read reads a file by its path below the root. That
// something is not there is fs.ErrNotExist.
func Look(read func(name string) ([]byte, error)) (State, error) {
	effective := func(name string) (text []byte, byMDM bool, err error) {
		if text, err = read(managed + name); err == nil {
			return text, true, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, false, err
		}
		text, err = read(name)
		return text, false, err
	}
	sudo, _, err := effective(Sudo)
	if err != nil {
		return State{}, err
	}
	local, byMDM, err := effective(Local)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return State{}, err
	}
	s := Check(sudo, local)
	s.Managed = byMDM
	return s, nil
}

// Read says how sudo is guarded below root, which is "/" but in tests.
func Read(root string) (State, error) {
	return Look(func(name string) ([]byte, error) { return os.ReadFile(filepath.Join(root, name)) })
}

// Install guards sudo below root, and returns how it is guarded then. ready says why a
// login would not be answered: nothing is written then, as sudo would let nobody in.
func Install(root string, ready func() error) (State, error) {
	s, err := Read(root)
	switch {
	case err != nil:
		return s, err
	case s.Verdict == TooOld:
		return s, ErrTooOld
	case s.Managed && s.Verdict != Guarded:
		return s, ErrManaged
	}
	if err := ready(); err != nil {
		return s, err
	}
	if !s.Managed {
		if err := edit(root, Add); err != nil {
			return s, err
		}
	}
	return Read(root)
}

// Uninstall takes our block out.
func Uninstall(root string) error { return edit(root, Remove) }

// readLocal returns sudo_local's text and mode; that it is not there is no error.
func readLocal(root string) ([]byte, fs.FileMode, error) {
	file := filepath.Join(root, Local)
	info, err := os.Lstat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0o444, nil
	}
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("/%s is not a file: whatever it leads to is not changed", Local)
	}
	text, err := os.ReadFile(file)
	return text, info.Mode().Perm(), err
}

// edit puts a changed text in the file's place at once: sudo reads the old or the new
// one. An empty one goes away, as macOS comes without.
func edit(root string, change func([]byte) ([]byte, error)) error {
	file := filepath.Join(root, Local)
	was, mode, err := readLocal(root)
	if err != nil {
		return err
	}
	text, err := change(was)
	if err != nil || bytes.Equal(text, was) {
		return err
	}
	if len(text) == 0 {
		return statefile.Remove(file)
	}
	return statefile.Replace(file, text, mode)
}
