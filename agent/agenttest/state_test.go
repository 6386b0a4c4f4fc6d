//go:build linux

package agenttest

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"sallyport/internal/event"
	"sallyport/internal/testkit/sandbox"
)

// site is an agent with one person of each kind, to be mistreated.
type site struct {
	*agent
	enrolled *account
	phone    phone
	exempt   *account
	plain    *account // neither
}

func newSite(t *testing.T, lines ...string) *site {
	t.Helper()
	s := &site{agent: newAgent(t), exempt: newUser(t), plain: newUser(t)}
	s.configure(append(lines, fmt.Sprintf("[policy.exempt]\nuids = [%d]", s.exempt.uid))...)
	return s
}

// open starts the agent and enrols.
func (s *site) open() *site {
	s.t.Helper()
	s.start()
	s.enrolled, s.phone = s.agent.enrolled()
	s.well()
	return s
}

// well wants everybody treated as policy says.
func (s *site) well() {
	s.t.Helper()
	want(s.t, s.as(s.enrolled, s.phone.wrong(s.t)), deny, "wrong_code")
	want(s.t, s.as(s.exempt), skip, "exempt")
	want(s.t, s.as(s.plain), skip, "not_asked")
	s.wantStatus(0, "")
}

// unwell wants an agent that lives, denies whoever might be enrolled, and says
// why: the word of status for the vault, and the same in the log.
func (s *site) unwell(state string) {
	s.t.Helper()
	want(s.t, s.as(s.enrolled, s.phone.code(s.t, 0)), deny, "vault_unavailable")
	want(s.t, s.as(s.plain), deny, "vault_unavailable")
	want(s.t, s.as(s.exempt), skip, "exempt")
	wantPAM(s.t, s.pam("sshd", s.enrolled, s.phone.code(s.t, 0)), pamAuthErr)
	wantPAM(s.t, s.pam("sshd", s.exempt, ""), 0)
	v := s.wantStatus(1, "vault_unavailable")
	if v.Vault.State == "open" || state != "" && v.Vault.State != state {
		s.t.Errorf("status has the vault %q, want %q: %s", v.Vault.State, state, v.Vault.Detail)
	}
	s.wantLog("reason=vault_unavailable")
	s.wantLog("level=ERROR")
}

// heals waits for the agent to find out, without a restart, that all is well.
func (s *site) heals() {
	s.t.Helper()
	s.eventually("the vault is open again", func() bool {
		return s.as(s.enrolled, s.phone.wrong(s.t)).reason == "wrong_code"
	})
	s.well()
}

func (s *site) db() string { return filepath.Join(s.state, "vault.db") }

// run runs a program of the system.
func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
}

// onDisk gives the site a file system of its own for its state.
func (s *site) onDisk(mib int64) *sandbox.Disk {
	s.t.Helper()
	disk, err := sandbox.NewDisk(s.t.TempDir(), mib)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if s.running() {
			s.stop()
		}
		if err := disk.Close(); err != nil {
			s.t.Error(err)
		}
	})
	s.move(filepath.Join(disk.Dir, "state"))
	return disk
}

// move puts the state somewhere else.
func (s *site) move(state string) {
	s.t.Helper()
	text, err := os.ReadFile(s.config)
	if err != nil {
		s.t.Fatal(err)
	}
	s.replaceConfig(strings.Replace(string(text), s.state, state, 1))
	s.state = state
}

// fill writes a file until there is no room left.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 64<<10); len(block) > 0; {
		if _, err := f.Write(block); errors.Is(err, syscall.ENOSPC) {
			block = block[:len(block)/2]
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func TestFullDiskDenies(t *testing.T) {
	need(t)
	for name, mount := range map[string]func(*site) string{
		"ext4": func(s *site) string { return s.onDisk(8).Dir },
		"tmpfs": func(s *site) string {
			dir := t.TempDir()
			run(t, "mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", dir)
			s.t.Cleanup(func() { run(t, "umount", dir) })
			s.t.Cleanup(func() {
				if s.running() {
					s.stop()
				}
			})
			s.move(filepath.Join(dir, "state"))
			return dir
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			dir := mount(s)
			s.open()
			type person struct {
				u    *account
				code string
			}
			var people []person
			for range 150 {
				u, phone := s.agent.enrolled()
				people = append(people, person{u, phone.recovery[0]}) // good for as long as this takes
			}
			fill(t, filepath.Join(dir, "filler"))
			// Pages that are free in the file take some more logins; each of
			// those that get in must be remembered.
			var in, out []person
			for row := 0; row < 5; {
				if len(people) < 20 {
					t.Fatal("the disk is not full: this test shows nothing")
				}
				p := people[0]
				people = people[1:]
				if got := s.as(p.u, p.code); got.decision == allow {
					in, row = append(in, p), 0
				} else {
					want(t, got, deny, "vault_unavailable")
					out, row = append(out, p), row+1
				}
			}
			// Who is enrolled can still be read: for the others nothing changes.
			want(t, s.as(s.exempt), skip, "exempt")
			want(t, s.as(s.plain), skip, "not_asked")
			wantPAM(t, s.pam("sshd", people[0].u, people[0].code), pamAuthErr)
			if v := s.wantStatus(1, "vault_unavailable"); v.Vault.State != "unwritable" {
				t.Errorf("status has the vault %q", v.Vault.State)
			}
			s.wantLog("no space left on device")
			s.wantLog("free some disk space")
			if err := os.Remove(filepath.Join(dir, "filler")); err != nil {
				t.Fatal(err)
			}
			s.heals()
			for _, p := range in {
				want(t, s.as(p.u, p.code), deny, "wrong_code")
			}
			for _, p := range people[1:] {
				want(t, s.as(p.u, p.code), allow, "")
			}
			// The events of that time were kept in memory, and are there now.
			events := s.events()
			for _, p := range out {
				if n := count(events, event.LoginAttempt, p.u, "vault_unavailable"); n != 1 {
					t.Errorf("%d events of a login that met the full disk", n)
				}
			}
		})
	}
}

// A file system that the kernel made read-only after an error, under a running
// agent.
func TestReadOnlyStateDenies(t *testing.T) {
	need(t)
	s := newSite(t)
	disk := s.onDisk(16)
	s.open()
	// ext4(5): "abort" simulates what ext4 does when it meets an error.
	run(t, "mount", "-o", "remount,abort", disk.Dir)
	s.unwell("unwritable")
	s.wantLog("read-only file system")
	// Only a new mount mends such a file system. It is one of a copy: the agents of
	// other tests that have a mount namespace of their own may hold the old one.
	s.stop()
	mended, err := disk.Cut()
	must(t, err)
	t.Cleanup(func() {
		if s.running() {
			s.stop()
		}
		must(t, mended.Close())
	})
	s.move(filepath.Join(mended.Dir, "state"))
	s.start()
	s.well()
}

// Started on a read-only file system, the agent lives, denies, and recovers
// by itself.
func TestReadOnlyAtTheStartDeniesUntilItIsWritable(t *testing.T) {
	need(t)
	s := newSite(t)
	disk := s.onDisk(16)
	s.open()
	s.stop()
	run(t, "mount", "-o", "remount,ro", disk.Dir)
	s.start()
	s.unwell("unwritable")
	run(t, "mount", "-o", "remount,rw", disk.Dir)
	s.heals()
}

// harm is something that happens to the state directory while the agent is
// stopped, what status then calls the vault, and how to mend it.
var harms = map[string]struct {
	state string
	harm  func(t *testing.T, dir string) // the whole directory is put back afterwards
}{
	"vault missing":            {"missing", remove("vault.db")},
	"vault emptied":            {"emptied", truncate("vault.db", 0)},
	"vault cut short":          {"corrupt", truncate("vault.db", 9000)},
	"vault cut to one page":    {"corrupt", truncate("vault.db", 4096)},
	"vault of zeros":           {"corrupt", zero("vault.db")},
	"key missing":              {"key_missing", remove("keychain/key")},
	"key emptied":              {"key_missing", truncate("keychain/key", 0)},
	"keychain record missing":  {"key_missing", remove("keychain/record.json")},
	"keychain record emptied":  {"corrupt", truncate("keychain/record.json", 0)},
	"keychain missing":         {"key_missing", remove("keychain")},
	"anchor missing":           {"rolled_back", remove("keychain/anchor")},
	"anchor of zeros":          {"corrupt", zero("keychain/anchor")},
	"anchor cut short":         {"corrupt", truncate("keychain/anchor", 100)},
	"state directory emptied":  {"missing", remove("vault.db", "keychain")},
	"state directory gone":     {"missing", remove("")},
	"only the vault is left":   {"key_missing", remove("keychain")},
	"vault is a directory":     {"untrusted", swap("vault.db", func(p string) error { return os.Mkdir(p, 0o700) })},
	"vault is a symbolic link": {"untrusted", swap("vault.db", func(p string) error { return os.Symlink("/etc/passwd", p) })},
	"vault is a device":        {"untrusted", swap("vault.db", func(p string) error { return os.Symlink("/dev/null", p) })},
	"vault is a named pipe":    {"untrusted", swap("vault.db", func(p string) error { return syscall.Mkfifo(p, 0o600) })},
	"vault readable by others": {"untrusted", chmod("vault.db", 0o644)},
	"key readable by others":   {"key_missing", chmod("keychain/key", 0o640)},
	"vault is somebody else's": {"untrusted", chown("vault.db")},
	"key is somebody else's":   {"key_missing", chown("keychain/key")},
	"state directory writable": {"untrusted", chmod("", 0o777)},
	"keychain is a link": {"untrusted", func(t *testing.T, dir string) {
		moved := dir + "-keychain"
		if err := errors.Join(os.Rename(filepath.Join(dir, "keychain"), moved), os.Symlink(moved, filepath.Join(dir, "keychain"))); err != nil {
			t.Fatal(err)
		}
	}},
	"state directory is a link": {"untrusted", swap("", func(p string) error { return os.Symlink("/var", p) })},
	"state directory is a file": {"untrusted", swap("", func(p string) error { return os.WriteFile(p, nil, 0o600) })},
}

func remove(names ...string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		for _, name := range names {
			if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func truncate(name string, size int64) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		if err := os.Truncate(filepath.Join(dir, name), size); err != nil {
			t.Fatal(err)
		}
	}
}

func zero(name string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		path := filepath.Join(dir, name)
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		overwrite(t, path, 0, make([]byte, st.Size()))
	}
}

func swap(name string, put func(string) error) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.RemoveAll(path), put(path)); err != nil {
			t.Fatal(err)
		}
	}
}

func chmod(name string, mode os.FileMode) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
			t.Fatal(err)
		}
	}
}

func chown(name string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		if err := os.Chown(filepath.Join(dir, name), 20000, 100); err != nil {
			t.Fatal(err)
		}
	}
}

func overwrite(t *testing.T, path string, at int64, with []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(with, at); err != nil {
		t.Fatal(err)
	}
}

// A state that cannot be read denies; an empty one does not mean that nobody is
// enrolled (CVE-2019-12209 and its kind).
func TestHarmedStateDeniesAndHeals(t *testing.T) {
	need(t)
	for name, h := range harms {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t).open()
			s.stop()
			backup := s.backup()
			h.harm(t, s.state)
			s.start()
			s.unwell(h.state)
			s.restore(backup)
			s.heals()
		})
	}
}

// backup copies the state directory.
func (s *site) backup() string {
	s.t.Helper()
	to := filepath.Join(s.dir, "backup")
	run(s.t, "rm", "-rf", to)
	run(s.t, "cp", "-a", s.state, to)
	return to
}

// restore puts the copy back in one go: an agent that runs makes a directory that it
// misses, and cp would copy into that.
func (s *site) restore(from string) {
	s.t.Helper()
	run(s.t, "cp", "-a", from, s.state+".new")
	run(s.t, "rm", "-rf", s.state)
	run(s.t, "mv", "-T", s.state+".new", s.state)
}

// What happens to the files under a running agent never lets anyone in, and
// never ends the agent. What it tells is on the disk or is not told.
func TestStateHarmedWhileRunningDenies(t *testing.T) {
	need(t)
	for name, harm := range map[string]func(*testing.T, string){
		"cut short": truncate("vault.db", 9000),
		"emptied":   truncate("vault.db", 0),
		"of zeros":  zero("vault.db"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t).open()
			harm(t, s.state)
			for range 3 {
				// What is in the kernel's cache or the agent's may do for a
				// while, but nobody comes in with a wrong code.
				if r := s.as(s.enrolled, s.phone.wrong(t)); r.err != nil || r.decision != deny {
					t.Fatalf("a wrong code: %s", r)
				}
			}
			s.unwell("")
			if s.log.String() == "" || !s.running() {
				t.Error("the agent ended")
			}
			s.kill()
			s.start()
			s.unwell("")
		})
	}
}

// Files that are gone under a running agent must be missed at the next start.
func TestStateRemovedWhileRunningIsMissedAtTheNextStart(t *testing.T) {
	need(t)
	for name, harm := range map[string]func(*testing.T, string){
		"vault":           remove("vault.db"),
		"state directory": remove(""),
		"keychain":        remove("keychain"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t).open()
			harm(t, s.state)
			if r := s.as(s.enrolled, s.phone.wrong(t)); r.err != nil || r.decision != deny {
				t.Errorf("a wrong code: %s", r)
			}
			s.kill()
			s.start()
			s.unwell("")
			// Only the administrator makes a new vault, on purpose.
			s.cli(nil, "vault", "init", "--yes")
			want(t, s.as(s.enrolled), skip, "not_asked")
			s.phone = s.enrol(s.enrolled)
			s.well()
		})
	}
}

// One damaged byte: in the record of one user it denies that user; anywhere
// else it may or may not matter, but lets nobody in who would not have been.
func TestDamagedByteLetsNobodyIn(t *testing.T) {
	need(t)
	s := newSite(t).open()
	used := s.phone.code(t, 0)
	want(t, s.as(s.enrolled, used), allow, "")
	s.stop()
	intact, err := os.ReadFile(s.db())
	if err != nil {
		t.Fatal(err)
	}
	backup := s.backup()
	random := rand.New(rand.NewPCG(7, 7)) // which byte, not a secret
	var places []int
	for range 25 {
		// Pages that were never written are zeros, and nobody looks at them.
		for {
			if at := random.IntN(len(intact)); intact[at] != 0 {
				places = append(places, at)
				break
			}
		}
	}
	for _, at := range places {
		s.restore(backup)
		overwrite(t, s.db(), int64(at), []byte{intact[at] ^ 0x10})
		s.start()
		if r := s.as(s.enrolled, s.phone.wrong(t)); r.err != nil || r.decision != deny {
			t.Errorf("byte %d: a wrong code: %s", at, r)
		}
		if r := s.as(s.enrolled, used); r.err != nil || r.decision != deny {
			t.Errorf("byte %d: a used code: %s", at, r)
		}
		want(t, s.as(s.exempt), skip, "exempt")
		s.stop()
	}
}

// The record of one user is damaged: that user is denied, and it is said.
func TestDamagedRecordDenies(t *testing.T) {
	need(t)
	s := newSite(t).open()
	s.stop()
	intact, err := os.ReadFile(s.db())
	if err != nil {
		t.Fatal(err)
	}
	backup := s.backup()
	key := []byte(s.enrolled.key())
	found := 0
	for at := 0; ; {
		i := bytes.Index(intact[at:], key)
		if i < 0 {
			break
		}
		at += i + len(key)
		found++
		intact[at+20] ^= 0x10 // in the sealed record that follows its key; old pages have copies
	}
	if found == 0 {
		t.Fatal("the record's key is not in the file: this test shows nothing")
	}
	overwrite(t, s.db(), 0, intact)
	s.start()
	want(t, s.as(s.enrolled, s.phone.code(t, 0)), deny, "vault_unavailable")
	want(t, s.as(s.exempt), skip, "exempt")
	s.wantLog("damaged")
	s.wantStatus(1, "vault_unavailable")
	s.stop()
	s.restore(backup)
	s.start()
	s.well()
}

// An older copy of the vault would give used codes a second life.
func TestRolledBackVaultDenies(t *testing.T) {
	need(t)
	s := newSite(t).open()
	s.stop()
	old, err := os.ReadFile(s.db())
	if err != nil {
		t.Fatal(err)
	}
	s.start()
	code := s.phone.code(t, 0)
	want(t, s.as(s.enrolled, code), allow, "")
	s.stop()
	if err := os.WriteFile(s.db(), old, 0o600); err != nil {
		t.Fatal(err)
	}
	s.start()
	want(t, s.as(s.enrolled, code), deny, "vault_unavailable")
	s.unwell("rolled_back")
	// Whoever restored it on purpose says so, to the running agent.
	s.cli(nil, "vault", "accept", "--yes")
	s.well()
	if n := count(s.events(), "vault_accepted", nil, ""); n != 1 {
		t.Errorf("%d vault_accepted events", n)
	}
	// And the same with no agent running.
	s.stop()
	if err := os.WriteFile(s.db(), old, 0o600); err != nil {
		t.Fatal(err)
	}
	s.command("", "vault", "accept", "--yes")
	s.start()
	s.well()
}

// A vault from another installation, or a whole state directory from another
// computer, knows other people.
func TestCopiedVaultDenies(t *testing.T) {
	need(t)
	t.Run("vault of another installation", func(t *testing.T) {
		t.Parallel()
		other := startAgent(t)
		other.stop()
		s := newSite(t).open()
		s.stop()
		backup := s.backup()
		run(t, "cp", "-a", filepath.Join(other.state, "vault.db"), s.db())
		s.start()
		s.unwell("copied")
		s.restore(backup)
		s.heals()
	})
	t.Run("state directory of another computer", func(t *testing.T) {
		t.Parallel()
		s := newSite(t)
		id := filepath.Join(s.dir, "machine-id")
		if err := os.WriteFile(id, []byte("0123456789abcdef0123456789abcdef\n"), 0o444); err != nil {
			t.Fatal(err)
		}
		s.open()
		s.stop()
		// A mount namespace of its own makes it another computer.
		s.wrapper = []string{"unshare", "--mount", "--propagation", "private", "sh", "-euc",
			`mount --bind "$0" /etc/machine-id; exec "$@"`, id}
		s.start()
		s.unwell("copied")
		s.cli(nil, "vault", "accept", "--yes")
		s.well()
		s.stop()
		s.wrapper = nil
		s.start() // now it is the old computer that has no business with it
		s.unwell("copied")
	})
}

// The state directory of a first start is made; nothing is lost by it.
func TestFirstStartChoosesTheKeyFile(t *testing.T) {
	need(t)
	a := startAgent(t, `tpm_device = "/nonexistent"`)
	if v := a.wantStatus(0, ""); v.Keychain != "file" || v.Vault.State != "open" {
		t.Errorf("first start: %+v", v)
	}
	for path, mode := range map[string]os.FileMode{"": 0o700, "vault.db": 0o600, "keychain": 0o700, "keychain/key": 0o600} {
		st, err := os.Stat(filepath.Join(a.state, path))
		if err != nil {
			t.Fatal(err)
		}
		if st.Mode().Perm() != mode {
			t.Errorf("%s has mode %o, want %o", path, st.Mode().Perm(), mode)
		}
	}
	// The keychain that was chosen is not replaced by another one.
	u, phone := a.enrolled()
	a.stop()
	a.configure(`keychain = "tpm"`, `tpm_device = "/nonexistent"`)
	a.start()
	want(t, a.as(u, phone.code(t, 0)), deny, "vault_unavailable")
	a.wantStatus(1, "vault_unavailable")
	a.stop()
	a.configure()
	a.start()
	want(t, a.as(u, phone.code(t, 0)), allow, "")
}

// keys lists the key files, with a digest of each: never the key itself.
func (s *site) keys() (list []string) {
	s.t.Helper()
	paths, err := filepath.Glob(filepath.Join(s.state, "keychain", "key*"))
	if err != nil || len(paths) == 0 {
		s.t.Fatalf("no key file: %v", err)
	}
	for _, path := range paths {
		key, err := os.ReadFile(path)
		if err != nil {
			s.t.Fatal(err)
		}
		list = append(list, fmt.Sprintf("%s %x", filepath.Base(path), sha256.Sum256(key)))
	}
	return list
}

func TestVaultRekeyAndInit(t *testing.T) {
	need(t)
	s := newSite(t).open()
	before := s.keys()
	code := s.phone.code(t, 0)
	want(t, s.as(s.enrolled, code), allow, "")
	s.cli(nil, "vault", "rekey", "--to", "file", "--yes")
	after := s.keys()
	if len(after) != 1 || after[0] == before[0] {
		t.Errorf("before the rekey the key was in %q, now there is %q", before, after)
	}
	want(t, s.as(s.enrolled, code), deny, "code_already_used")
	s.kill()
	s.start()
	want(t, s.as(s.enrolled, code), deny, "code_already_used")
	want(t, s.as(s.enrolled, s.phone.code(t, 1)), allow, "")
	// A keychain that is not there is refused, and the old one stays.
	if got := s.command("", "vault", "rekey", "--to", "systemd-credential", "--yes"); got.exit == 0 {
		t.Errorf("a rekey to nowhere: %+v", got)
	}
	want(t, s.as(s.enrolled, s.phone.code(t, 2)), allow, "")
	s.wantStatus(0, "")

	s.cli(nil, "vault", "init", "--yes")
	want(t, s.as(s.enrolled), skip, "not_asked")
	if old, err := filepath.Glob(filepath.Join(s.state, "old-*")); err != nil || len(old) != 1 {
		t.Errorf("the old vault was not moved aside: %q %v", old, err)
	}
	s.restart()
	want(t, s.as(s.enrolled), skip, "not_asked")
	s.wantStatus(0, "")
}

// Two agents on one state would each accept a code once.
func TestTwoAgentsCannotShareAState(t *testing.T) {
	need(t)
	s := newSite(t).open()
	second := newAgent(t)
	second.state = s.state
	second.configure(fmt.Sprintf("[policy.exempt]\nuids = [%d]", s.exempt.uid))
	second.start()
	want(t, second.as(s.enrolled, s.phone.code(t, 0)), deny, "vault_unavailable")
	second.wantLog("another agent")
	if v := second.wantStatus(1, "vault_unavailable"); v.Vault.State != "busy" {
		t.Errorf("the second agent calls the vault %q", v.Vault.State)
	}
	code := s.phone.code(t, 0)
	want(t, s.as(s.enrolled, code), allow, "") // the first is not disturbed
	s.stop()
	second.eventually("the second takes over", func() bool { return second.vaultState() == "open" })
	want(t, second.as(s.enrolled, code), deny, "code_already_used")
}

// A second agent with the same sockets does not start, and disturbs nobody.
func TestSecondAgentOnTheSameSocketsIsRefused(t *testing.T) {
	need(t)
	a := startAgent(t)
	u, phone := a.enrolled()
	second := newAgent(t)
	second.run = a.run
	second.configure()
	err := second.tryStart()
	if err == nil || !strings.Contains(err.Error(), "another agent listens") {
		t.Errorf("a second agent: %v", err)
	}
	want(t, a.as(u, phone.code(t, 0)), allow, "")
	// Not even one on the same state.
	second.state = a.state
	second.configure()
	if err := second.tryStart(); err == nil {
		t.Error("a second agent with the same configuration started")
	}
	a.wantStatus(0, "")
}
