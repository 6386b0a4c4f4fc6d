//go:build linux

// Package macos tests the package for macOS: what it brings, and its scripts, which
// are run for real, on Linux, in a root of their own.
package macos

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"sallyport/authplugin/authdb"
	"sallyport/internal/testkit/sandbox"
)

func TestMain(m *testing.M) { sandbox.Main(m) }

const (
	home     = "/Library/Application Support/Sallyport"
	agent    = home + "/bin/sallyport"
	bundle   = authdb.DefaultBundle
	plist    = "/Library/LaunchDaemons/com.sallyport.agent.plist"
	module   = "/Library/Security/Sallyport/pam_sallyport.so.2"
	people   = "/usr/local/bin/sallyport"
	incoming = home + "/incoming"
)

// shells run the scripts. macOS's /bin/sh is bash 3.2 in POSIX mode; a bashism that
// bash takes there, dash does not.
var shells = map[string][]string{"dash": {"/real/dash"}, "bash": {"/real/bash", "--posix"}, "busybox": {"/real/busybox", "sh"}}

// mac is a root in which the scripts run, with /fake for what is made up.
type mac struct {
	*testing.T
	root  string
	shell []string
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// buildStandin builds the programs that the scripts find; it goes with the sandbox.
var buildStandin = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "standin-")
	if err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-o", dir+"/standin", "./testdata/standin")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return dir + "/standin", nil
})

func standin(t *testing.T) string {
	t.Helper()
	program, err := buildStandin()
	must(t, err)
	return program
}

func newMac(t *testing.T, program string, shell string) *mac {
	t.Helper()
	m := &mac{t, t.TempDir(), shells[shell]}
	must(t, syscall.Mount("mac", m.root, "tmpfs", 0, "size=64m,mode=755"))
	t.Cleanup(func() { must(t, syscall.Unmount(m.root, syscall.MNT_DETACH)) })
	for _, dir := range []string{"/real", "/usr/bin", "/usr/lib", "/usr/lib64", "/fake/rights", "/dev", "/tmp", "/pkg", "/Library/Application Support",
		"/Library/LaunchDaemons", "/Library/Keychains", "/Library/Security/SecurityAgentPlugins", "/private/etc", "/var/run"} {
		must(t, os.MkdirAll(m.root+dir, 0o755))
	}
	for to, from := range map[string]string{"/real": "/usr/bin", "/usr/lib": "/usr/lib", "/usr/lib64": "/usr/lib64"} {
		if from == "/usr/lib64" {
			if _, err := os.Stat(from); err != nil {
				continue
			}
		}
		must(t, syscall.Mount(from, m.root+to, "", syscall.MS_BIND, ""))
		t.Cleanup(func() { must(t, syscall.Unmount(m.root+to, syscall.MNT_DETACH)) })
	}
	for to, from := range map[string]string{"/bin": "usr/bin", "/sbin": "usr/bin", "/usr/sbin": "bin", "/lib": "usr/lib", "/lib64": "usr/lib64"} {
		must(t, os.Symlink(from, m.root+to))
	}
	must(t, syscall.Mknod(m.root+"/dev/null", syscall.S_IFCHR|0o666, 1<<8|3))
	must(t, os.Chmod(m.root+"/dev/null", 0o666))
	b, err := os.ReadFile(program)
	must(t, err)
	m.put("/standin", string(b))
	for _, tool := range []string{"cp", "cut", "date", "diff", "dirname", "find", "grep", "id", "ln", "mkdir", "mv", "rm", "sleep", "sync", "tail", "tr",
		"launchctl", "security", "codesign", "pkgutil"} {
		must(t, os.Symlink("/standin", m.root+"/usr/bin/"+tool))
	}
	for _, right := range []string{"system.login.console", "authenticate", "system.login.screensaver"} {
		name, _, _ := strings.Cut(strings.TrimPrefix(right, "system.login."), ".")
		b, err := os.ReadFile("../../authplugin/authdb/testdata/" + name + "-15-26.plist")
		must(t, err)
		m.put("/fake/rights/"+right, string(b))
	}
	for _, script := range []string{"paths.sh", "preinstall", "postinstall"} {
		b, err := os.ReadFile("scripts/" + script)
		must(t, err)
		m.put("/pkg/"+script, string(b))
	}
	t.Cleanup(func() {
		if what := m.get("/fake/unknown"); what != "" {
			t.Errorf("not an option of macOS's, as far as we know: %s", what)
		}
		m.orderHolds()
	})
	return m
}

func (m *mac) put(path, text string) {
	m.Helper()
	must(m, os.MkdirAll(filepath.Dir(m.root+path), 0o755))
	// Whoever forks meanwhile would keep it open for writing, and nobody could run it.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	must(m, os.WriteFile(m.root+path, []byte(text), 0o755))
}

func (m *mac) get(path string) string {
	b, _ := os.ReadFile(m.root + path)
	return string(b)
}

func (m *mac) has(path string) bool {
	_, err := os.Lstat(m.root + path)
	return err == nil
}

// script runs one, as Installer does; killed: by SIGKILL.
func (m *mac) script(path string, args ...string) (said string, err error) {
	m.Helper()
	cmd := exec.Command(m.shell[0], slices.Concat(m.shell[1:], []string{path}, args)...)
	cmd.Dir, cmd.Env = "/", []string{"PATH=/nowhere"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: m.root, Setpgid: true}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// version is a package: its version, and how its agent and its plug-in behave.
type version struct{ name, behaviour string }

func (v version) kind() string { return v.name + ":" + v.behaviour }

// payload lays the files out where the package brings them.
func (m *mac) payload(v version) {
	m.Helper()
	m.put(incoming+"/sallyport", "#!/standin agent:"+v.kind()+"\n")
	m.put(incoming+"/uninstall", m.source("uninstall")+"# "+v.name+"\n")
	m.put(incoming+"/com.sallyport.agent.plist", v.name)
	m.put(incoming+"/pam_sallyport.so.2", v.name)
	m.put(incoming+"/share/man/man1/sallyport.1", v.name)
	plugin := incoming + "/Sallyport.bundle/Contents"
	m.put(plugin+"/MacOS/Sallyport", string(machO()))
	m.put(plugin+"/Info.plist", v.name)
	m.put(plugin+"/behaviour", v.behaviour)
}

func (m *mac) source(path string) string {
	b, err := os.ReadFile(path)
	must(m, err)
	return string(b)
}

// machO is a bundle for this processor with the one symbol (mach-o/loader.h).
func machO() []byte {
	var b bytes.Buffer
	cpu := map[string]uint32{"amd64": 0x01000007, "arm64": 0x0100000c}[runtime.GOARCH]
	name := "\x00_AuthorizationPluginCreate\x00"
	_ = binary.Write(&b, binary.LittleEndian, []uint32{0xfeedfacf, cpu, 0, 8, 1, 24, 0, 0, 2, 24, 56, 1, 72, uint32(len(name)), 1, 0x10f, 0, 0})
	b.WriteString(name)
	return b.Bytes()
}

// install installs a package as Installer does: preinstall, the files, postinstall.
func (m *mac) install(v version) (said string, err error) {
	m.Helper()
	if said, err = m.script("/pkg/preinstall", "/x.pkg", "/", "/", "/"); err != nil {
		return said, err
	}
	m.payload(v)
	more, err := m.script("/pkg/postinstall", "/x.pkg", "/", "/", "/")
	return said + more, err
}

func (m *mac) mustInstall(v version) {
	m.Helper()
	if said, err := m.install(v); err != nil {
		m.Fatalf("%v: %s", err, said)
	}
}

// at checks that all of one version is there, runs and answers, and nothing else.
func (m *mac) at(v version) {
	m.Helper()
	if m.get("/fake/running") != v.kind() || !strings.Contains(m.get(agent), v.kind()) {
		m.Errorf("%q runs, and the program is %q, not %s", m.get("/fake/running"), m.get(agent), v.name)
	}
	for _, path := range []string{plist, module, bundle + "/Contents/Info.plist"} {
		if m.get(path) != v.name {
			m.Errorf("%s is of %q, not of %s", path, m.get(path), v.name)
		}
	}
	if !strings.Contains(m.get(home+"/uninstall"), "# "+v.name+"\n") {
		m.Errorf("uninstall is not of %s", v.name)
	}
	if !m.named() {
		m.Error("the rights do not name the plug-in")
	}
	m.tidy()
}

// tidy: nothing is left of an installation.
func (m *mac) tidy() {
	m.Helper()
	for _, dir := range []string{"incoming", "previous", "previous.new", "returning"} {
		if m.has(home + "/" + dir) {
			m.Errorf("%s is left behind", dir)
		}
	}
}

// gone: nothing of ours is there.
func (m *mac) gone() {
	m.Helper()
	for _, path := range []string{agent, home + "/bin", home + "/uninstall", home + "/share", plist, filepath.Dir(module), bundle, people} {
		if m.has(path) {
			m.Errorf("%s is left behind", path)
		}
	}
	if m.named() || m.get("/fake/loaded") != "" {
		m.Errorf("named: %t, loaded: %q", m.named(), m.get("/fake/loaded"))
	}
	m.tidy()
}

func (m *mac) named() bool {
	return strings.Contains(m.get("/fake/rights/system.login.console"), "Sallyport:")
}

// orderHolds goes through all that was done: at no moment a right names a plug-in that
// is not there; and an agent that does not answer, while one names it, is a restart.
func (m *mac) orderHolds() {
	m.Helper()
	down := -1 // since when
	for line := range strings.Lines(m.get("/fake/log")) {
		f := strings.SplitN(strings.TrimSpace(line), "\t", 5)
		now, err := strconv.Atoi(f[0])
		must(m, err)
		named, whole, answers := f[1] == "true", f[2] == "whole", f[3] == "true"
		if named && !whole {
			m.Errorf("nobody could log in, the plug-in is not there: at %q", f[4])
		}
		switch {
		case !named || answers:
			down = -1
		case down < 0:
			down = now
		case now-down > 16:
			m.Errorf("the agent has not answered for %d seconds: at %q", now-down, f[4])
		}
	}
}

// everyShell runs a test with each shell that there is.
func everyShell(t *testing.T, test func(t *testing.T, m *mac)) {
	sandbox.Need(t)
	program := standin(t)
	for name, shell := range shells {
		t.Run(name, func(t *testing.T) {
			if _, err := os.Stat(strings.Replace(shell[0], "/real", "/usr/bin", 1)); err != nil {
				t.Skip("there is no " + name + " here")
			}
			t.Parallel()
			test(t, newMac(t, program, name))
		})
	}
}

var (
	v1 = version{"v1.0.0", "ok"}
	v2 = version{"v2.0.0", "ok"}
)

// says checks that something failed, and what it said.
func (m *mac) says(said string, err error, words ...string) {
	m.Helper()
	for _, w := range words {
		if err == nil || !strings.Contains(said, w) {
			m.Errorf("%v, without %q: %s", err, w, said)
		}
	}
}

func TestInstallUpgradeUninstall(t *testing.T) {
	everyShell(t, func(t *testing.T, m *mac) {
		m.put("/fake/disabled", "by MDM")
		m.mustInstall(v1)
		m.at(v1)
		if to, err := os.Readlink(m.root + people); err != nil || to != agent {
			t.Errorf("%q, %v", to, err)
		}
		for path, mode := range map[string]fs.FileMode{home: 0o755, agent: 0o755, filepath.Dir(module): 0o755} {
			if st, err := os.Stat(m.root + path); err != nil || st.Mode().Perm() != mode {
				t.Errorf("%s: %v, %v", path, st.Mode(), err)
			}
		}
		m.mustInstall(v2)
		m.at(v2)
		if m.get(home+"/share/man/man1/sallyport.1") != v2.name {
			t.Error("the manual is not the new one")
		}
		m.mustInstall(v1) // older, and the same again
		m.mustInstall(v1)
		m.at(v1)

		m.put(home+"/state/vault", "kept")
		m.orderHolds()
		m.put("/fake/log", "")
		if said, err := m.script(home + "/uninstall"); err != nil || !strings.Contains(said, "What it kept") {
			t.Errorf("%v: %s", err, said)
		}
		m.gone()
		if m.get(home+"/state/vault") != "kept" {
			t.Error("the state is gone")
		}
		m.inOrder("sallyport authdb remove", "sallyport sudo remove", "rm -rf "+bundle, "sallyport service uninstall", "rm -rf /Library/Security/Sallyport", "pkgutil --forget com.sallyport.pkg")

		m.mustInstall(v2) // over what was kept
		m.at(v2)
		m.put("/fake/key", "the vault's")
		if said, err := m.script(home+"/uninstall", "--purge"); err != nil {
			t.Errorf("%v: %s", err, said)
		}
		if m.gone(); m.has(home) || m.has("/fake/key") {
			t.Error("something was kept")
		}
	})
}

// inOrder: these were done, one after the other.
func (m *mac) inOrder(done ...string) {
	m.Helper()
	log := m.get("/fake/log")
	for _, d := range done {
		_, rest, found := strings.Cut(log, "\t"+d)
		if !found {
			m.Errorf("no %q, or not in its turn:\n%s", d, m.get("/fake/log"))
			return
		}
		log = rest
	}
}

// TestAnUpgradeThatIsNoGoodIsPutBack, whatever is wrong with it.
func TestAnUpgradeThatIsNoGoodIsPutBack(t *testing.T) {
	for name, c := range map[string]struct {
		v     version
		with  func(m *mac)
		after func(m *mac)
		says  string
	}{
		"the agent does not answer":   {version{"v2.0.0", "dumb"}, nil, nil, "does not answer within 15 seconds"},
		"the program does not run":    {version{"v2.0.0", "broken"}, nil, nil, "nothing was changed"},
		"the plug-in does not load":   {version{"v2.0.0", "noload"}, nil, nil, "not fit for use"},
		"the rights cannot be read":   {v2, func(m *mac) { m.put("/fake/security-fails", "read") }, func(m *mac) { m.put("/fake/security-fails", "") }, "the rights were not changed"},
		"launchd does not take it":    {v2, func(m *mac) { m.put("/fake/launchctl-fails", "enable") }, func(m *mac) { m.put("/fake/launchctl-fails", "") }, "launchd does not start"},
		"the plug-in was not brought": {v2, func(m *mac) { m.put("/fake/no-bundle", "yes") }, nil, "not fit for use"},
	} {
		t.Run(name, func(t *testing.T) {
			everyShell(t, func(t *testing.T, m *mac) {
				m.mustInstall(v1)
				if said, err := m.script("/pkg/preinstall", "/x.pkg", "/", "/", "/"); err != nil {
					t.Fatalf("%v: %s", err, said)
				}
				m.payload(c.v)
				if c.with != nil {
					c.with(m)
				}
				if m.has("/fake/no-bundle") {
					must(t, os.RemoveAll(m.root+incoming+"/Sallyport.bundle"))
				}
				said, err := m.script("/pkg/postinstall", "/x.pkg", "/", "/", "/")
				m.says(said, err, c.says)
				if c.after != nil {
					c.after(m)
				}
				if name == "launchd does not take it" { // nor the one of before: it says so, and it is right when launchd is
					m.says(said, err, "DOES NOT ANSWER")
					m.orderHolds()
					m.put("/fake/log", "")
					m.restart()
				}
				m.at(v1)
				m.mustInstall(v2)
				m.at(v2)
			})
		})
	}
}

// restart restarts what is installed, as a person would.
func (m *mac) restart() {
	m.Helper()
	cmd := exec.Command("/standin", "agent:v1.0.0:ok", agent, "service", "restart")
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: m.root}
	if out, err := cmd.CombinedOutput(); err != nil {
		m.Fatalf("%v: %s", err, out)
	}
}

// TestWithTheShippedAgent: it is started, asked and stopped, an upgrade that does not
// answer brings it back, and its vault is the same.
func TestWithTheShippedAgent(t *testing.T) {
	sandbox.Need(t)
	m := newMac(t, standin(t), "dash")
	cmd := exec.Command("go", "build", "-o", m.root+"/agent", "-ldflags", "-X main.version=v1.0.0", "sallyport/agent")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	m.put("/etc/sallyport.toml", "state_dir = \"/state\"\nruntime_dir = \"/var/run/sallyport\"\nkeychain = \"file\"\nlog = \"stderr\"\n")
	must(t, os.Chmod(m.root+"/etc/sallyport.toml", 0o600))
	status := func() (s struct {
		Running bool
		Vault   struct{ State, ID string }
	}) {
		cmd := exec.Command("/agent", "status", "--json", "--config", "/etc/sallyport.toml")
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: m.root}
		out, err := cmd.Output()
		if err == nil {
			err = json.Unmarshal(out, &s)
		}
		if err != nil {
			t.Errorf("%v: %s", err, out)
		}
		return s
	}
	v1 := version{"v1.0.0", "real"}
	m.mustInstall(v1)
	m.at(v1)
	before := status()
	if !before.Running || before.Vault.State != "open" || before.Vault.ID == "" {
		t.Errorf("%+v", before)
	}
	said, err := m.install(version{"v2.0.0", "dumb"})
	m.says(said, err, "does not answer within 15 seconds", "the version before is back, and answers")
	m.at(v1)
	if after := status(); after != before {
		t.Errorf("%+v, and before %+v", after, before)
	}
	if said, err = m.script(home + "/uninstall"); err != nil {
		t.Errorf("%v: %s", err, said)
	}
	if m.gone(); m.has("/fake/pid") {
		t.Error("it still runs")
	}
}

// TestAFirstInstallationThatFailsLeavesNothing: the rights are to the byte what they
// were, and what an earlier installation has kept is still there.
func TestAFirstInstallationThatFailsLeavesNothing(t *testing.T) {
	everyShell(t, func(t *testing.T, m *mac) {
		m.put(home+"/sallyport.toml", "kept")
		rights := m.get("/fake/rights/system.login.console")
		for _, c := range []struct{ behaviour, says string }{{"dumb", "does not answer"}, {"broken", "does not run"}, {"noload", "not fit for use"}} {
			said, err := m.install(version{"v1.0.0", c.behaviour})
			m.says(said, err, c.says)
			m.gone()
			if m.get("/fake/rights/system.login.console") != rights || m.get(home+"/sallyport.toml") != "kept" {
				t.Errorf("%s: the rights or the settings have changed", c.behaviour)
			}
		}
		m.mustInstall(v1)
		m.at(v1)
	})
}

// TestSomebodyElsesFolder: whoever made ours before us, or can write there, could put
// in what root runs.
func TestSomebodyElsesFolder(t *testing.T) {
	everyShell(t, func(t *testing.T, m *mac) {
		for name, c := range map[string]struct {
			do, undo func() error
			says     string
		}{
			"somebody's": {func() error { return os.Chown(m.root+home, 501, 20) }, func() error { return os.Chown(m.root+home, 0, 0) }, "chown root '" + home + "'"},
			"the group's": {func() error { return os.Chmod(m.root+"/Library/Security", 0o775) }, func() error { return os.Chmod(m.root+"/Library/Security", 0o755) },
				"chmod go-w '/Library/Security'"},
			"a link": {func() error {
				return errors.Join(os.Remove(m.root+home), os.Symlink("/tmp", m.root+home))
			}, func() error { return errors.Join(os.Remove(m.root+home), os.Mkdir(m.root+home, 0o755)) }, home + " is a link"},
			"a file": {func() error {
				return errors.Join(os.Remove(m.root+home), os.WriteFile(m.root+home, nil, 0o644))
			}, func() error { return errors.Join(os.Remove(m.root+home), os.Mkdir(m.root+home, 0o755)) }, home + " is not a folder"},
		} {
			must(t, os.MkdirAll(m.root+home, 0o755))
			must(t, c.do())
			said, err := m.install(v1)
			m.says(said, err, c.says)
			if m.named() || m.has(agent) {
				t.Errorf("%s: it was installed", name)
			}
			must(t, c.undo())
		}
		said, err := m.script("/pkg/preinstall", "/x.pkg", "/Volumes/Other", "/Volumes/Other", "/")
		m.says(said, err, "the running system alone")
	})
}

// TestADiskThatIsFull keeps the new one from coming, and nobody out.
func TestADiskThatIsFull(t *testing.T) {
	everyShell(t, func(t *testing.T, m *mac) {
		must(t, syscall.Mount("small", m.root+"/Library", "tmpfs", 0, "size=1m,mode=755"))
		t.Cleanup(func() { must(t, syscall.Unmount(m.root+"/Library", syscall.MNT_DETACH)) })
		for _, dir := range []string{"/Application Support", "/LaunchDaemons", "/Security/SecurityAgentPlugins"} {
			must(t, os.MkdirAll(m.root+"/Library"+dir, 0o755))
		}
		fill := func() {
			f, err := os.Create(m.root + "/Library/full")
			must(t, err)
			for size := 1 << 16; size > 0; size /= 2 {
				for {
					if _, err := f.Write(make([]byte, size)); err != nil {
						break
					}
				}
			}
			must(t, f.Close())
		}
		m.mustInstall(v1)
		fill()
		said, err := m.install(v2)
		m.says(said, err, "cannot be kept, so nothing is changed")
		must(t, os.Remove(m.root+"/Library/full"))
		m.at(v1)

		// Between what Installer lays out and postinstall.
		if said, err := m.script("/pkg/preinstall", "/x.pkg", "/", "/", "/"); err != nil {
			t.Fatalf("%v: %s", err, said)
		}
		m.payload(v2)
		fill()
		if _, err = m.script("/pkg/postinstall", "/x.pkg", "/", "/", "/"); err == nil {
			m.at(v2)
		} else {
			m.at(v1)
		}
		must(t, os.Remove(m.root+"/Library/full"))
		m.mustInstall(v2)
		m.at(v2)
	})
}

// TestKilledAtAnyStepAndDoneAgain: SIGKILL before each program that changes anything, of
// postinstall's and of those that it runs. At that moment nobody is locked out, and the next installation
// ends well: with the new version, or with the one before, whole.
func TestKilledAtAnyStepAndDoneAgain(t *testing.T) {
	sandbox.Need(t)
	program := standin(t)
	for name, c := range map[string]struct {
		before *version
		then   version // that is installed when the first was killed
		want   *version
		fails  string // what security(1) fails at, before the kill
	}{
		"first":                  {nil, v2, &v2, ""},
		"first, then no good":    {nil, version{"v3.0.0", "dumb"}, nil, ""},
		"upgrade":                {&v1, v2, &v2, ""},
		"upgrade, then no good":  {&v1, version{"v3.0.0", "dumb"}, &v1, ""},
		"put back, then no good": {&v1, version{"v3.0.0", "dumb"}, &v1, "read"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMac(t, program, "dash")
			new := v2
			if c.before != nil {
				m.mustInstall(*c.before)
			}
			if said, err := m.script("/pkg/preinstall", "/x.pkg", "/", "/", "/"); err != nil {
				t.Fatalf("%v: %s", err, said)
			}
			m.payload(new)
			m.copy("", "/kept")
			for kill := 0; ; kill++ {
				m.orderHolds()
				m.copy("/kept", "")
				m.put("/fake/step", "0")
				m.put("/fake/kill", strconv.Itoa(kill))
				m.put("/fake/security-fails", c.fails)
				_, err := m.script("/pkg/postinstall", "/x.pkg", "/", "/", "/")
				m.put("/fake/security-fails", "")
				done := m.has("/fake/kill") // its turn never came
				must(t, os.RemoveAll(m.root+"/fake/kill"))
				if done {
					if kill < 15 {
						t.Errorf("only %d steps", kill)
					}
					return
				}
				if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
					t.Fatalf("step %d: it was not killed: %v", kill, err)
				}
				committed := !m.has(home + "/previous")
				at := lastLine(m.get("/fake/log"))
				said, err := m.install(c.then)
				want := c.want
				if committed && err != nil { // the first one was done: that is what was before
					want = &new
				}
				if (err == nil) != (want != nil && *want == c.then) {
					t.Errorf("killed at %q: %v: %s", at, err, said)
				}
				if want == nil {
					m.gone()
				} else {
					m.at(*want)
				}
				if t.Failed() {
					t.Fatalf("killed at step %d, %q; then: %s", kill, at, said)
				}
			}
		})
	}
}

// copy makes all that changes below one folder what it is below another.
func (m *mac) copy(from, to string) {
	m.Helper()
	must(m, os.MkdirAll(m.root+to+"/usr", 0o755))
	for _, dir := range []string{"/Library", "/fake", "/usr/local"} {
		must(m, os.RemoveAll(m.root+to+dir))
		if m.has(from + dir) {
			if out, err := exec.Command("cp", "-a", m.root+from+dir, m.root+to+dir).CombinedOutput(); err != nil {
				m.Fatalf("%v: %s", err, out)
			}
		}
	}
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return cmp.Or(lines[len(lines)-1], "nothing")
}

// TestUninstallRefusesToLockOut: what asks for us goes first, or nothing goes.
func TestUninstallRefusesToLockOut(t *testing.T) {
	everyShell(t, func(t *testing.T, m *mac) {
		m.mustInstall(v1)
		m.put("/fake/security-fails", "write")
		said, err := m.script(home + "/uninstall")
		m.says(said, err, "nothing is removed", "When nobody gets in")
		must(t, os.Remove(m.root+"/fake/security-fails"))
		m.at(v1)

		// The program is gone, and the right names the plug-in.
		must(t, os.Remove(m.root+agent))
		said, err = m.script(home + "/uninstall")
		m.says(said, err, "install the package again")
		if !m.has(bundle) {
			t.Error("the plug-in was removed")
		}
		m.mustInstall(v1)

		// So does one right alone: with the plug-in gone nobody could unlock or elevate.
		must(t, os.Remove(m.root+agent))
		for _, right := range []string{authdb.Console, authdb.Authenticate, authdb.Screensaver} {
			was := map[string]string{}
			for _, other := range []string{authdb.Console, authdb.Authenticate, authdb.Screensaver} {
				was[other] = m.get("/fake/rights/" + other)
				m.put("/fake/rights/"+other, "<plist/>")
			}
			m.put("/fake/rights/"+right, "<plist>Sallyport:verify,privileged</plist>")
			said, err = m.script(home + "/uninstall")
			m.says(said, err, "install the package again")
			if !m.has(bundle) {
				t.Fatalf("only %s names the plug-in, and it was removed", right)
			}
			for other, text := range was {
				m.put("/fake/rights/"+other, text)
			}
		}
		m.mustInstall(v1)

		m.put("/fake/sudo-fails", "yes")
		said, err = m.script(home + "/uninstall")
		m.says(said, err, "sudo still names our module")
		if !m.has(module) || m.named() {
			t.Errorf("the module is there: %t; the rights name us: %t", m.has(module), m.named())
		}
		must(t, os.Remove(m.root+"/fake/sudo-fails"))
		said, err = m.script(home+"/uninstall", "--all")
		m.says(said, err, "usage")

		m.put("/fake/launchctl-fails", "bootout")
		said, err = m.script(home + "/uninstall")
		m.says(said, err, "launchd still runs the agent")
		must(t, os.Remove(m.root+"/fake/launchctl-fails"))
		if said, err = m.script(home + "/uninstall"); err != nil {
			t.Errorf("%v: %s", err, said)
		}
		m.gone()
	})
}

// TestUninstallWithAProgramThatDoesNotRun: it can take nothing out of the rights; once
// somebody else has, it is no reason to keep the rest.
func TestUninstallWithAProgramThatDoesNotRun(t *testing.T) {
	everyShell(t, func(t *testing.T, m *mac) {
		rights := []string{authdb.Console, authdb.Authenticate, authdb.Screensaver}
		before := map[string]string{}
		for _, right := range rights {
			before[right] = m.get("/fake/rights/" + right)
		}
		m.mustInstall(v1)
		m.put(agent, "#!/standin agent:v1.0.0:broken\n")
		said, err := m.script(home + "/uninstall")
		m.says(said, err, "does not run", "the rights name the plug-in")
		if !m.has(bundle) {
			t.Error("the plug-in was removed under the rights")
		}
		for _, right := range rights { // security authorizationdb reset
			m.put("/fake/rights/"+right, before[right])
		}
		const sudo = "/etc/pam.d/sudo_local"
		m.put(sudo, "auth required "+module+"\n")
		said, err = m.script(home + "/uninstall")
		m.says(said, err, "does not run", sudo)
		if !m.has(module) {
			t.Error("the module was removed under sudo")
		}
		must(t, os.Remove(m.root+sudo))
		if said, err := m.script(home + "/uninstall"); err != nil {
			t.Errorf("%v: %s", err, said)
		}
		m.gone()
	})
}

// TestUninstallLooksAtTheSameRights: it stands alone, so it has its own copy.
func TestUninstallLooksAtTheSameRights(t *testing.T) {
	var functions []string
	for _, path := range []string{"uninstall", "scripts/paths.sh"} {
		b, err := os.ReadFile(path)
		must(t, err)
		_, f, _ := strings.Cut(string(b), "\nnamed() {\n")
		f, _, found := strings.Cut(f, "\n}\n")
		if functions = append(functions, f); !found || f != functions[0] {
			t.Errorf("%s has another: %s", path, f)
		}
	}
}

// TestUninstallCutShort is done again at any step.
func TestUninstallCutShort(t *testing.T) {
	sandbox.Need(t)
	m := newMac(t, standin(t), "dash")
	for kill := 0; ; kill++ {
		m.mustInstall(v1)
		m.put("/fake/step", "0")
		m.put("/fake/kill", strconv.Itoa(kill))
		_, _ = m.script(home + "/uninstall")
		done := m.has("/fake/kill")
		must(t, os.RemoveAll(m.root+"/fake/kill"))
		if m.has(home + "/uninstall") {
			if said, err := m.script(home + "/uninstall"); err != nil {
				t.Errorf("killed at step %d: %v: %s", kill, err, said)
			}
		}
		if m.gone(); t.Failed() || done {
			if kill < 10 {
				t.Errorf("step %d", kill)
			}
			return
		}
	}
}
