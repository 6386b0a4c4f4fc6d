//go:build unix

package cli

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"sallyport/authplugin/authdb"
	"sallyport/internal/localsock"
	adminv1 "sallyport/proto/sallyport/admin/v1"
)

// rightsDatabase stands in for what `sallyport authdb` runs: it keeps the definitions
// as they are written.
type rightsDatabase struct {
	rights map[string]string
	load   error // of the dry load
	stuck  bool  // after the first write nothing can be read
	wrote  []string
	// interrupt: with the first write somebody presses Ctrl-C.
	interrupt bool
}

func newRightsDatabase(t *testing.T) *rightsDatabase {
	t.Helper()
	d := &rightsDatabase{rights: map[string]string{}}
	for right, file := range map[string]string{authdb.Console: "console-crypt", authdb.Authenticate: "authenticate-13-14", authdb.Screensaver: "screensaver-13-14"} {
		b, err := os.ReadFile(filepath.Join("../../authplugin/authdb/testdata", file+".plist"))
		if err != nil {
			t.Fatal(err)
		}
		d.rights[right] = string(b)
	}
	return d
}

func (d *rightsDatabase) run(ctx context.Context, stdin []byte, program string, args ...string) (authdb.Output, error) {
	switch {
	case ctx.Err() != nil: // no program is started any more
		return authdb.Output{}, ctx.Err()
	case args[0] == "authorizationdb" && d.stuck && len(d.wrote) > 0:
		return authdb.Output{}, errors.New("exit status 1")
	case args[0] == "authorizationdb" && args[1] == "read":
		return authdb.Output{Stdout: []byte(d.rights[args[2]])}, nil
	case args[0] == "authorizationdb" && args[1] == "write":
		d.wrote = append(d.wrote, args[2])
		d.rights[args[2]] = string(stdin)
		if d.interrupt {
			d.interrupt = false
			p, err := os.FindProcess(os.Getpid())
			if err == nil {
				err = p.Signal(os.Interrupt)
			}
			if err != nil {
				return authdb.Output{}, err
			}
			<-ctx.Done()
			return authdb.Output{}, ctx.Err()
		}
	case args[0] == "--display":
		return authdb.Output{Stderr: []byte("TeamIdentifier=ABCDE12345\n")}, nil
	case slices.Equal(args[:2], authdb.DryLoad):
		return authdb.Output{Stdout: []byte("loaded\n")}, d.load
	}
	return authdb.Output{}, nil
}

// machBundle makes a bundle that has code for this processor (mach-o/loader.h: a
// header, a symtab_command, one symbol).
func machBundle(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "Sallyport.bundle")
	if err := os.MkdirAll(filepath.Join(dir, "Contents/MacOS"), 0o755); err != nil {
		t.Fatal(err)
	}
	const name = "\x00_AuthorizationPluginCreate\x00"
	cpu := map[string]uint32{"amd64": 0x01000007, "arm64": 0x0100000c}[runtime.GOARCH]
	var b bytes.Buffer
	_ = binary.Write(&b, binary.LittleEndian, []uint32{0xfeedfacf, cpu, 0, 8, 1, 24, 0, 0, 2, 24, 56, 1, 72, uint32(len(name)), 1, 0x0000010f, 0, 0})
	b.WriteString(name)
	if err := os.WriteFile(filepath.Join(dir, "Contents/MacOS/Sallyport"), b.Bytes(), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// rightsSession is a command line on a computer with a rights database, and an agent
// that answers logins.
func rightsSession(t *testing.T) (*session, *rightsDatabase, *authdb.Rights) {
	t.Helper()
	f := newFake()
	s := newSession(t, f)
	l, err := localsock.Listen(filepath.Join(s.dir, localsock.LoginName), localsock.OwnerOnly, 100)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	}()
	f.status.LoginSocket, f.status.Version, s.deps.Version = filepath.Join(s.dir, localsock.LoginName), "9.9.9", "9.9.9"
	d := newRightsDatabase(t)
	r := &authdb.Rights{StateDir: t.TempDir(), Wanted: authdb.Wanted{Login: true}, Bundle: machBundle(t), Program: "/x/sallyport", Run: d.run, Owner: os.Geteuid()}
	s.deps.Rights = func(string) (*authdb.Rights, error) { c := *r; return &c, nil }
	return s, d, r
}

func TestAuthdbInstallsChecksAndRemoves(t *testing.T) {
	s, d, _ := rightsSession(t)
	before := d.rights[authdb.Console]
	s.run("authdb", "check").wantExit(ExitFailed).wantOut("unguarded", "also there: Crypt:CryptGUI", "Next: sudo sallyport authdb install")
	s.run("authdb", "install", "--dry-run").wantExit(ExitOK).wantOut("system.login.console: would change", "+ <string>Sallyport:begin,privileged</string>")
	if len(d.wrote) != 0 {
		t.Errorf("a dry run wrote %q", d.wrote)
	}
	s.run("authdb", "install").wantExit(ExitOK).wantOut("system.login.console: changed", "Try it before you close this session")
	s.run("authdb", "install").wantExit(ExitOK).wantOut("nothing to do")
	s.run("authdb", "check").wantExit(ExitOK).wantOut("The rights are as configured.")
	s.run("authdb", "check", "--json").wantExit(ExitOK)
	var report authdb.Report
	if err := json.Unmarshal([]byte(s.out), &report); err != nil || !report.OK || !report.Installed || len(report.Rights) != 3 || report.Rights[0].State != authdb.Guarded {
		t.Errorf("%v: %s", err, s.out)
	}
	s.run("authdb", "remove", "--dry-run").wantExit(ExitOK).wantOut("would change", "- <string>Sallyport:verify,privileged</string>")
	s.run("authdb", "remove", "--json").wantExit(ExitOK).wantOut(`"right":"system.login.console"`)
	if d.rights[authdb.Console] != before {
		t.Errorf("it is not as it was:\n%s", d.rights[authdb.Console])
	}
	s.run("authdb", "remove").wantExit(ExitOK).wantOut("nothing to do")
}

// TestTheServiceIsNotUninstalledUnderTheRights: nobody would get in any more.
func TestTheServiceIsNotUninstalledUnderTheRights(t *testing.T) {
	s, _, r := rightsSession(t)
	var did []string
	s.deps.Service = func(action string, _ Target) (string, error) { did = append(did, action); return "done", nil }
	s.run("authdb", "install").wantExit(ExitOK)
	s.deps.Rights = func(string) (*authdb.Rights, error) { c := *r; return &c, errors.New("line 3: broken") }
	s.run("service", "uninstall").wantExit(ExitFailed).wantErr("the login rights ask for the agent", "first: sudo sallyport authdb remove")
	s.run("service", "restart").wantExit(ExitOK)
	s.run("authdb", "remove").wantExit(ExitOK)
	s.run("service", "uninstall").wantExit(ExitOK)
	if !slices.Equal(did, []string{"restart", "uninstall"}) {
		t.Errorf("it did %q", did)
	}
}

func TestAuthdbRefusesWhatWouldLockOut(t *testing.T) {
	s, d, r := rightsSession(t)
	d.load = errors.New("exit status 1")
	s.run("authdb", "install").wantExit(ExitFailed).wantErr("does not load", "nothing was changed")
	s.run("authdb", "install", "--dry-run").wantExit(ExitFailed).wantOut("would change", "it would be refused")
	s.run("authdb", "install", "--json").wantExit(ExitFailed).wantErr(`"code":"failed"`)
	d.load = nil
	version := s.deps.Version
	s.deps.Version = "1"
	s.run("authdb", "install").wantExit(ExitFailed).wantErr("the agent that answers is version 9.9.9, not 1")
	s.deps.Version = version
	s.run("authdb", "install", "--runtime-dir", t.TempDir()).wantExit(ExitNotRunning).wantErr("the agent does not answer logins")
	r.Owner++
	s.run("authdb", "install").wantExit(ExitDenied).wantErr("only root")
	s.run("authdb", "remove").wantExit(ExitDenied).wantErr("only root")
	r.Owner--
	if len(d.wrote) != 0 {
		t.Errorf("it wrote %q", d.wrote)
	}
	if err := os.RemoveAll(r.Bundle); err != nil {
		t.Fatal(err)
	}
	s.run("authdb", "install").wantExit(ExitFailed).wantErr("no such file")
}

// An agent that runs and cannot read its vault refuses everybody.
func TestAuthdbWantsAnOpenVaultAndALoginSocket(t *testing.T) {
	for what, c := range map[string]struct {
		change func(*adminv1.StatusResponse)
		want   string
	}{
		"the vault":  {func(s *adminv1.StatusResponse) { s.Vault.State = "unavailable" }, "vault is not open"},
		"the socket": {func(s *adminv1.StatusResponse) { s.LoginSocket += "x" }, "is not there"},
	} {
		s, d, _ := rightsSession(t)
		f := newFake()
		dir := f.start(t)
		f.status.Version, f.status.LoginSocket = "9.9.9", filepath.Join(s.dir, localsock.LoginName)
		c.change(f.status)
		s.run("authdb", "install", "--runtime-dir", dir)
		if s.exit == ExitOK || !strings.Contains(s.err, c.want) || len(d.wrote) != 0 {
			t.Errorf("%s: exit %d, %s%s", what, s.exit, s.out, s.err)
		}
	}
}

func TestAuthdbSaysWhenNobodyGetsIn(t *testing.T) {
	s, d, r := rightsSession(t)
	s.run("authdb", "install").wantExit(ExitOK)
	d.load = errors.New("exit status 1")
	s.run("authdb", "check").wantExit(ExitFailed).wantOut("the plug-in cannot be used", "At once: sudo sallyport authdb remove")
	// With a broken configuration, too, ours come out.
	s.deps.Rights = func(string) (*authdb.Rights, error) { c := *r; return &c, errors.New("line 3: broken") }
	s.run("authdb", "install").wantExit(ExitFailed).wantErr("line 3: broken")
	s.run("authdb", "check").wantExit(ExitFailed).wantErr("line 3: broken")
	s.run("authdb", "remove").wantExit(ExitOK).wantOut("- <string>Sallyport:prompt</string>")
}

func TestAuthdbSaysWhatCouldNotBePutBack(t *testing.T) {
	s, d, r := rightsSession(t)
	d.stuck = true
	s.run("authdb", "install").wantExit(ExitFailed).wantErr("could not be put back", "do not log out", r.Backup(authdb.Console))
}

func TestAuthdbInterruptedPutsBack(t *testing.T) {
	s, d, r := rightsSession(t)
	r.Wanted.Elevate = true
	before := maps.Clone(d.rights)
	d.interrupt = true
	s.run("authdb", "install").wantExit(ExitFailed).wantErr("nothing was changed")
	if !maps.Equal(d.rights, before) || len(d.wrote) == 0 {
		t.Errorf("it wrote %q, and left %s", d.wrote, d.rights)
	}
}

func TestAuthdbDryLoad(t *testing.T) {
	s, _, r := rightsSession(t)
	s.run("authdb", "dry-load", "/b").wantExit(ExitFailed).wantErr("cannot load plug-ins")
	var path string
	r.Load = func(p string) error { path = p; return nil }
	s.run("authdb", "dry-load", "/b").wantExit(ExitOK)
	if s.out != "loaded\n" || path != filepath.Join("/b", "Contents/MacOS/Sallyport") {
		t.Errorf("%q, %s", s.out, path)
	}
	r.Load = func(string) error { return errors.New("image not found") }
	s.run("authdb", "dry-load", "/b").wantExit(ExitFailed).wantErr("image not found")
}

func TestThereIsNoAuthdbWithoutARightsDatabase(t *testing.T) {
	runCLI(t, newFake(), "authdb", "check").wantExit(ExitUsage)
}
