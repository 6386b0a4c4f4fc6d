package cli

import (
	"encoding/json"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"sallyport/internal/organisation"
	adminv1 "sallyport/proto/sallyport/admin/v1"
)

var token = organisation.Token{Secret: [20]byte{1, 2, 3}, CA: [32]byte{4}, Organisation: [32]byte{5}}.String()

func TestEnrollPush(t *testing.T) {
	f := newFake()
	f.phone <- nil
	s := newSession(t, f).tty().run("enroll", "alice", "--push", "--replace").wantExit(0)
	s.wantOut("Scan this with alice's phone", "▄", canaryLink, "Waiting for the phone until 2026-11-22 10:30:30", "Ctrl-C", "Enrolled: IIIIjjjj  Pixel 9 (enrolled here)")
	if r := asked[*adminv1.EnrolPushRequest](f)[0]; r.GetUser() != "alice" || !r.GetReplace() {
		t.Errorf("%v", r)
	}
	if n := len(asked[*adminv1.EnrolRequest](f)); n != 0 {
		t.Error("a secret was made as well")
	}
}

// With --json standard output is two objects: the link, and then the phone.
func TestEnrollPushJSON(t *testing.T) {
	f := newFake()
	f.phone <- nil
	s := newSession(t, f).run("enroll", "alice", "--push", "--json").wantExit(0).wantNot("▄")
	lines := strings.Split(strings.TrimSpace(s.out), "\n")
	if len(lines) != 2 {
		t.Fatalf("%d lines: %s", len(lines), s.out)
	}
	var first struct{ User, URL, Expires string }
	var second struct {
		User  string
		Phone phoneView
	}
	if err := json.Unmarshal([]byte(lines[0]), &first); err != nil || first.URL != canaryLink || first.User != "alice" || first.Expires != "2026-11-22T10:30:30Z" {
		t.Errorf("%v, %v", first, err)
	}
	if err := json.Unmarshal([]byte(lines[1]), &second); err != nil || second.Phone.Name != "Pixel 9" || second.Phone.ID != "IIIIjjjj" {
		t.Errorf("%v, %v", second, err)
	}
	if s.err != "" {
		t.Errorf("stderr: %s", s.err)
	}
}

func TestEnrollPushRefusals(t *testing.T) {
	f := newFake()
	f.deny = status.Error(codes.FailedPrecondition, "codes first: nobody is push-only, as a phone may have no signal: sallyport enroll alice")
	runCLI(t, f, "enroll", "alice", "--push").wantExit(1).wantErr("codes first").wantNot("▄")
	runCLI(t, newFake(), "enroll", "nobody", "--push").wantExit(4).wantErr(`no user "nobody"`)

	f = newFake()
	f.phone <- status.Error(codes.FailedPrecondition, "no phone came in time")
	runCLI(t, f, "enroll", "alice", "--push").wantExit(1).wantErr("no phone came in time").wantOut(canaryLink)
}

func TestPhones(t *testing.T) {
	s := runCLI(t, newFake(), "phones", "alice").wantExit(0)
	s.wantOut(`AAAAbbbb  Pixel 8\x1b[31m (enrolled here)`, "CCCCdddd  iPhone (enrolled at the authority, for every computer; synced passkey)", "push: ready").wantNot("\x1b")
	v := runCLI(t, newFake(), "phones", "alice", "--json").wantExit(0).object()
	if p := v["phones"].([]any); len(p) != 2 || v["push_state"] != "ready" || p[1].(map[string]any)["source"] != "authority" {
		t.Errorf("%v", v)
	}
	runCLI(t, newFake(), "phones", "nobody").wantExit(4)
}

func TestPhonesRemoveAsksOnATerminal(t *testing.T) {
	f := newFake()
	newSession(t, f).tty("n").run("phones", "remove", "alice", "AAAAbbbb").wantExit(1).wantErr("nothing was changed")
	if n := len(asked[*adminv1.RemovePhoneRequest](f)); n != 0 {
		t.Fatalf("removed %d times without a yes", n)
	}
	newSession(t, f).tty("y").run("phones", "remove", "alice", "AAAAbbbb").wantExit(0).wantOut("Forgotten", "CCCCdddd").wantNot("AAAAbbbb  ")
	runCLI(t, f, "phones", "remove", "alice", "Nokia").wantExit(4).wantErr("no phone")
	if v := runCLI(t, f, "phones", "remove", "alice", "AAAAbbbb", "--json").wantExit(0).object(); len(v["phones"].([]any)) != 1 {
		t.Errorf("%v", v)
	}
}

func TestPushClear(t *testing.T) {
	runCLI(t, newFake(), "push", "clear", "mallory").wantExit(0).wantOut("Push of mallory: ready", "sallyport-authority user clear mallory")
	if v := runCLI(t, newFake(), "push", "clear", "mallory", "--json").wantExit(0).object(); v["push_reported"] != false || v["push_state"] != "ready" {
		t.Errorf("%v", v)
	}
}

// TestUnlockSaysThatPushIsStillLocked: the two locks are two, and nobody is left
// to find that out.
func TestUnlockSaysThatPushIsStillLocked(t *testing.T) {
	runCLI(t, newFake(), "unlock", "alice").wantExit(0).wantOut("can use codes again").wantNot("Push")
	runCLI(t, newFake(), "unlock", "mallory").wantExit(0).wantOut("can use codes again", "locked: a login was reported", "sallyport push clear mallory")
	runCLI(t, newFake(), "unlock", "bob").wantExit(0).wantOut("paused for another 12m", "sallyport push clear bob")
}

func TestHowPushStandsIsShown(t *testing.T) {
	runCLI(t, newFake(), "user", "show", "alice").wantExit(0).wantOut("push         ready", `phone        AAAAbbbb  Pixel 8\x1b[31m`).wantNot("\x1b")
	runCLI(t, newFake(), "user", "show", "mallory").wantExit(0).wantOut("locked: a login was reported as not theirs; clear it with: sallyport push clear mallory")
	runCLI(t, newFake(), "user", "list").wantExit(0).wantOut("PUSH", "ready", "paused 12m")
	v := runCLI(t, newFake(), "user", "show", "bob", "--json").wantExit(0).object()
	if v["push_state"] != "paused" || v["push_paused_seconds"] != 720.0 || len(v["phones"].([]any)) != 1 {
		t.Errorf("%v", v)
	}
	seen := map[string]bool{}
	for _, state := range []string{"ready", "no_phone", "no_code", "reported", "paused", "too_many", "not_joined", "not_connected", "not_allowed", "off"} {
		text := pushText(userView{Name: "x", PushState: state})
		if text == state && state != "ready" || seen[text] {
			t.Errorf("%s: %q", state, text)
		}
		seen[text] = true
	}
	if got := pushText(userView{PushState: "of_the_future"}); got != "of_the_future" {
		t.Error(got)
	}
}

// A terminal's lines are broken between words; what reads a pipe gets them whole.
func TestStatusFitsTheTerminal(t *testing.T) {
	f := newFake()
	f.status.Authority = f.authority()
	s := newSession(t, f).tty()
	s.deps.Width = func(any) int { return 80 }
	s.deps.Getenv = func(k string) string { return map[string]string{"NO_COLOR": "1"}[k] }
	s.run("status").wantExit(0).wantOut("\n  trust      the organisation key lies on the authority: whoever owns it can\n             enrol a phone for anybody\n")
}

func TestStatusOfTheAuthorityIsShown(t *testing.T) {
	runCLI(t, newFake(), "status").wantExit(0).wantOut("authority  none")
	f := newFake()
	f.status.Authority = f.authority()
	runCLI(t, f, "status").wantExit(0).wantOut("authority  https://authority.example.com:7443, connected since 2026-11-22 10:20:30",
		"Example as pc1 (DEVICEID), certificate until 2026-11-26 10:20:30, 3 events waiting", "push for   everybody",
		"whoever owns it can enrol a phone for anybody", "the approver page comes from the authority: it is trusted for what it shows", "allow_exemptions")
	v := runCLI(t, f, "status", "--json").wantExit(0).object()["authority"].(map[string]any)
	if v["connected"] != true || v["holds_organisation_key"] != true || v["page_separate"] != false || v["events_waiting"] != 3.0 || v["url"] != "https://authority.example.com:7443" {
		t.Errorf("%v", v)
	}
	a := f.status.Authority
	a.Connected, a.LastError, a.Since, a.Users = false, "no route\x1b to host", timestamppb.New(day), []string{"maya", "alice"}
	runCLI(t, f, "status").wantOut(`not connected since 2026-11-22 10:20:30 (no route\x1b to host)`, "push for   maya, alice").wantNot("\x1b", "organisation key")
	if v := runCLI(t, f, "status", "--json").object()["authority"].(map[string]any); v["holds_organisation_key"] != nil {
		t.Errorf("who holds the key is not known: %v", v)
	}
	a.Connected, a.HoldsOrganisationKey, a.PageSeparate, a.PageOrigin = true, false, true, "https://approve.example.com"
	runCLI(t, f, "status").wantOut("the authority cannot enrol phones by itself", "comes from https://approve.example.com, not from the authority")
}

// TestNothingIsSaidOfTheKeyBeforeTheAuthorityWasHeard: right behind the join there
// is no connection yet, and "elsewhere" would be a guess, in the wrong direction.
func TestNothingIsSaidOfTheKeyBeforeTheAuthorityWasHeard(t *testing.T) {
	f := newFake()
	f.unheard = true
	newSession(t, f).stdin(token).run("join", "https://authority.example.com:7443", "--token-stdin").wantExit(0).wantOut("Joined", "sallyport status").wantNot("organisation key")
}

func TestJoin(t *testing.T) {
	f := newFake()
	const url = "https://authority.example.com:7443"
	newSession(t, f).stdin(token+"\n").run("join", url, "--token-stdin", "--name", "pc1").wantExit(0).
		wantOut("Joined Example as pc1 (DEVICEID)", "whoever owns it can enrol a phone for anybody", "sallyport enroll USER --push").wantNot(token)
	if v := newSession(t, f).stdin(token).run("join", url, "--token-stdin", "--json").wantExit(0).object(); v["device_id"] != "DEVICEID" {
		t.Errorf("%v", v)
	}
	r := asked[*adminv1.JoinRequest](f)
	if r[0].GetUrl() != url || r[0].GetToken() != token || r[0].GetName() != "pc1" || r[1].GetName() != "" {
		t.Errorf("%v", r)
	}
	f.deny = status.Error(codes.AlreadyExists, "this computer has joined https://x already")
	newSession(t, f).stdin(token).run("join", url, "--token-stdin").wantExit(6).wantErr("joined https://x already")
}

// TestTheTokenIsAskedForWithoutEcho: on a terminal it goes past the line editor.
func TestTheTokenIsAskedForWithoutEcho(t *testing.T) {
	for _, flags := range [][]string{nil, {"--token-stdin"}} {
		f := newFake()
		s := newSession(t, f).tty("what stands on the terminal is not read with echo")
		s.deps.ReadSecret = func() (string, error) { return " " + token + "\r", nil }
		s.run(append([]string{"join", "https://authority.example.com:7443"}, flags...)...).wantExit(0).wantErr("it is not shown").wantNot(token)
		if r := asked[*adminv1.JoinRequest](f); len(r) != 1 || r[0].GetToken() != token {
			t.Errorf("%v", r)
		}
	}
}

// TestTheTokenIsNeverAnArgument: and what is wrong with one is said without it.
func TestTheTokenIsNeverAnArgument(t *testing.T) {
	for _, args := range [][]string{{"join", token}, {"join", "https://authority.example.com:7443", token}, {"join", "https://authority.example.com:7443", "--token-stdin", token}} {
		f := newFake()
		newSession(t, f).stdin(token).run(args...).wantExit(5).wantErr("never an argument", "--token-stdin").wantNot(token[11:40])
		if len(f.requests) != 0 {
			t.Errorf("the agent was asked: %v", f.requests)
		}
	}
	wrong := token[:30] + "BBBB" + token[34:]
	for _, in := range []string{"", "\n", "hello", wrong, strings.Repeat("x", 1000)} {
		f := newFake()
		s := newSession(t, f).stdin(in).run("join", "https://authority.example.com:7443", "--token-stdin").wantExit(5)
		if in != "" && in != "\n" {
			s.wantNot(in)
		}
		if len(f.requests) != 0 {
			t.Errorf("%q: the agent was asked", in)
		}
	}
}

func TestLeaveAsksOnATerminal(t *testing.T) {
	f := newFake()
	newSession(t, f).tty("n").run("leave").wantExit(1).wantErr("nothing was changed")
	if len(f.requests) != 0 {
		t.Fatal("left without a yes")
	}
	newSession(t, f).tty("y").run("leave").wantExit(0).wantOut("Logins go on with codes")
	if v := runCLI(t, f, "leave", "--json").wantExit(0).object(); v["left"] != true {
		t.Errorf("%v", v)
	}
}

func TestCompletionOffersPhonesOfThisComputer(t *testing.T) {
	s := newSession(t, newFake())
	dir := s.dir
	s.dir = ""
	s.run("__complete", "--runtime-dir", dir, "phones", "remove", "alice", "").wantOut("AAAAbbbb\tPixel 8").wantNot("CCCCdddd", "\x1b")
	s.run("__complete", "--runtime-dir", dir, "phones", "remove", "").wantOut("alice", "bob")
}

func TestDoctorLooksAtTheAuthority(t *testing.T) {
	f := newFake()
	f.status.Authority = f.authority()
	runCLI(t, f, "doctor").wantOut("ok    authority        https://authority.example.com:7443 is connected", "info  authority        the approver page comes from the authority")
	f.status.Authority.Connected = false
	f.noCode = true
	runCLI(t, f, "doctor").wantOut("warn  authority        https://authority.example.com:7443 is not connected", "warn  authority        a phone, and no code, have: alice")
	f.status.Authority = nil
	runCLI(t, f, "doctor").wantNot("authority")
}
