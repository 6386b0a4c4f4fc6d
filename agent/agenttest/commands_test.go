//go:build linux

package agenttest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base32"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/internal/event"
	loginv1 "sallyport/proto/sallyport/login/v1"
)

// follower is a running `sallyport events --follow`.
type follower struct {
	t      *testing.T
	events chan event.Event
	done   chan error
	last   uint64 // number of the event that want returned last
}

func (a *agent) follow(ctx context.Context, args ...string) *follower {
	a.t.Helper()
	cmd := exec.CommandContext(ctx, a.program, append([]string{"events", "--follow", "--json", "--config", a.config}, args...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		a.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		a.t.Fatal(err)
	}
	f := &follower{t: a.t, events: make(chan event.Event, 1000), done: make(chan error, 1)}
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			var e event.Event
			if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
				a.t.Errorf("events --json: %v in %q", err, lines.Text())
			}
			f.events <- e
		}
		f.done <- cmd.Wait()
	}()
	return f
}

// want waits for an event of that name.
func (f *follower) want(name event.Name) event.Event {
	f.t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case e := <-f.events:
			if e.Name == name {
				f.last = e.Seq
				return e
			}
		case <-timeout:
			f.t.Fatalf("no event %s came", name)
		}
	}
}

func TestEnrolmentIsConfirmedByACode(t *testing.T) {
	need(t)
	a := startAgent(t)
	u := newUser(t)
	cmd := exec.Command(a.program, "enroll", u.name, "--config", a.config)
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	lines := bufio.NewScanner(out)
	var p phone
	for p.secret == "" && lines.Scan() {
		if strings.HasPrefix(lines.Text(), "otpauth://") {
			p.secret = secretOf(t, lines.Text())
		}
	}
	if p.secret == "" {
		t.Fatal("no otpauth URI was shown")
	}
	want(t, a.as(u), skip, "not_asked") // not in force yet
	code := p.code(t, 0)
	_, err = io.WriteString(in, p.wrong(t)+"\n"+code+"\n")
	must(t, err)
	var rest strings.Builder
	for lines.Scan() {
		rest.WriteString(lines.Text() + "\n")
	}
	must(t, cmd.Wait())
	if !strings.Contains(rest.String(), "Recovery codes of "+u.name) {
		t.Errorf("no recovery codes were shown: %s", rest.String())
	}
	// The confirming code is used up: it logs nobody in.
	want(t, a.as(u, code), deny, "code_already_used")
	want(t, a.as(u, p.code(t, 1)), allow, "")

	// Enrolled already, a second factor is only replaced when asked to.
	if got := a.command("", "enroll", u.name, "--no-confirm"); got.exit != 6 {
		t.Errorf("enrolled twice: %+v", got)
	}
	var v struct {
		User     string
		URI      string   `json:"otpauth_uri"`
		Recovery []string `json:"recovery_codes"`
	}
	a.cli(&v, "enroll", u.name, "--no-confirm", "--replace")
	if v.User != u.name || len(v.Recovery) != 10 {
		t.Errorf("enroll --json: user %q and %d recovery codes", v.User, len(v.Recovery))
	}
	want(t, a.as(u, p.code(t, 1)), deny, "wrong_code")
	want(t, a.as(u, phone{secret: secretOf(t, v.URI)}.code(t, 0)), allow, "")
	// Without a confirming code nothing changes.
	if got := a.command("", "enroll", u.name, "--replace"); got.exit == 0 {
		t.Errorf("enrolled without a code: %+v", got)
	}
	want(t, a.as(u, phone{secret: secretOf(t, v.URI)}.code(t, 1)), allow, "")
}

// Any local account that resolves can be enrolled, system accounts too.
func TestSystemAccountsCanBeEnrolled(t *testing.T) {
	need(t)
	a := startAgent(t)
	for _, u := range []*account{{"daemon", 1}, {"root", 0}} {
		want(t, a.as(u, a.enrol(u).code(t, 0)), allow, "")
	}
	if got := a.command("", "enroll", "nobody-of-that-name", "--no-confirm"); got.exit != 4 {
		t.Errorf("a user who is not there: %+v", got)
	}
}

func TestRecoveryCodes(t *testing.T) {
	need(t)
	a := startAgent(t)
	u, p := a.enrolled()
	want(t, a.as(u, p.recovery[0]), allow, "")
	want(t, a.as(u, p.recovery[0]), deny, "wrong_code")
	want(t, a.as(u, strings.ToLower(strings.ReplaceAll(p.recovery[1], "-", " "))), allow, "")
	var v struct {
		Recovery []string `json:"recovery_codes"`
	}
	a.cli(&v, "recovery", u.name)
	if len(v.Recovery) != 10 {
		t.Fatalf("%d recovery codes", len(v.Recovery))
	}
	want(t, a.as(u, p.recovery[2]), deny, "wrong_code") // the old ones ended
	want(t, a.as(u, v.Recovery[9]), allow, "")
	other, _ := a.enrolled()
	want(t, a.as(other, v.Recovery[0]), deny, "wrong_code") // they are one user's
	if got := a.user(u).GetRecoveryLeft(); got != 9 {
		t.Errorf("%d recovery codes left, want 9", got)
	}
	if got := a.command("", "recovery", newUser(t).name); got.exit != 4 {
		t.Errorf("recovery codes for who is not enrolled: %+v", got)
	}
}

func TestBypass(t *testing.T) {
	need(t)
	a := startAgent(t)
	u, p := a.enrolled()
	var v struct{ Code string }
	a.cli(&v, "bypass", u.name, "--for", "1h", "--reason", "phone at home, ticket 4711")
	other, _ := a.enrolled()
	want(t, a.as(other, v.Code), deny, "wrong_code")
	wantPAM(t, a.pam("sshd", u, v.Code), 0)
	wantPAM(t, a.pam("sshd", u, v.Code), pamAuthErr)
	want(t, a.as(u, p.code(t, 0)), allow, "") // and the phone goes on
	if n := count(a.events(), event.BypassIssued, u, ""); n != 1 {
		t.Errorf("%d bypass_issued events", n)
	}
	if got := a.command("", "events", "--user", u.name, "--json"); !strings.Contains(got.out, "ticket 4711") || !strings.Contains(got.out, `"by":"uid:0"`) {
		t.Errorf("the event has no reason or no author: %s", got.out)
	}
	for _, args := range [][]string{{"--for", "1h"}, {"--reason", "x", "--for", "1s"}, {"--reason", "x", "--for", "8d"}, {"--reason", "x\ny"}, {"--reason", strings.Repeat("x", 201)}} {
		if got := a.command("", append([]string{"bypass", u.name}, args...)...); got.exit != 5 {
			t.Errorf("bypass %q: %+v", args, got)
		}
	}
	// A bypass does not make someone required who was not.
	plain := newUser(t)
	a.cli(&v, "bypass", plain.name, "--reason", "test")
	want(t, a.as(plain), skip, "not_asked")
}

func TestUserListShowRemoveUnlock(t *testing.T) {
	need(t)
	a := startAgent(t)
	u, p := a.enrolled()
	var list struct {
		Users []struct{ Name, Key string }
	}
	a.cli(&list, "user", "list")
	if len(list.Users) != 1 || list.Users[0].Name != u.name || list.Users[0].Key != u.key() {
		t.Errorf("user list: %+v", list)
	}
	for range 10 {
		want(t, a.as(u, p.wrong(t)), deny, "wrong_code")
	}
	var shown struct {
		Locked       bool
		RecoveryLeft int `json:"recovery_left"`
	}
	a.cli(&shown, "user", "show", u.name)
	if !shown.Locked || shown.RecoveryLeft != 10 {
		t.Errorf("user show: %+v", shown)
	}
	a.cli(nil, "unlock", u.name)
	want(t, a.as(u, p.code(t, 0)), allow, "")
	if n := count(a.events(), event.UserUnlocked, u, ""); n != 1 {
		t.Errorf("%d user_unlocked events", n)
	}
	// A deleted account's record is found by its uid.
	editPasswd(t, func(s string) string { return strings.Replace(s, "\n"+u.name+":", "\n#"+u.name+":", 1) })
	if got := a.command("", "user", "show", u.name); got.exit != 4 {
		t.Errorf("user show of a deleted account: %+v", got)
	}
	a.cli(nil, "user", "remove", u.key(), "--yes")
	if n := count(a.events(), event.UserRemoved, u, ""); n != 1 {
		t.Errorf("%d user_removed events", n)
	}
	a.cli(&list, "user", "list")
	if len(list.Users) != 0 {
		t.Errorf("user list after the removal: %+v", list)
	}
	a.wantStatus(0, "")
}

// 20 random bytes; what the other products' files hold.
var importedSeed = []byte{0x31, 0x9b, 0x07, 0xee, 0x52, 0xd4, 0x8a, 0x1f, 0x66, 0xc3, 0x90, 0x2b, 0x7d, 0xe8, 0x45, 0xb1, 0x0c, 0xfa, 0x73, 0x29}

func TestImport(t *testing.T) {
	need(t)
	a := startAgent(t)
	seed := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(importedSeed)
	p := phone{secret: seed}
	u := newUser(t)
	later := "later-" + u.name
	google := filepath.Join(a.dir, "google")
	write(t, google, seed+"\n\" RATE_LIMIT 3 30\n\" WINDOW_SIZE 3\n\" DISALLOW_REUSE\n\" TOTP_AUTH\n12345678\n87654321\n")
	must(t, os.Chmod(google, 0o400), os.Chown(google, int(u.uid), 100))
	a.cli(nil, "import", "google-authenticator", google)
	want(t, a.as(u, p.code(t, 0)), allow, "")
	want(t, a.as(u, "12345678"), deny, "malformed_code") // emergency codes are not taken over
	// A file that is a link is refused: its owner may have put it there.
	link := filepath.Join(a.dir, "link")
	must(t, os.Symlink(google, link))
	if got := a.command("", "import", "google-authenticator", link, "--user", u.name, "--replace"); got.exit == 0 {
		t.Errorf("a symbolic link was followed: %+v", got)
	}

	oath := filepath.Join(a.dir, "users.oath")
	other := newUser(t)
	write(t, oath, fmt.Sprintf("HOTP/T30/6 %s - %x\nHOTP/T30/6 %s - %x\nHOTP %s - %x\n", other.name, importedSeed, later, importedSeed, u.name, importedSeed))
	must(t, os.Chmod(oath, 0o600))
	var v struct {
		Imported, Pending, Refused int
	}
	got := a.command("", "import", "oath", oath, "--json")
	must(t, json.Unmarshal([]byte(got.out), &v))
	if v.Imported != 1 || v.Pending != 1 || v.Refused != 1 || got.exit != 1 {
		t.Errorf("import oath: exit %d, %+v\n%s%s", got.exit, v, got.out, got.errOut)
	}
	want(t, a.as(other, p.code(t, 0)), allow, "")
	a.wantStatus(1, "users_pending")
	// A name that did not resolve is kept, and adopted when its bearer comes.
	heir := newUser(t)
	editPasswd(t, func(s string) string { return strings.Replace(s, "\n"+heir.name+":", "\n"+later+":", 1) })
	want(t, a.as(&account{later, heir.uid}, p.code(t, 0)), allow, "")
	a.wantStatus(0, "")
}

// shown is all that the person saw.
func (r result) shown() string { return strings.Join(append(r.notices, r.prompts...), "\n") }

// phone has the key that the login showed.
func (r result) phone(t *testing.T) phone {
	t.Helper()
	key := regexp.MustCompile(`\b[A-Z2-7]{32}\b`).FindString(r.shown())
	if key == "" {
		t.Fatalf("no key was shown: %q", r.shown())
	}
	return phone{secret: key}
}

// Enrolment at the login itself: only in a window that IT opened, after its
// one-time code, and never over the network.
func TestEnrolmentAtTheLogin(t *testing.T) {
	need(t)
	a := startAgent(t, "[policy]", `ask = "required"`, "[enrolment]", "at_login = true")
	u := newUser(t)
	want(t, a.as(u, "123456"), deny, "not_enrolled") // no window
	var v struct{ Code string }
	a.cli(&v, "enrolment", "open", u.name, "--for", "10m", "--code")
	remote := func(b *loginv1.Begin) {
		b.Scenario, b.RemoteHost = loginv1.Scenario_SCENARIO_REMOTE, []byte("192.0.2.1")
	}
	want(t, a.login(0, begin(u.name, remote), v.Code), deny, "wrong_code") // just a code, of which there is none
	want(t, a.as(u, "123456789012"), deny, "wrong_code")

	st, prompt := a.ask(0, begin(u.name))
	defer st.close()
	must(t, st.tell(&loginv1.Answer{PromptId: prompt.GetId(), Text: []byte(v.Code)}))
	var r result
	prompt = st.until(&r)
	if prompt == nil {
		t.Fatalf("the code to enrol with: %s", r)
	}
	p := r.phone(t)
	code := p.code(t, 0)
	must(t, st.tell(&loginv1.Answer{PromptId: prompt.GetId(), Text: []byte(code)}))
	if prompt = st.until(&r); prompt == nil || !prompt.GetEmptyAllowed() {
		t.Fatalf("the confirming code: %s", r)
	}
	if codes := regexp.MustCompile(`\b[0-9A-Z]{5}-[0-9A-Z]{5}\b`).FindAllString(r.shown(), -1); len(codes) != 10 {
		t.Errorf("%d recovery codes were shown", len(codes))
	}
	must(t, st.tell(&loginv1.Answer{PromptId: prompt.GetId()}))
	if st.until(&r) != nil {
		t.Fatal("asked again")
	}
	want(t, r, allow, "enrolled_at_login")
	want(t, a.as(u, code), deny, "code_already_used")
	want(t, a.as(u, p.code(t, 1)), allow, "code_accepted")
	if n := count(a.events(), event.UserEnrolled, u, ""); n != 1 {
		t.Errorf("%d user_enrolled events", n)
	}
	// The window is over, and nobody enrols over an existing factor.
	if got := a.command("", "enrolment", "open", u.name); got.exit != 6 {
		t.Errorf("a window for who is enrolled: %+v", got)
	}
	// Of several logins in one window one enrols.
	other := newUser(t)
	a.cli(nil, "enrolment", "open", other.name)
	var keys []phone
	var streams []*stream
	var prompts []*loginv1.Prompt
	for range 2 {
		st, err := a.open(0)
		must(t, err)
		defer st.close()
		must(t, st.tell(begin(other.name)))
		var r result
		prompts, streams = append(prompts, st.until(&r)), append(streams, st)
		keys = append(keys, r.phone(t))
	}
	for i, in := range []bool{true, false} {
		var r result
		must(t, streams[i].tell(&loginv1.Answer{PromptId: prompts[i].GetId(), Text: []byte(keys[i].code(t, 0))}))
		if p := streams[i].until(&r); (p != nil) != in {
			t.Errorf("login %d of two: %s, prompt %v", i, r, p)
		}
	}
	want(t, a.as(other, keys[0].code(t, 1)), allow, "")
}

// The events come as they happen, each once, and a follower that joins later
// finds the ones before.
func TestEventsFollow(t *testing.T) {
	need(t)
	a := startAgent(t)
	u, p := a.enrolled()
	all, mine := a.follow(t.Context()), a.follow(t.Context(), "--user", u.name)
	first := all.want(event.AgentStarted)
	mine.want(event.UserEnrolled)
	want(t, a.as(newUser(t)), skip, "")
	want(t, a.as(u, p.code(t, 0)), allow, "")
	if e := mine.want(event.LoginAttempt); e.User != u.name || e.Verdict != "allow" || e.Factor != "totp" {
		t.Errorf("the live event: %+v", e)
	}
	seq := first.Seq
	for seq < mine.last {
		e := <-all.events
		if e.Seq != seq+1 {
			t.Fatalf("event %d came after %d", e.Seq, seq)
		}
		seq = e.Seq
	}
}

// Past the bound the oldest events are dropped, and counted.
func TestEventsAreBoundedAndCounted(t *testing.T) {
	need(t)
	a := startAgent(t, "events = 100")
	u := newUser(t)
	for range 150 {
		want(t, a.as(u), skip, "")
	}
	// Who is not asked waits a while for the event, and who is denied until it is kept.
	want(t, a.as(&account{name: "nobody-of-that-name"}), deny, "")
	events := a.events()
	if len(events) != 100 || events[99].Seq != events[0].Seq+99 {
		t.Errorf("%d events kept, from %d to %d", len(events), events[0].Seq, events[len(events)-1].Seq)
	}
	var v statusView
	a.cli(&v, "status")
	if v.Vault.EventsDropped != events[0].Seq-1 {
		t.Errorf("%d dropped, and the oldest kept is number %d", v.Vault.EventsDropped, events[0].Seq)
	}
	a.kill()
	a.start()
	if got := a.events(); got[len(got)-1].Seq <= events[99].Seq {
		t.Errorf("a number was used again: %d after %d", got[len(got)-1].Seq, events[99].Seq)
	}
}

// sd_notify(3): ready once both sockets listen, stopping when it does. A socket
// is there only while somebody listens on it.
func TestReadinessAndSockets(t *testing.T) {
	need(t)
	a := newAgent(t)
	must(t, os.Mkdir(a.run, 0o755))
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	must(t, err)
	watch := os.NewFile(uintptr(fd), "inotify") // its Close ends a Read
	defer watch.Close()
	_, err = unix.InotifyAddWatch(fd, a.run, unix.IN_CREATE|unix.IN_MOVED_TO)
	must(t, err)
	seen := make(chan string, 2)
	go func() {
		for b := make([]byte, 4096); ; {
			n, err := watch.Read(b)
			if err != nil {
				return
			}
			for _, name := range []string{loginSock, adminSock} {
				if bytes.Contains(b[:n], []byte("\x00"+name+"\x00")) {
					conn, err := net.Dial("unix", a.socket(name))
					if err != nil {
						t.Errorf("%s is there and nobody listens: %v", name, err)
					} else {
						conn.Close()
					}
					seen <- name
				}
			}
		}
	}()
	a.start()
	<-seen
	<-seen
	must(t, watch.Close()) // the sockets of the next starts are left behind by a kill
	for _, name := range []string{loginSock, adminSock} {
		conn, err := net.Dial("unix", a.socket(name))
		if err != nil {
			t.Errorf("ready, but nobody listens on %s: %v", name, err)
			continue
		}
		conn.Close()
	}
	a.stop()
	if left, err := os.ReadDir(a.run); err != nil || len(left) != 0 {
		t.Errorf("left in the runtime directory: %v %v", left, err)
	}
	// Sockets that a killed agent left behind do not keep the next one out.
	a.start()
	a.kill()
	if left, err := filepath.Glob(filepath.Join(a.run, "*.sock")); err != nil || len(left) != 2 {
		t.Errorf("left by a killed agent: %v %v", left, err)
	}
	wantPAM(t, a.pam("sshd", newUser(t), ""), pamUnavail)
	a.start()
	a.wantStatus(0, "")
}

// Commands without an agent: status, doctor, config and try still say something;
// the others exit 2 and say why.
func TestCommandsWithoutAnAgent(t *testing.T) {
	need(t)
	a := newAgent(t)
	for _, args := range [][]string{{"status"}, {"user", "list"}, {"unlock", "root"}, {"recovery", "root"}, {"events"}, {"enroll", "root", "--no-confirm"},
		{"bypass", "root", "--reason", "x"}, {"user", "show", "root"}, {"clock", "reset", "--yes"}, {"vault", "rekey", "--to", "file", "--yes"}} {
		if got := a.command("", args...); got.exit != 2 || !strings.Contains(got.out+got.errOut, "not running") {
			t.Errorf("sallyport %s: %+v", strings.Join(args, " "), got)
		}
	}
	for _, args := range [][]string{{"config", "check"}, {"config", "show"}} {
		if got := a.command("", args...); got.exit != 0 {
			t.Errorf("sallyport %s: %+v", strings.Join(args, " "), got)
		}
	}
}
