package statefile

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/windows"
)

// sddl is the owner and the DACL of a file, as Windows writes them down.
func sddl(t *testing.T, path string) string {
	t.Helper()
	sd, err := windows.GetNamedSecurityInfo(path, windows.SE_FILE_OBJECT, windows.OWNER_SECURITY_INFORMATION|windows.DACL_SECURITY_INFORMATION)
	must(t, err)
	return sd.String()
}

// setDACL gives a file these entries and no others. (SetNamedSecurityInfo would
// add what comes down from above.)
func setDACL(t *testing.T, path, entries string) {
	t.Helper()
	sd, err := windows.SecurityDescriptorFromString("D:P" + entries)
	must(t, err)
	f, err := open(path, windows.WRITE_DAC, shareAll, windows.OPEN_EXISTING, dirsToo, nil)
	must(t, err)
	defer f.Close()
	must(t, windows.SetKernelObjectSecurity(windows.Handle(f.Fd()), windows.DACL_SECURITY_INFORMATION, sd))
}

const ours = "(A;;FA;;;SY)(A;;FA;;;BA)"

// Nobody is let in at the creation, although everybody may read what is made
// beside it without a word.
func TestWhatIsMadeIsForUsAlone(t *testing.T) {
	top := t.TempDir()
	dir := filepath.Join(top, "a", "state")
	must(t, EnsureDir(dir))
	must(t, EnsureDir(dir)) // is there already
	file := filepath.Join(dir, "file")
	must(t, Write(file, []byte("x")))
	for _, path := range []string{dir, file} {
		text := sddl(t, path)
		for _, others := range []string{";WD)", ";BU)", ";AU)", ";S-1-1-0)", ";CO)"} {
			if strings.Contains(text, others) {
				t.Errorf("%s: %s", path, text)
			}
		}
		if !strings.Contains(text, "FA;;;SY)") {
			t.Errorf("%s: %s", path, text)
		}
	}
	if _, err := Create(file); !errors.Is(err, fs.ErrExist) {
		t.Errorf("created what is there: %v", err)
	}
}

func TestWhatOthersMayChangeIsRefused(t *testing.T) {
	dir := t.TempDir()
	file := func(name, entries string) string {
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, nil, 0o600))
		setDACL(t, path, entries)
		return path
	}
	hard := file("hard", ours)
	must(t, os.Link(hard, filepath.Join(dir, "other name")))
	for name, c := range map[string]struct {
		path   string
		access Access
		ok     bool
	}{
		"private":                   {file("private", ours), Private, true},
		"readable, but private":     {file("readable", ours+"(A;;FR;;;WD)"), Private, false},
		"readable and only guarded": {file("readable2", ours+"(A;;FR;;;WD)"), Guarded, true},
		"writable by all":           {file("writable", ours+"(A;;FW;;;WD)"), Guarded, false},
		"all that there is to all":  {file("full", "(A;;FA;;;WD)"), Guarded, false},
		"a directory":               {dir, Guarded, false},
		"a second name":             {hard, Guarded, false},
	} {
		f, err := Open(c.path, os.O_RDWR, c.access)
		if (err == nil) != c.ok || err != nil && !errors.Is(err, ErrUntrusted) {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			must(t, f.Close())
		}
	}
	if _, err := Open(filepath.Join(dir, "none"), os.O_RDWR|os.O_CREATE, Private); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("opening makes no file: %v", err)
	}
	open := filepath.Join(dir, "open")
	must(t, os.Mkdir(open, 0o700))
	setDACL(t, open, "(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;;FA;;;WD)")
	mended := `icacls "` + open + `" /inheritance:r /grant:r "*S-1-5-18:(OI)(CI)F" "*S-1-5-32-544:(OI)(CI)F" /remove:g "*S-1-1-0"`
	if err := EnsureDir(open); !errors.Is(err, ErrUntrusted) || !strings.HasSuffix(err.Error(), mended) {
		t.Errorf("a directory that all may write: %v", err)
	}
	if err := CheckDir(hard); !errors.Is(err, ErrUntrusted) {
		t.Errorf("a file in the directory's place: %v", err)
	}
}

func TestOnlyAFileOfOneNameAndADirectoryAreTaken(t *testing.T) {
	const archive, directory = windows.FILE_ATTRIBUTE_ARCHIVE, windows.FILE_ATTRIBUTE_DIRECTORY
	for name, c := range map[string]struct {
		attributes, links uint32
		dir, ok           bool
	}{
		"file":                   {archive, 1, false, true},
		"file, wanted directory": {archive, 1, true, false},
		"file of two names":      {archive, 2, false, false},
		"file already removed":   {archive, 0, false, false},
		"directory":              {directory, 1, true, true},
		"directory, wanted file": {directory, 1, false, false},
	} {
		if err := checkType(c.attributes, c.links, c.dir); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLinksAreRefused(t *testing.T) {
	dir := t.TempDir()
	target, link := filepath.Join(dir, "target"), filepath.Join(dir, "link")
	must(t, Write(target, []byte("x")))
	if err := os.Symlink(target, link); err != nil {
		t.Skipf("this account can make no symbolic links: %v", err)
	}
	if _, err := os.Lstat(link); err != nil {
		t.Skipf("this system says that it made a symbolic link, and has none: %v", err)
	}
	if _, err := Open(link, os.O_RDONLY, Guarded); !errors.Is(err, ErrUntrusted) {
		t.Errorf("%v", err)
	}
	must(t, Write(link, []byte("y")))
	if b, err := os.ReadFile(target); err != nil || string(b) != "x" {
		t.Errorf("wrote through the link: %q %v", b, err)
	}
}

// A file that somebody looks at cannot be renamed over; they are waited for, but
// not for ever.
func TestRenameWaitsForWhoLooks(t *testing.T) {
	old := pause
	defer func() { pause = old }()
	path := filepath.Join(t.TempDir(), "file")
	must(t, Write(path, []byte("old")))

	scanner, err := os.Open(path)
	must(t, err)
	pauses := 0
	pause = func() {
		if pauses++; pauses == 3 {
			must(t, scanner.Close())
		}
	}
	must(t, Write(path, []byte("new")))
	if b, err := Read(path, 20, Private); err != nil || string(b) != "new" || pauses != 3 {
		t.Errorf("%q %v after %d pauses", b, err, pauses)
	}

	scanner, err = os.Open(path)
	must(t, err)
	defer scanner.Close()
	pause = func() { pauses++ }
	if err := Write(path, []byte("lost")); !errors.Is(err, windows.ERROR_SHARING_VIOLATION) && !errors.Is(err, windows.ERROR_ACCESS_DENIED) {
		t.Errorf("%v", err)
	}
	if pauses != 3+renameTries-1 {
		t.Errorf("%d pauses", pauses)
	}
}

// What is open here nobody can write, rename or remove under us; all can read.
func TestNobodyChangesWhatIsOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	must(t, Write(path, []byte("content")))
	f, err := Open(path, os.O_RDWR, Private)
	must(t, err)
	defer f.Close()
	for what, do := range map[string]func() error{
		"write":    func() error { return os.WriteFile(path, nil, 0o600) },
		"truncate": func() error { return os.Truncate(path, 0) },
		"rename":   func() error { return os.Rename(path, path+"2") },
		"replace": func() error {
			return errors.Join(os.WriteFile(path+"3", nil, 0o600), os.Rename(path+"3", path))
		},
		"remove": func() error { return os.Remove(path) },
	} {
		if err := do(); err == nil {
			t.Errorf("%s: done", what)
		}
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "content" {
		t.Errorf("%q %v", b, err)
	}
	must(t, SyncDir(filepath.Dir(path)))
}

const lockEnv = "SALLYPORT_TEST_LOCK"

// TestHelperLock is not a test: it takes a lock, says so, and waits to be killed.
func TestHelperLock(t *testing.T) {
	dir := os.Getenv(lockEnv)
	if dir == "" {
		return
	}
	if _, err := Lock(dir); err != nil {
		t.Fatal(err)
	}
	_, _ = os.Stdout.WriteString("locked\n")
	select {}
}

func TestLockEndsWithTheProcess(t *testing.T) {
	dir := t.TempDir()
	for range 2 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestHelperLock$", "-test.timeout=60s")
		cmd.Env = append(os.Environ(), lockEnv+"="+dir)
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		if line, err := bufio.NewReader(out).ReadString('\n'); strings.TrimSpace(line) != "locked" {
			t.Fatalf("%q %v", line, err)
		}
		if _, err := Lock(dir); !errors.Is(err, ErrLocked) {
			t.Errorf("of another process: %v", err)
		}
		must(t, cmd.Process.Kill())
		_ = cmd.Wait()
		f, err := Lock(dir)
		must(t, err)
		if _, err := Lock(dir); !errors.Is(err, ErrLocked) {
			t.Errorf("of this process: %v", err)
		}
		must(t, f.Close())
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("left behind: %v %v", entries, err)
	}
}
