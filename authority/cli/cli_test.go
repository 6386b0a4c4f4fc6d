package cli

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"sallyport/authority/config"
	"sallyport/authority/eventsout"
	"sallyport/authority/server"
	"sallyport/authority/store"
	"sallyport/internal/clock"
	"sallyport/internal/factor/push"
	"sallyport/internal/organisation"
	authorityv1 "sallyport/proto/sallyport/authority/v1"
)

func TestTheFirstHour(t *testing.T) {
	s := newShell(t)
	origin := s.init()
	s.fails(ExitNotRunning, "", "status")
	authority := s.serve()
	out := s.ok("status")
	for _, want := range []string{"sallyport-authority 1.2.3 of Example Works: healthy", "0 joined, 0 connected", origin, "whoever owns it can enrol a phone for anybody", "trusted for what it shows"} {
		if !strings.Contains(out, want) {
			t.Errorf("status: no %q in:\n%s", want, out)
		}
	}

	// Of the key that only offline computers need the server goes on without.
	escrow := filepath.Join(s.dir, "state", "keys", "escrow.key")
	ok(t, os.Rename(escrow, escrow+".away"))
	s.fails(ExitFailed, "", "status")
	if _, out, _ := s.run("status"); !strings.Contains(out, "no offline bypass can be given by this node: "+escrow) || !strings.Contains(out, "put the right escrow.key (mode 0600) into ") {
		t.Errorf("status: %s", out)
	}
	ok(t, os.Rename(escrow+".away", escrow))
	s.ok("status")

	if out := s.ok("user", "add", "maya"); !strings.Contains(out, "token create --user maya") {
		t.Errorf("what next? %s", out)
	}
	s.fails(ExitConflict, "maya is there already", "user", "add", "maya")
	s.fails(ExitNotFound, `no user "noah"`, "token", "create", "--user", "noah")
	s.fails(ExitUsage, "say whose computer it is", "token", "create")

	out = s.ok("token", "create", "--user", "maya", "--for", "2h")
	token, _, _ := strings.Cut(out, "\n")
	if !strings.Contains(out, "sudo sallyport join https://"+authority.Devices.String()+"\n") || strings.Count(out, token) != 1 {
		t.Errorf("the token is there once, and never part of a command: %s", out)
	}
	laptop, err := join(t, authority.Devices, token)
	ok(t, err)
	// HAZARD: a stolen enrolment token.
	if _, err := join(t, authority.Devices, token); status.Code(err) != codes.Unauthenticated {
		t.Errorf("the token was good twice: %v", err)
	}
	if w := laptop.connect(); !slices.Equal(w.Users, []string{"maya"}) {
		t.Errorf("welcome: %v", w)
	}
	var tokens struct {
		Tokens []struct{ State, Device string }
	}
	s.json(&tokens, "token", "list")
	if len(tokens.Tokens) != 1 || tokens.Tokens[0].State != "used" || tokens.Tokens[0].Device != laptop.id {
		t.Errorf("tokens: %+v", tokens)
	}

	// A command is heard by the running server at once.
	s.ok("user", "add", "noah")
	if out := s.ok("device", "allow", "laptop-17", "noah"); !strings.Contains(out, "Allowed there: maya, noah.") {
		t.Errorf("allow: %s", out)
	}
	// By name or by id, in whatever case.
	if out := s.ok("device", "disallow", strings.ToLower(laptop.id), "noah"); !strings.Contains(out, "Allowed there: maya.") {
		t.Errorf("disallow: %s", out)
	}
	if out := s.ok("device", "list"); !strings.Contains(out, "laptop-17  "+laptop.id+"  online  maya   linux/amd64") {
		t.Errorf("devices:\n%s", out)
	}
	s.fails(ExitNotFound, `no device "laptop-18"`, "device", "show", "laptop-18")
	if out := s.ok("device", "show", "laptop-17"); !strings.Contains(out, "laptop-17 ("+laptop.id+"): online") {
		t.Errorf("device: %s", out)
	}
	out = s.ok("events")
	for _, want := range []string{"settings_changed", "user_added", "token_created", "device_joined", "token_refused", "user_allowed"} {
		if !strings.Contains(out, want) {
			t.Errorf("events: no %s in:\n%s", want, out)
		}
	}
	// The end is said to the computers.
	if exit := authority.stop(); exit != ExitOK {
		t.Errorf("stop: %d", exit)
	}
	if bye := laptop.await("goodbye", func(m *authorityv1.AuthorityMessage) bool { return m.GetGoodbye() != nil }).GetGoodbye(); bye.Reason != "stopping" {
		t.Errorf("goodbye: %v", bye)
	}
	// HAZARD: secrets in the log.
	if strings.Contains(authority.log.String(), strings.TrimPrefix(token, "sallyport1.")[:20]) {
		t.Error("the log holds the token")
	}
}

// HAZARD: an authority over another would shut out every computer.
func TestInitReplacesNothing(t *testing.T) {
	s := newShell(t)
	s.init()
	state := filepath.Join(s.dir, "state")
	before := read(t, filepath.Join(state, "keys", "ca.crt"))
	again := []string{"init", "--name", "x", "--origin", "http://localhost:1", "--state-dir", state}
	s.fails(ExitConflict, "never made over another", again...)
	// Also when only a part of it is there.
	config := read(t, s.config)
	ok(t, os.Remove(s.config))
	s.fails(ExitFailed, "is there already", again...)
	ok(t, os.Remove(filepath.Join(state, "authority.db")))
	s.fails(ExitFailed, "is there already", again...)
	if !bytes.Equal(before, read(t, filepath.Join(state, "keys", "ca.crt"))) {
		t.Error("the keys were replaced")
	}
	if _, err := os.Stat(s.config); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a configuration without an authority stays")
	}
	// And what lost its database says so, instead of beginning anew with nobody in it.
	ok(t, os.WriteFile(s.config, config, 0o600))
	s.fails(ExitNotFound, "there is no database", "status")
	s.fails(ExitNotFound, "there is no database", "run")
}

func TestAnInitThatFailsLeavesNothing(t *testing.T) {
	s := newShell(t)
	state := filepath.Join(s.dir, "state")
	for _, bad := range [][]string{
		{"--origin", "https://10.0.0.1", "--tls", "acme"},
		{"--origin", "http://approve.example.com", "--tls", "acme"},
		{"--origin", "https://approve.example.com"},
		{"--origin", "https://approve.example.com", "--tls", "self-signed"},
		{"--origin", "https://approve.example.com", "--tls", "acme", "--rp-id", "example.org"},
		{"--origin", "https://approve.example.com", "--tls", "acme", "--owner", "nobody-of-that-name"},
	} {
		s.fails(ExitUsage, "", append([]string{"init", "--name", "x", "--state-dir", state}, bad...)...)
	}
	s.fails(ExitNotFound, "database_url_file", "init", "--name", "x", "--origin", "http://localhost:1", "--state-dir", state, "--database-url-file", filepath.Join(s.dir, "gone"))
	if _, err := os.Stat(s.config); !errors.Is(err, fs.ErrNotExist) {
		t.Error("there is a configuration")
	}
	if _, err := os.Stat(filepath.Join(state, "keys")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("there are keys")
	}
	s.init() // and a good one is not in the way of what failed
}

func TestTheOrganisationKeyElsewhere(t *testing.T) {
	s := newShell(t)
	key := filepath.Join(s.dir, "stick", "organisation.key")
	ok(t, os.Mkdir(filepath.Dir(key), 0o700))
	s.init("--organisation-key", key)
	if _, err := os.Stat(filepath.Join(s.dir, "state", "keys", "organisation.key")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the key lies on the authority as well")
	}
	authority := s.serve()
	if out := s.ok("status"); !strings.Contains(out, "cannot enrol phones by itself") {
		t.Errorf("status:\n%s", out)
	}
	s.ok("user", "add", "maya")
	var token struct{ Token string }
	s.json(&token, "token", "create", "--user", "maya")
	laptop, err := join(t, authority.Devices, token.Token)
	ok(t, err)
	if laptop.connect().HoldsOrganisationKey {
		t.Error("the computer is told that the key lies on the authority")
	}

	policy := filepath.Join(s.dir, "policy.toml")
	ok(t, os.WriteFile(policy, []byte("ask = \"required\"\n"), 0o600))
	if out := s.ok("policy", "set", policy); !strings.Contains(out, "Not in force yet") || !strings.Contains(out, "manifest sign --key") {
		t.Errorf("policy set: %s", out)
	}
	if exit, out, _ := s.run("status"); exit != ExitFailed || !strings.Contains(out, "1 item waits for the organisation's key") {
		t.Errorf("status: exit %d\n%s", exit, out)
	}
	pending := filepath.Join(s.dir, "pending.json")
	ok(t, os.WriteFile(pending, []byte(s.ok("manifest", "pending")), 0o600))

	// Whoever signs sees what, and is asked.
	s.fails(ExitUsage, "say --yes", "manifest", "sign", "--key", key, pending)
	s.tty, s.stdin = true, "n\n"
	s.fails(ExitFailed, "nothing was changed", "manifest", "sign", "--key", key, pending)
	s.stdin = "y\n"
	exit, signed, shown := s.run("manifest", "sign", "--key", key, pending)
	if exit != ExitOK || !strings.Contains(shown, `policy version 1`) || !strings.Contains(shown, `required`) {
		t.Fatalf("sign: exit %d, shows %s", exit, shown)
	}
	s.tty = false
	file := filepath.Join(s.dir, "signed.json")

	// HAZARD: the authority plants a policy.
	forged := strings.Replace(signed, `"version": 1`, `"version": 2`, 1)
	if forged == signed {
		t.Fatal("the test forges nothing")
	}
	ok(t, os.WriteFile(file, []byte(forged), 0o600))
	s.fails(ExitUsage, "not signed by the organisation's key", "manifest", "import", file)
	ok(t, os.WriteFile(file, []byte(signed), 0o600))
	if out := s.ok("manifest", "import", file); !strings.Contains(out, "1 item is in force") {
		t.Errorf("import: %s", out)
	}
	var rules struct{ Ask string }
	ok(t, json.Unmarshal(laptop.item(organisation.KindPolicy, "", 1).Payload, &rules))
	if rules.Ask != "required" {
		t.Errorf("the computer has %+v", rules)
	}
	s.ok("status")
}

// HAZARD: a code that is kept anywhere but on the computer it is for.
func TestCodesAreSealedToTheComputerAndShownOnce(t *testing.T) {
	s := newShell(t)
	s.init()
	authority := s.serve()
	s.ok("user", "add", "maya")
	s.fails(ExitUsage, "maya is allowed on 0 devices", "user", "totp", "maya")
	var token struct{ Token string }
	s.json(&token, "token", "create", "--user", "maya")
	laptop, err := join(t, authority.Devices, token.Token)
	ok(t, err)
	laptop.connect()

	var issued struct {
		URI    string `json:"otpauth_uri"`
		Codes  []string
		Device string
	}
	var canaries []string
	s.json(&issued, "user", "totp", "maya")
	var totp organisation.TOTP
	ok(t, laptop.item(organisation.KindTOTP, "maya", 1).Unseal(laptop.sealing, &totp))
	if totp.URI != issued.URI || issued.Device != laptop.id {
		t.Errorf("the computer has %q, the person %q", totp.URI, issued.URI)
	}
	_, secret, _ := strings.Cut(issued.URI, "secret=")
	canaries = append(canaries, secret[:16])

	s.json(&issued, "user", "recovery", "maya", "--on", "laptop-17")
	var codes organisation.Codes
	ok(t, laptop.item(organisation.KindRecovery, "maya", 1).Unseal(laptop.sealing, &codes))
	if len(codes.Codes) != 10 || !slices.Equal(codes.Codes, issued.Codes) {
		t.Errorf("recovery: %q, %q", codes.Codes, issued.Codes)
	}
	canaries = append(canaries, codes.Codes...)

	s.fails(ExitUsage, "needs a reason", "user", "bypass", "maya")
	s.json(&issued, "user", "bypass", "maya", "--for", "30m", "--reason", "lost phone")
	var bypass organisation.Bypass
	ok(t, laptop.item(organisation.KindBypass, "maya", 1).Unseal(laptop.sealing, &bypass))
	if len(issued.Codes) != 1 || bypass.Code != issued.Codes[0] || bypass.Reason != "lost phone" || time.Until(time.Unix(bypass.Expires, 0)) > 30*time.Minute {
		t.Errorf("bypass: %+v, %q", bypass, issued.Codes)
	}
	canaries = append(canaries, bypass.Code, strings.TrimPrefix(token.Token, "sallyport1."))

	if exit := authority.stop(); exit != ExitOK {
		t.Errorf("stop: %d", exit)
	}
	everything := authority.log.String() + s.ok("events", "--json")
	ok(t, filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			everything += string(read(t, path))
		}
		return err
	}))
	for _, c := range canaries {
		if strings.Contains(everything, c) {
			t.Errorf("%.4s... stands in the database, the events or the log", c)
		}
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	ok(t, err)
	return b
}

// HAZARD: a computer sends what a terminal obeys.
func TestEventsOfAComputerAreCleanOnATerminal(t *testing.T) {
	s := newShell(t)
	s.init()
	authority := s.serve()
	s.ok("user", "add", "maya")
	var token struct{ Token string }
	s.json(&token, "token", "create", "--any-user")
	laptop, err := join(t, authority.Devices, token.Token)
	ok(t, err)
	event, _ := json.Marshal(map[string]any{"seq": 1, "time": time.Now(), "event": "login_attempt", "user": "ma\x1b[2Jya", "verdict": "de\u202eny", "text": "a\nb\x07"})
	_, err = laptop.client.UploadEvents(t.Context(), &authorityv1.UploadEventsRequest{VaultId: "v1", Events: [][]byte{event}})
	ok(t, err)
	s.tty, s.env = true, map[string]string{"NO_COLOR": "1"}
	out := s.ok("events", "--device", "laptop-17")
	if !strings.Contains(out, "login_attempt") || strings.ContainsAny(out, "\x1b\x07\u202e") || strings.Count(out, "\n") != 1 {
		t.Errorf("events: %q", out)
	}
	var line eventsout.Record
	s.json(&line, "events", "--device", laptop.id, "-n", "1")
	if line.Device != laptop.id || line.Name != "laptop-17" || !bytes.Contains(line.Event, []byte("login_attempt")) {
		t.Errorf("events --json: %+v", line)
	}
}

func TestABackupIsWholeAndPrivate(t *testing.T) {
	s := newShell(t)
	s.init()
	s.serve()
	s.ok("user", "add", "maya")
	if os.Getuid() == 0 { // the server is not root
		ok(t, os.Chown(filepath.Join(s.dir, "state/authority.db"), 65534, 65534))
	}
	path := filepath.Join(s.dir, "backup.tar")
	s.ok("backup", path)
	s.fails(ExitConflict, "exists", "backup", path)
	st, err := os.Stat(path)
	ok(t, err)
	if st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", st.Mode())
	}
	// Restored elsewhere, it is the same authority.
	to := t.TempDir()
	var names []string
	restored := s.restore(path, to, func(h *tar.Header) {
		names = append(names, strings.TrimPrefix("/"+h.Name, s.dir))
		if strings.HasSuffix(h.Name, "-wal") || strings.HasSuffix(h.Name, "-shm") {
			return
		}
		// As the server has it, also when root made the backup.
		is, err := os.Stat("/" + h.Name)
		ok(t, err)
		if owner := is.Sys().(*syscall.Stat_t); h.Uid != int(owner.Uid) || h.Gid != int(owner.Gid) || h.FileInfo().Mode() != is.Mode() {
			t.Errorf("%s is of %d:%d, %v, and in the backup of %d:%d, %v", h.Name, owner.Uid, owner.Gid, is.Mode(), h.Uid, h.Gid, h.FileInfo().Mode())
		}
	})
	for _, dir := range []string{"/state/", "/state/keys/"} {
		if !slices.Contains(names, dir) {
			t.Errorf("the backup does not say whose %s is: %q", dir, names)
		}
	}
	if out := restored.ok("user", "list"); !strings.Contains(out, "maya") {
		t.Errorf("restored: %s", out)
	}
	if !bytes.Equal(read(t, filepath.Join(to, "state/keys/ca.key")), read(t, filepath.Join(s.dir, "state/keys/ca.key"))) {
		t.Error("the keys are others")
	}
}

// restore unpacks a backup below another directory.
func (s *shell) restore(path, to string, each func(*tar.Header)) *shell {
	t := s.t
	t.Helper()
	for r := tar.NewReader(bytes.NewReader(read(t, path))); ; {
		h, err := r.Next()
		if err == io.EOF {
			return &shell{t: t, dir: to, config: filepath.Join(to, "etc", "authority.toml")}
		}
		ok(t, err)
		if filepath.IsAbs(h.Name) || strings.Contains(h.Name, "..") {
			t.Errorf("the backup names %q", h.Name)
		}
		each(h)
		if h.Typeflag == tar.TypeDir {
			continue
		}
		b, err := io.ReadAll(r)
		ok(t, err)
		name := filepath.Join(to, strings.TrimPrefix("/"+h.Name, s.dir))
		ok(t, os.MkdirAll(filepath.Dir(name), 0o700))
		b = bytes.ReplaceAll(b, []byte(`state_dir = "`+s.dir), []byte(`state_dir = "`+to))
		ok(t, os.WriteFile(name, b, h.FileInfo().Mode()))
	}
}

// TestABackupIsRestoredOverWhatACrashLeft: SQLite's log of the one that crashed
// must not be played into it.
func TestABackupIsRestoredOverWhatACrashLeft(t *testing.T) {
	s := newShell(t)
	s.init()
	s.serve()
	s.ok("user", "add", "maya")
	path := filepath.Join(s.dir, "backup.tar")
	s.ok("backup", path)
	for i := range 8 {
		s.ok("user", "add", fmt.Sprint("later", i))
	}
	to := t.TempDir()
	ok(t, os.MkdirAll(filepath.Join(to, "state"), 0o700))
	for _, name := range []string{"state/authority.db", "state/authority.db-wal", "state/authority.db-shm"} {
		b := read(t, filepath.Join(s.dir, name))
		if len(b) == 0 {
			t.Fatalf("%s is empty: nothing would be left", name)
		}
		ok(t, os.WriteFile(filepath.Join(to, name), b, 0o600))
	}
	restored := s.restore(path, to, func(*tar.Header) {})
	restored.ok("user", "add", "new")
	restored.ok("backup", filepath.Join(to, "second.tar")) // it reads the whole database
	if out := restored.ok("user", "list"); !strings.Contains(out, "maya") || !strings.Contains(out, "new") || strings.Contains(out, "later") {
		t.Errorf("restored: %s", out)
	}
}

func TestThePageForAnotherServer(t *testing.T) {
	s := newShell(t)
	s.ok("init", "--name", "Example", "--origin", "https://pages.example.com", "--api", "https://authority.example.com", "--rp-id", "example.com", "--tls", "acme", "--state-dir", filepath.Join(s.dir, "state"))
	dir := filepath.Join(s.dir, "page")
	out := s.ok("approver", "export", dir)
	if !strings.Contains(out, "Content-Security-Policy: ") || !strings.Contains(out, "https://authority.example.com") || strings.Contains(out, "Note:") {
		t.Errorf("export: %s", out)
	}
	if c := read(t, filepath.Join(dir, "config.json")); !bytes.Contains(c, []byte(`"https://authority.example.com"`)) {
		t.Errorf("config.json: %s", c)
	}
	var v statusView
	exit, text, _ := s.run("status", "--json")
	ok(t, json.Unmarshal([]byte(text), &v))
	if exit != ExitNotRunning || !v.PageSeparate || v.RPID != "example.com" || v.DevicesURL != "https://authority.example.com:7443" {
		t.Errorf("status: exit %d %+v", exit, v)
	}
}

func TestBadUsage(t *testing.T) {
	s := newShell(t)
	s.fails(ExitNotFound, "make one with 'sallyport-authority init'", "status")
	s.init()
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"frobnicate"}, "unknown command"},
		{[]string{"user"}, "say which: add, list"},
		{[]string{"user", "frobnicate"}, `there is no "frobnicate"`},
		{[]string{"user", "add"}, "usage: sallyport-authority user add USER"},
		{[]string{"user", "add", "a\nb"}, "cannot be shown"},
		{[]string{"user", "add", "*"}, "asterisk"},
		{[]string{"user", "add", strings.Repeat("x", 321)}, "1 to 320 bytes"},
		{[]string{"token", "create", "--any-user", "--user", "x"}, "not both"},
		{[]string{"token", "create", "--any-user", "--for", "1000h"}, "a minute to 30 days"},
		{[]string{"events", "-n", "0"}, "1 to 10000"},
		{[]string{"manifest", "sign", "x"}, "--key FILE"},
		{[]string{"--frobnicate"}, "unknown flag"},
	} {
		s.fails(ExitUsage, c.says, c.args...)
	}
	// A script reads the same as JSON.
	_, _, errs := s.run("user", "add", "*", "--json")
	var e struct {
		Error struct{ Code, Message string }
	}
	if err := json.Unmarshal([]byte(errs), &e); err != nil || e.Error.Code != "bad_usage" || e.Error.Message == "" {
		t.Errorf("%v: %s", err, errs)
	}
	// Without a terminal nothing that removes is asked for, and a refusal is no change.
	s.ok("user", "add", "maya")
	s.tty, s.stdin = true, "\n"
	s.fails(ExitFailed, "nothing was changed", "user", "remove", "maya")
	s.tty = false
	s.ok("user", "remove", "maya")
	s.fails(ExitNotFound, `no user "maya"`, "user", "remove", "maya")
	s.fails(ExitNotFound, `no user "maya"`, "user", "clear", "maya")
}

// The helpdesk sees on this side, too, why no phone rings.
func TestUserPhonesSaysWherePushIsOff(t *testing.T) {
	s := newShell(t)
	s.init()
	authority := s.serve()
	s.ok("user", "add", "maya")
	var token struct{ Token string }
	s.json(&token, "token", "create", "--user", "maya")
	laptop, err := join(t, authority.Devices, token.Token)
	ok(t, err)
	state := func(p push.State) {
		l, err := config.Load(s.config)
		ok(t, err)
		au, err := server.Open(t.Context(), l.Config, "test", slog.New(slog.DiscardHandler))
		ok(t, err)
		ok(t, au.Store.Update(t.Context(), func(tx store.Tx) error { return tx.PutPushState("maya", laptop.id, p) }))
		ok(t, au.Close())
	}
	var v struct {
		Off []offView `json:"push_off"`
	}
	state(push.State{Reported: true})
	if out := s.ok("user", "phones", "maya"); !strings.Contains(out, "Push is off here for maya on laptop-17 (reported). To allow it again: sallyport-authority user clear maya\n") {
		t.Errorf("reported: %s", out)
	}
	s.ok("user", "clear", "maya")
	if s.json(&v, "user", "phones", "maya"); v.Off == nil || len(v.Off) != 0 {
		t.Errorf("cleared: %+v", v)
	}
	state(push.State{Paused: clock.Instant{Wall: time.Now()}.In(time.Hour)})
	if s.json(&v, "user", "phones", "maya"); len(v.Off) != 1 || v.Off[0] != (offView{laptop.id, "laptop-17", "paused"}) {
		t.Errorf("paused: %+v", v)
	}
}

// A terminal's lines are broken between words; what reads a pipe gets them whole.
func TestStatusFitsTheTerminal(t *testing.T) {
	s := newShell(t)
	s.init()
	deps := s.deps(new(buffer), io.Discard)
	out := new(buffer)
	deps.Stdout, deps.IsTTY, deps.Width = out, func(any) bool { return true }, func(any) int { return 80 }
	deps.Getenv = func(k string) string { return map[string]string{"NO_COLOR": "1"}[k] }
	Main(t.Context(), []string{"status", "--config", s.config}, deps)
	for l := range strings.Lines(out.String()) {
		if n := utf8.RuneCountInString(strings.TrimRight(l, "\n")); n > 80 {
			t.Errorf("%d columns: %s", n, l)
		}
	}
	if !strings.Contains(out.String(), "\n             ") {
		t.Errorf("nothing was broken:\n%s", out)
	}
}

func TestColoursAndCodesAreForTerminals(t *testing.T) {
	s := newShell(t)
	s.init()
	s.ok("user", "add", "maya")
	if out := s.ok("user", "enrol", "maya"); strings.Contains(out, "█") || !strings.Contains(out, "#e=") {
		t.Errorf("in a pipe:\n%s", out)
	}
	s.tty = true
	if out := s.ok("user", "enrol", "maya"); !strings.Contains(out, "\x1b[97;40m") || !strings.Contains(out, "█") {
		t.Errorf("on a terminal:\n%s", out)
	}
	s.env = map[string]string{"NO_COLOR": "1"}
	if out := s.ok("user", "enrol", "maya"); strings.Contains(out, "\x1b") || !strings.Contains(out, "█") {
		t.Errorf("with NO_COLOR:\n%s", out)
	}
	for _, sh := range []string{"bash", "zsh", "fish"} {
		if out := s.ok("completion", sh); !strings.Contains(out, "sallyport-authority") {
			t.Errorf("completion %s: %s", sh, out)
		}
	}
}

func TestManualPages(t *testing.T) {
	s := newShell(t)
	dir := filepath.Join(s.dir, "man1")
	if out := s.ok("man", dir); !strings.Contains(out, "pages in "+dir) {
		t.Errorf("%s", out)
	}
	page := string(read(t, filepath.Join(dir, "sallyport-authority-user-enrol.1")))
	for _, want := range []string{".SH EXIT STATUS", "the database cannot be reached", `\-\-for`} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q:\n%s", want, page)
		}
	}
	s.fails(ExitUsage, "man DIR", "man")
	s.fails(ExitFailed, "not a directory", "man", filepath.Join(dir, "sallyport-authority.1", "x"))
}

func TestConfigCheckAndShow(t *testing.T) {
	s := newShell(t)
	s.init()
	if out := s.ok("config", "check"); !strings.Contains(out, "ok") {
		t.Errorf("check: %s", out)
	}
	if out := s.ok("config", "show"); !strings.Contains(out, "limits.gap = '1m0s'") || !strings.Contains(out, "# default") || !strings.Contains(out, "authority.toml:") {
		t.Errorf("show: %s", out)
	}
	files := filepath.Join(s.dir, "files.toml")
	ok(t, os.WriteFile(files, bytes.Replace(read(t, s.config), []byte("mode = \"none\""), []byte("mode = 'files'\ncert = '/nope.pem'\nkey = '/nope.key'"), 1), 0o600))
	s.fails(ExitFailed, "tls.cert, tls.key: open /nope.pem", "config", "check", files)
	bad := filepath.Join(s.dir, "bad.toml")
	ok(t, os.WriteFile(bad, append([]byte("frobnicate = 1\n"), read(t, s.config)...), 0o600))
	s.fails(ExitFailed, `line 1: unknown key "frobnicate"`, "config", "check", bad)
}

func TestEventsAreFollowed(t *testing.T) {
	s := newShell(t)
	s.init()
	out := new(buffer)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	go func() {
		ended <- Main(ctx, []string{"events", "--follow", "--config", s.config}, s.deps(out, io.Discard))
	}()
	s.ok("user", "add", "maya")
	deadline := time.After(time.Minute)
	for !strings.Contains(out.String(), "user_added") {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-deadline:
			t.Fatalf("never shown:\n%s", out)
		}
	}
	cancel()
	if exit := <-ended; exit != ExitOK {
		t.Errorf("exit %d", exit)
	}
}
