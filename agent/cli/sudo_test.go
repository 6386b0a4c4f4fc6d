//go:build unix

package cli

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"sallyport/authplugin/authdb"
	"sallyport/internal/command"
	"sallyport/pam/sudolocal"
)

// sudoMac is the file system of a Mac whose agent answers, and a command line there.
type sudoMac struct {
	*session
	rights *authdb.Rights
	root   string
	exit   int
	out    string
	err    *Error
}

func newSudoMac(t *testing.T) *sudoMac {
	t.Helper()
	s, _, r := rightsSession(t)
	m := &sudoMac{session: s, rights: r, root: t.TempDir()}
	r.Load = func(string) error { return nil }
	m.put(sudolocal.Sudo, "auth include sudo_local\nauth required pam_opendirectory.so\n")
	m.put(sudolocal.Module, string(machModule(moduleFunctions...)))
	return m
}

func (m *sudoMac) put(name, text string) {
	m.t.Helper()
	path := filepath.Join(m.root, name)
	err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644))
	if err != nil {
		m.t.Fatal(err)
	}
}

// local is sudo_local; "" when it is not there.
func (m *sudoMac) local() string {
	b, _ := os.ReadFile(filepath.Join(m.root, sudolocal.Local))
	return string(b)
}

// sudo runs "sallyport sudo ARGS".
func (m *sudoMac) sudo(args ...string) *sudoMac {
	m.t.Helper()
	var out strings.Builder
	a := &app{deps: m.deps, runtimeDir: m.dir}
	a.deps.Stdout = &out
	a.deps.fill()
	if args[len(args)-1] == "--json" {
		a.json, args = true, args[:len(args)-1]
	}
	c := a.sudoCommand(m.root)
	c.SilenceErrors, c.SilenceUsage = true, true
	m.exit, m.err = command.Execute(m.t.Context(), c, args)
	m.out = out.String()
	return m
}

func (m *sudoMac) wants(exit int, says string) {
	m.t.Helper()
	text := m.out
	if m.err != nil {
		text += m.err.Text + " / " + m.err.Remedy
	}
	if m.exit != exit || !strings.Contains(text, says) {
		m.t.Errorf("exit %d, %s; want %d, %q", m.exit, text, exit, says)
	}
}

// machModule is code for this processor that has these (mach-o/loader.h, mach-o/nlist.h).
func machModule(functions ...string) []byte {
	var names, symbols, b bytes.Buffer
	names.WriteByte(0)
	for _, f := range functions {
		_ = binary.Write(&symbols, binary.LittleEndian, []uint32{uint32(names.Len()), 0x0000010f, 0, 0})
		names.WriteString("_" + f + "\x00")
	}
	cpu := map[string]uint32{"amd64": 0x01000007, "arm64": 0x0100000c}[runtime.GOARCH]
	_ = binary.Write(&b, binary.LittleEndian, []uint32{0xfeedfacf, cpu, 0, 8, 1, 24, 0, 0,
		2, 24, 56, uint32(len(functions)), uint32(56 + symbols.Len()), uint32(names.Len())})
	return append(append(b.Bytes(), symbols.Bytes()...), names.Bytes()...)
}

func TestSudoIsGuardedAndNoLonger(t *testing.T) {
	m := newSudoMac(t)
	m.sudo("check").wants(ExitFailed, "sudo asks for no code: the password is enough\nTo change that: sudo sallyport sudo install")
	for range 2 {
		m.sudo("install").wants(ExitOK, "sudo asks for the second factor.")
	}
	m.sudo("check").wants(ExitOK, "sudo asks for the second factor.")
	m.sudo("check", "--json").wants(ExitOK, "")
	var v sudoView
	if err := json.Unmarshal([]byte(m.out), &v); err != nil || v.Verdict != sudolocal.Guarded || v.Before == nil || v.Module != "" {
		t.Errorf("%v: %s", err, m.out)
	}
	m.sudo("remove").wants(ExitOK, "sudo asks for no code")
	if m.local() != "" {
		t.Errorf("left behind: %s", m.local())
	}
}

func TestSudoSaysWhoIsNotAsked(t *testing.T) {
	m := newSudoMac(t)
	m.sudo("install").wants(ExitOK, "")
	m.put(sudolocal.Local, "auth sufficient pam_tid.so\n"+m.local())
	m.sudo("check").wants(ExitFailed, "Touch ID lets in")
	m.put(sudolocal.Local, "auth required "+sudolocal.Module+"\n")
	m.sudo("check").wants(ExitFailed, "by hand")
	m.sudo("install").wants(ExitFailed, "by hand")
	m.put(sudolocal.Local, "")
	m.put("private/var/db/ManagedConfigurationFiles/com.apple.pam/"+sudolocal.Local, "")
	m.sudo("check").wants(ExitFailed, "An MDM manages sudo_local")
	m.sudo("install").wants(ExitFailed, "have the MDM put")
	m.put(sudolocal.Sudo, "auth required pam_opendirectory.so\n")
	m.sudo("install").wants(ExitFailed, "macOS 14")
}

// belongsToAnother has the module be neither root's nor whose the test says it has to be.
func belongsToAnother(m *sudoMac) error {
	if os.Geteuid() != 0 {
		m.rights.Owner++
		return nil
	}
	return os.Chown(filepath.Join(m.root, sudolocal.Module), 12345, -1)
}

// Nothing is written while sudo would let nobody in.
func TestSudoIsNotGuardedByWhatCannotBeUsed(t *testing.T) {
	module := func(m *sudoMac) string { return filepath.Join(m.root, sudolocal.Module) }
	for what, c := range map[string]struct {
		change func(m *sudoMac) error
		exit   int
		says   string
	}{
		"a module that is not there": {func(m *sudoMac) error { return os.Remove(module(m)) }, ExitFailed, "no such file"},
		"a module that is a link": {func(m *sudoMac) error {
			return errors.Join(os.Rename(module(m), module(m)+"x"), os.Symlink(module(m)+"x", module(m)))
		}, ExitFailed, "symbolic link"},
		"a module that others can write":    {func(m *sudoMac) error { return os.Chmod(module(m), 0o664) }, ExitFailed, "can be written by others"},
		"a directory that others can write": {func(m *sudoMac) error { return os.Chmod(filepath.Dir(module(m)), 0o775) }, ExitFailed, "can be written by others"},
		"a module of somebody else's":       {belongsToAnother, ExitFailed, "not to root"},
		"a module that is none":             {func(m *sudoMac) error { m.put(sudolocal.Module, "#!/bin/sh\n"); return nil }, ExitFailed, "no code of macOS's"},
		"a module without a function": {func(m *sudoMac) error {
			m.put(sudolocal.Module, string(machModule(moduleFunctions[:2]...)))
			return nil
		}, ExitFailed, "it has no pam_sm_setcred"},
		"a module that does not load": {func(m *sudoMac) error {
			m.rights.Load = func(string) error { return errors.New("image not found") }
			return nil
		}, ExitFailed, "image not found"},
		"a build that cannot load it to try": {func(m *sudoMac) error { m.rights.Load = nil; return nil }, ExitFailed, "cannot load it"},
		"an agent that does not answer":      {func(m *sudoMac) error { m.dir = m.root; return nil }, ExitNotRunning, "the agent does not answer logins, and sudo would let nobody in"},
		"an agent of another version":        {func(m *sudoMac) error { m.deps.Version = "1"; return nil }, ExitFailed, "not 1"},
	} {
		t.Run(what, func(t *testing.T) {
			m := newSudoMac(t)
			if err := c.change(m); err != nil {
				t.Fatal(err)
			}
			m.sudo("install").wants(c.exit, c.says)
			if m.local() != "" {
				t.Errorf("written: %s", m.local())
			}
		})
	}
}

// The way back needs neither the module nor the agent.
func TestSudoThatLetsNobodyIn(t *testing.T) {
	m := newSudoMac(t)
	m.sudo("install").wants(ExitOK, "")
	if err := os.Remove(filepath.Join(m.root, sudolocal.Module)); err != nil {
		t.Fatal(err)
	}
	m.dir = m.root
	m.sudo("check").wants(ExitFailed, "sudo lets nobody in")
	m.sudo("check", "--json").wants(ExitFailed, `"module"`)
	m.sudo("remove").wants(ExitOK, "sudo asks for no code")
}

// Root is refused by macOS's privacy protection, which is another thing than not to be
// root, and by a volume that cannot be written.
func TestSudoSaysWhyNothingCanBeWritten(t *testing.T) {
	for _, c := range []struct {
		err  error
		exit int
		says string
	}{
		{syscall.EPERM, ExitDenied, "Full Disk Access"},
		{syscall.EACCES, ExitDenied, "as root"},
		{syscall.EROFS, ExitFailed, "not from recovery"},
		{syscall.EIO, ExitFailed, ""},
	} {
		var e *Error
		if err := sudoError(&fs.PathError{Op: "open", Path: "/etc/pam.d/x", Err: c.err}); !errors.As(err, &e) || e.Exit != c.exit || !strings.Contains(e.Remedy, c.says) {
			t.Errorf("%v: %+v", c.err, e)
		}
	}
}

// Where it is an MDM's, our lines are not ours to take out, and the uninstaller must
// not go on.
func TestSudoThatAnMDMGuardsIsNotCalledUnguarded(t *testing.T) {
	m := newSudoMac(t)
	m.sudo("install").wants(ExitOK, "")
	m.put("private/var/db/ManagedConfigurationFiles/com.apple.pam/"+sudolocal.Local, m.local())
	m.sudo("remove").wants(ExitFailed, "sudo still names our module")
}

// TestTheServiceIsNotUninstalledUnderSudo: it would let nobody in any more.
func TestTheServiceIsNotUninstalledUnderSudo(t *testing.T) {
	m := newSudoMac(t)
	m.deps.Root = os.DirFS(m.root)
	var did []string
	m.deps.Service = func(action string, _ Target) (string, error) { did = append(did, action); return "done", nil }
	m.sudo("install").wants(ExitOK, "")
	m.run("service", "uninstall").wantExit(ExitFailed).wantErr("sudo asks for the agent", "first: sudo sallyport sudo remove")
	m.sudo("remove").wants(ExitOK, "")
	m.deps.Root = unreadable{}
	m.run("service", "uninstall").wantExit(ExitFailed).wantErr("cannot be told")
	if len(did) > 0 {
		t.Errorf("it did %q", did)
	}
	m.deps.Root = os.DirFS(m.root)
	m.run("service", "uninstall").wantExit(ExitOK)
}

// unreadable is a file system of which nothing can be read.
type unreadable struct{}

func (unreadable) Open(name string) (fs.File, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
}
