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
	put(t, root, Module, "module")
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
				s, err := Install(root)
				if err != nil || !s.Guarded || len(s.Before) != 0 {
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
	if _, err := Install(root); err != nil {
		t.Fatal(err)
	}
	s := Check([]byte(stock), []byte(touchID+block))
	if !s.Guarded || !slices.Equal(s.Before, []string{"pam_tid.so"}) {
		t.Errorf("Touch ID ahead of us: %+v", s)
	}
	s = Check([]byte("auth sufficient pam_tid.so\n"+stock), []byte(block))
	if !slices.Equal(s.Before, []string{"pam_tid.so"}) {
		t.Errorf("Touch ID in sudo itself: %+v", s)
	}
	if s := Check([]byte(stock), []byte("# "+strings.ReplaceAll(block, "\n", "\n# "))); s.Guarded {
		t.Errorf("a block that is commented out guards: %+v", s)
	}
}

func TestAnOlderMacIsLeftAlone(t *testing.T) {
	old := strings.Replace(stock, "auth       include        sudo_local\n", "", 1)
	root := mac(t, old, "")
	if _, err := Install(root); !errors.Is(err, ErrTooOld) {
		t.Errorf("%v", err)
	}
	if got := local(t, root); got != "" {
		t.Errorf("written: %s", got)
	}
}

func TestASudoWithoutItsModuleLetsNobodyInSoNoneIsWritten(t *testing.T) {
	root := mac(t, stock, touchID)
	if err := os.Remove(filepath.Join(root, Module)); err != nil {
		t.Fatal(err)
	}
	if _, err := Install(root); !errors.Is(err, os.ErrNotExist) {
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
		if _, err := Install(root); err == nil {
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
	if _, err := Install(root); err == nil {
		t.Error("a link was followed")
	}
}
