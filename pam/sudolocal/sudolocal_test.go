//go:build unix

package sudolocal

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// As macOS 14 and later ship it.
const stock = `# sudo: auth account password session
auth       include        sudo_local
auth       sufficient     pam_smartcard.so
auth       required       pam_opendirectory.so
account    required       pam_permit.so
password   required       pam_deny.so
session    required       pam_permit.so
`

const touchID = "# sudo_local: local config file which survives system update and is included for sudo\nauth       sufficient     pam_tid.so\n"

func mac(t *testing.T, sudo, local string) string {
	t.Helper()
	root := t.TempDir()
	put(t, root, Sudo, sudo)
	if local != "" {
		put(t, root, Local, local)
	}
	return root
}

func put(t *testing.T, root, name, text string) {
	t.Helper()
	path := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o444); err != nil {
		t.Fatal(err)
	}
}

// ready is a computer on which logins are answered.
func ready() error { return nil }

func local(t *testing.T, root string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, Local))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(text)
}

func TestThePasswordIsCheckedBeforeAnythingIsAsked(t *testing.T) {
	text, err := Add(nil)
	if err != nil {
		t.Fatal(err)
	}
	var modules []string
	for _, f := range lines(text) {
		modules = append(modules, f[1]+" "+f[2])
	}
	want := []string{"requisite pam_opendirectory.so", "sufficient " + Module, "requisite pam_deny.so"}
	if !slices.Equal(modules, want) {
		t.Errorf("the block is %q", modules)
	}
}

func TestInstallTwiceIsOnceAndRemovalLeavesTheRest(t *testing.T) {
	for name, was := range map[string]string{"as shipped": "", "with Touch ID": touchID, "without a last newline": strings.TrimSuffix(touchID, "\n")} {
		t.Run(name, func(t *testing.T) {
			root := mac(t, stock, was)
			for range 2 {
				s, err := Install(root, ready)
				if err != nil || s.Verdict != Guarded || len(s.Before) != 0 {
					t.Fatalf("%+v, %v", s, err)
				}
				if got := local(t, root); got != block+was {
					t.Fatalf("sudo_local is\n%s", got)
				}
			}
			if err := Uninstall(root); err != nil {
				t.Fatal(err)
			}
			if got := local(t, root); got != was {
				t.Errorf("sudo_local is\n%s", got)
			}
			if entries, err := os.ReadDir(filepath.Join(root, "etc/pam.d")); err != nil || len(entries) > 2 || was == "" && len(entries) != 1 {
				t.Errorf("left behind: %v, %v", entries, err)
			}
		})
	}
}

func TestWhatLetsInAheadOfUsIsNamed(t *testing.T) {
	root := mac(t, stock, touchID)
	if _, err := Install(root, ready); err != nil {
		t.Fatal(err)
	}
	s := Check([]byte(stock), []byte(touchID+block))
	if s.Verdict != Bypassed || !slices.Equal(s.Before, []string{"pam_tid.so"}) || !strings.Contains(s.Text(), "Touch ID") {
		t.Errorf("Touch ID ahead of us: %+v", s)
	}
	s = Check([]byte("auth sufficient pam_tid.so\n"+stock), []byte(block))
	if !slices.Equal(s.Before, []string{"pam_tid.so"}) {
		t.Errorf("Touch ID in sudo itself: %+v", s)
	}
}

// What does not read as we do is not taken for guarded: OpenPAM reads words in any
// case, lines that go on, and other policies.
func TestWhatIsNotGuarded(t *testing.T) {
	for name, c := range map[string]struct {
		local string
		want  Verdict
	}{
		"nothing":                        {"", Unguarded},
		"Touch ID":                       {touchID, Unguarded},
		"ours":                           {block, Guarded},
		"ours on top of Touch ID":        {block + touchID, Guarded},
		"ours behind a comment":          {"# auth sufficient pam_tid.so\n" + block, Guarded},
		"ours, commented out":            {"# " + strings.ReplaceAll(block, "\n", "\n# "), Stray},
		"by hand":                        {"auth required " + Module + "\n", Stray},
		"in capitals":                    {"AUTH SUFFICIENT pam_tid.so\n" + block, Bypassed},
		"over two lines":                 {"auth sufficient \\\n pam_tid.so\n" + block, Bypassed},
		"by another policy":              {"auth include mine\n" + block, Bypassed},
		"binding":                        {"auth binding pam_watch.so\n" + block, Bypassed},
		"what cannot let in by itself":   {"auth optional pam_reattach.so\n" + block, Guarded},
		"what is of another facility":    {"account sufficient pam_permit.so\n" + block, Guarded},
		"a block with a line taken out":  {strings.Replace(block, "auth       requisite      pam_deny.so\n", "", 1), Stray},
		"a block with a word taken out":  {strings.Replace(block, " skip=success", "", 1), Stray},
		"a block with the password away": {strings.Replace(block, "auth       requisite      pam_opendirectory.so\n", "", 1), Stray},
	} {
		if s := Check([]byte(stock), []byte(c.local)); s.Verdict != c.want {
			t.Errorf("%s: %+v, want %s", name, s, c.want)
		}
	}
}

// Where an MDM has a policy, macOS reads no other: what is written beside it guards
// nothing.
func TestAnMDMsPoliciesAreThoseThatCount(t *testing.T) {
	root := mac(t, stock, block)
	put(t, root, managed+Local, touchID)
	if s, err := Read(root); err != nil || s.Verdict != Unguarded || !s.Managed {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := Install(root, ready); !errors.Is(err, ErrManaged) {
		t.Errorf("installed beside an MDM's: %v", err)
	}
	root = mac(t, stock, "")
	put(t, root, managed+Local, block)
	if s, err := Install(root, ready); err != nil || s.Verdict != Guarded || !s.Managed || local(t, root) != "" {
		t.Errorf("the MDM's own: %+v, %v", s, err)
	}
	root = mac(t, stock, block)
	put(t, root, managed+Sudo, "auth required pam_opendirectory.so\n")
	if s, err := Read(root); err != nil || s.Verdict != TooOld {
		t.Errorf("an MDM's sudo: %+v, %v", s, err)
	}
}

func TestAnOlderMacIsLeftAlone(t *testing.T) {
	old := strings.Replace(stock, "auth       include        sudo_local\n", "", 1)
	root := mac(t, old, "")
	if _, err := Install(root, ready); !errors.Is(err, ErrTooOld) {
		t.Errorf("%v", err)
	}
	if got := local(t, root); got != "" {
		t.Errorf("written: %s", got)
	}
}

func TestNothingIsWrittenWhileNoLoginWouldBeAnswered(t *testing.T) {
	root := mac(t, stock, touchID)
	broken := errors.New("the agent does not answer")
	if _, err := Install(root, func() error { return broken }); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	if got := local(t, root); got != touchID {
		t.Errorf("sudo_local is\n%s", got)
	}
}

func TestWhatWeDidNotWriteIsNotTouched(t *testing.T) {
	for name, text := range map[string]string{
		"a line of somebody's":     "auth required " + Module + "\n",
		"a block without its end":  first + "auth requisite pam_opendirectory.so\n",
		"the end before the start": last + first,
	} {
		root := mac(t, stock, text)
		if _, err := Install(root, ready); err == nil {
			t.Errorf("%s: installed", name)
		}
		if err := Uninstall(root); err == nil {
			t.Errorf("%s: removed", name)
		}
		if got := local(t, root); got != text {
			t.Errorf("%s: sudo_local is\n%s", name, got)
		}
	}
	root := mac(t, stock, "")
	other := filepath.Join(root, "other")
	put(t, root, "other", touchID)
	if err := os.Symlink(other, filepath.Join(root, Local)); err != nil {
		t.Fatal(err)
	}
	if _, err := Install(root, ready); err == nil {
		t.Error("a link was followed")
	}
}
