package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"sallyport/internal/command"
	"sallyport/internal/config"
	"sallyport/internal/localsock"
	adminv1 "sallyport/proto/sallyport/admin/v1"
)

// object parses standard output as exactly one JSON object.
func (s *session) object() map[string]any {
	s.t.Helper()
	var v map[string]any
	d := json.NewDecoder(strings.NewReader(s.out))
	if err := d.Decode(&v); err != nil {
		s.t.Fatalf("stdout is not a JSON object: %v\n%s", err, s.out)
	}
	if d.More() {
		s.t.Fatalf("stdout holds more than one object:\n%s", s.out)
	}
	return v
}

func (s *session) errorObject() map[string]any {
	s.t.Helper()
	var v struct{ Error map[string]any }
	if err := json.Unmarshal([]byte(s.err), &v); err != nil || v.Error == nil {
		s.t.Fatalf("stderr is not one error object: %v\n%s", err, s.err)
	}
	return v.Error
}

func TestStatusHealthy(t *testing.T) {
	s := runCLI(t, newFake(), "status").wantExit(0)
	s.wantOut("sallyport 1.2.3: healthy", "pid 42", "keychain", "file", "2 enrolled, 1 locked, 1 pending", "bob",
		"2 of 2 can log in without a network", "login_attempt", noHook)
	s.wantNot("\x1b")
}

func TestStatusJSONNames(t *testing.T) {
	v := runCLI(t, newFake(), "status", "--json").wantExit(0).object()
	for _, name := range []string{"healthy", "running", "version", "keychain", "users", "problems", "vault", "hooks", "last_events", "config", "sockets"} {
		if _, ok := v[name]; !ok {
			t.Errorf("no %q in %v", name, v)
		}
	}
	if v["healthy"] != true || v["version"] != "1.2.3" || v["keychain"] != "file" {
		t.Errorf("%v", v)
	}
	if users := v["users"].(map[string]any); users["enrolled"] != 2.0 || users["locked"] != 1.0 || users["offline_ready"] != 2.0 {
		t.Errorf("%v", users)
	}
	if p := v["problems"].([]any); len(p) != 0 {
		t.Errorf("%v", p)
	}
}

func TestStatusNeedsAttention(t *testing.T) {
	f := newFake()
	f.status.Problems = []*adminv1.Problem{{Code: "clock_behind", Text: "the clock\x1b[2J went back", Remedy: "set it"}}
	s := runCLI(t, f, "status").wantExit(1).wantOut("needs attention", "clock_behind", "set it", `\x1b[2J`)
	s.wantNot("\x1b")
	if v := runCLI(t, f, "status", "--json").wantExit(1).object(); v["healthy"] != false || len(v["problems"].([]any)) != 1 {
		t.Errorf("%v", v)
	}
}

func TestStatusClosedVaultIsNeverHealthy(t *testing.T) {
	f := newFake()
	f.status.Vault = &adminv1.VaultStatus{State: "rolled_back", Detail: "older than the anchor", Keychain: "tpm"}
	v := runCLI(t, f, "status", "--json").wantExit(1).object()
	if v["healthy"] != false || len(v["problems"].([]any)) != 1 {
		t.Errorf("%v", v)
	}
}

func TestStatusNotRunning(t *testing.T) {
	s := runCLI(t, nil, "status").wantExit(2)
	s.wantOut("not running", localsock.AdminName+" is not there", remedyNotRunning)
	v := runCLI(t, nil, "status", "--json").wantExit(2).object()
	if v["healthy"] != false || v["running"] != false || v["version"] != "9.9.9" {
		t.Errorf("%v", v)
	}
	p := v["problems"].([]any)[0].(map[string]any)
	if p["code"] != "agent_not_running" || p["remedy"] == "" {
		t.Errorf("%v", p)
	}
	if _, ok := v["users"].(map[string]any); !ok {
		t.Errorf("users: %v", v["users"])
	}
}

func TestEverythingElseExits2WhenTheAgentIsDown(t *testing.T) {
	for _, line := range []string{"enroll alice", "enrol alice", "enrolment open alice", "enrolment close alice", "user list",
		"user show alice", "user remove alice", "unlock alice", "recovery alice", "bypass alice --reason x", "events",
		"events --follow", "vault rekey --to file --yes", "clock reset", "import pending",
		"enroll alice --push", "phones alice", "phones remove alice AAAAbbbb", "push clear alice", "leave"} {
		t.Run(line, func(t *testing.T) {
			s := runCLI(t, nil, strings.Fields(line)...).wantExit(2)
			s.wantErr("the agent is not running", localsock.AdminName+" is not there", remedyNotRunning)
			if s.out != "" {
				t.Errorf("stdout: %s", s.out)
			}
			e := runCLI(t, nil, append(strings.Fields(line), "--json")...).wantExit(2).errorObject()
			if e["code"] != "not_running" || e["message"] == "" || e["remedy"] == "" {
				t.Errorf("%v", e)
			}
		})
	}
}

func TestFlagsBeforeAndAfterTheCommand(t *testing.T) {
	f := newFake()
	s := newSession(t, f)
	dir := s.dir
	for _, args := range [][]string{
		{"--json", "--runtime-dir", s.dir, "status"},
		{"status", "--json", "--runtime-dir", s.dir},
		{"--runtime-dir=" + s.dir, "user", "--json", "list"},
		{"user", "list", "--runtime-dir=" + s.dir, "--json"},
		{"--config", "/nowhere.toml", "user", "show", "alice", "--json"},
		{"user", "--config=/nowhere.toml", "show", "--json", "alice"},
	} {
		s.deps.RuntimeDir = func(config string) (string, error) {
			if config != "/nowhere.toml" {
				t.Errorf("%v: config is %s", args, config)
			}
			return dir, nil
		}
		s.dir = ""
		s.run(args...).wantExit(0).object()
		s.dir = dir
	}
}

func TestTheConfigurationSaysWhichAgent(t *testing.T) {
	s := newSession(t, newFake())
	dir := s.dir
	s.dir = ""
	s.deps.RuntimeDir = func(file string) (string, error) {
		if file != config.DefaultPath {
			t.Errorf("config is %s", file)
		}
		return dir, nil
	}
	s.run("status").wantExit(0)
}

func TestExitCodesOfTheAgentsAnswers(t *testing.T) {
	for code, exit := range map[codes.Code]int{codes.NotFound: 4, codes.AlreadyExists: 6, codes.InvalidArgument: 5,
		codes.FailedPrecondition: 1, codes.PermissionDenied: 3, codes.Unauthenticated: 3, codes.Internal: 1, codes.Unimplemented: 1} {
		f := newFake()
		f.deny = status.Error(code, "a plain reason\x07")
		s := runCLI(t, f, "unlock", "alice").wantExit(exit).wantErr(`a plain reason\x07`)
		s.wantNot("rpc error", "\x07")
		if e := runCLI(t, f, "unlock", "alice", "--json").wantExit(exit).errorObject(); e["code"] != command.ExitName(exit) {
			t.Errorf("%v: %v", code, e)
		}
	}
}

func TestBadUsage(t *testing.T) {
	for _, line := range []string{"bogus", "user", "user bogus", "status extra", "support-bundle x", "support-bundle --since 8d", "config schema --system beos", "unlock", "unlock a b", "status --bogus",
		"enroll", "enroll alice --digits 7", "enroll alice --algorithm md5", "bypass alice", "bypass alice --reason x --for 8d",
		"bypass alice --reason x --for 1s", "bypass alice --reason x --for soon", "vault rekey --yes", "completion tcsh", "man",
		"enrolment open alice --for 0d", "events --last x", "import", "import oath", "import google-authenticator",
		"phones", "phones remove alice", "phones remove alice a b", "push", "push clear", "push alice", "join", "join https://a https://b", "leave x",
		"join https://authority.example.com:7443", "enroll alice --push --no-confirm", "enroll alice --push --digits 8", "enroll alice --push --uri-stdin",
		"import google-authenticator x --all-homes", "import oath /nowhere/users.oath", "import google-authenticator /nowhere/x"} {
		t.Run(line, func(t *testing.T) {
			f := newFake()
			s := runCLI(t, f, strings.Fields(line)...).wantExit(5)
			if s.err == "" {
				t.Error("nothing on stderr")
			}
			if e := runCLI(t, f, append(strings.Fields(line), "--json")...).wantExit(5).errorObject(); e["code"] != "bad_usage" {
				t.Errorf("%v", e)
			}
			if len(f.requests) != 0 {
				t.Errorf("the agent was asked: %v", f.requests)
			}
		})
	}
}

func TestUserNamesWithControlCharactersAreRefused(t *testing.T) {
	for _, name := range []string{"", "a\x1bb", "a\nb", "a\x00b", "a\xffb", "a\u202eb", strings.Repeat("x", 321)} {
		s := runCLI(t, newFake(), "unlock", name).wantExit(5)
		s.wantNot("\x1b", "\xff", "\u202e", "\x00")
	}
}

func TestEnrollJSONNoConfirm(t *testing.T) {
	for _, spelling := range []string{"enroll", "enrol"} {
		f := newFake()
		s := runCLI(t, f, spelling, "alice", "--json", "--no-confirm").wantExit(0)
		v := s.object()
		if v["user"] != "alice" || v["otpauth_uri"] != canaryURI || len(v["recovery_codes"].([]any)) != 2 {
			t.Errorf("%v", v)
		}
		if s.err != "" {
			t.Errorf("stderr: %s", s.err)
		}
		if r := asked[*adminv1.EnrolRequest](f)[0]; !r.GetNoConfirm() || r.GetAlgorithm() != "SHA1" || r.GetDigits() != 6 || r.GetReplace() {
			t.Errorf("%v", r)
		}
	}
}

func TestEnrollOnATerminal(t *testing.T) {
	f := newFake()
	s := newSession(t, f).tty("111111", "246 802").run("enroll", "alice", "--replace", "--algorithm", "sha-256", "--digits", "8")
	s.wantExit(0).wantOut("Scan this", "▄", canaryURI, "Code from the phone:", "that code is wrong", "alice is enrolled",
		canaryRecovery, "not shown again", "\x1b[97;40m")
	if r := asked[*adminv1.EnrolRequest](f)[0]; r.GetAlgorithm() != "SHA256" || r.GetDigits() != 8 || !r.GetReplace() || r.GetNoConfirm() {
		t.Errorf("%v", r)
	}
	if n := len(asked[*adminv1.ConfirmEnrolmentRequest](f)); n != 2 {
		t.Errorf("%d codes were tried", n)
	}
}

func TestEnrollThreeWrongCodesAreEnough(t *testing.T) {
	f := newFake()
	newSession(t, f).tty("1", "2", "3", rightCode).run("enroll", "alice").wantExit(1).wantErr("not in force").wantNot(canaryRecovery)
	if n := len(asked[*adminv1.ConfirmEnrolmentRequest](f)); n != 3 {
		t.Errorf("%d codes were tried", n)
	}
}

func TestEnrollWithoutACodeIsNotInForce(t *testing.T) {
	runCLI(t, newFake(), "enroll", "alice").wantExit(5).wantErr("no confirming code", "--no-confirm").wantNot(canaryRecovery)
}

func TestEnrollJSONWithAConfirmingCode(t *testing.T) {
	s := newSession(t, newFake()).stdin(rightCode+"\n").run("enroll", "alice", "--json").wantExit(0)
	if v := s.object(); v["otpauth_uri"] != canaryURI || len(v["recovery_codes"].([]any)) != 2 {
		t.Errorf("%v", v)
	}
	s.wantErr(canaryURI) // the person needs it before there can be a code
}

func TestEnrollShowsTheQROnlyOnATerminalOrWhenAsked(t *testing.T) {
	runCLI(t, newFake(), "enroll", "alice", "--no-confirm").wantExit(0).wantNot("▄", "\x1b").wantOut(canaryURI)
	runCLI(t, newFake(), "enroll", "alice", "--no-confirm", "--qr").wantExit(0).wantOut("▄", canaryURI).wantNot("\x1b")
	s := newSession(t, newFake()).tty()
	s.deps.Width = func(any) int { return 40 }
	s.run("enroll", "alice", "--no-confirm").wantExit(0).wantNot("▄").wantOut("this terminal has 40", canaryURI)
}

func TestEnrollExistingURI(t *testing.T) {
	f := newFake()
	uri := "otpauth://totp/x?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
	s := newSession(t, f).stdin(uri+"\n").run("enroll", "alice", "--uri-stdin", "--json").wantExit(0)
	if v := s.object(); v["otpauth_uri"] != uri {
		t.Errorf("%v", v)
	}
	if r := asked[*adminv1.EnrolRequest](f)[0]; r.GetOtpauthUri() != uri {
		t.Errorf("%v", r)
	}
	newSession(t, newFake()).stdin(uri+"\n").run("enroll", "alice", "--uri-stdin").wantExit(0).wantNot("GEZDGNBV", canarySecret)
	newSession(t, newFake()).stdin(canarySecret+"\n").run("enroll", "alice", "--uri-stdin").wantExit(5).wantNot(canarySecret)
	newSession(t, newFake()).stdin(uri+"\n").run("enroll", "alice", "--uri-stdin", "--digits", "8").wantExit(5)
	newSession(t, newFake()).stdin(strings.Repeat("x", 5000)).run("enroll", "alice", "--uri-stdin").wantExit(5)
}

func TestEnrollRefusals(t *testing.T) {
	runCLI(t, newFake(), "enroll", "nobody", "--no-confirm").wantExit(4).wantErr(`no user "nobody"`)
	runCLI(t, newFake(), "enroll", "bob", "--no-confirm").wantExit(6).wantErr("--replace")
	runCLI(t, newFake(), "enroll", "bob", "--no-confirm", "--replace").wantExit(0)
}

// The canaries show only in the commands that are there to show them.
func TestSecretsAppearOnlyWhereTheyMust(t *testing.T) {
	canaries := []string{canarySecret, canaryRecovery, canaryBypass, "second-code-xx", "CANARYFRAGMENT"}
	for _, line := range []string{"status", "user list", "user show alice", "user remove alice", "unlock alice", "events",
		"config show", "config check", "vault init --yes", "vault accept --yes", "vault rekey --to file --yes", "clock reset",
		"enrolment open alice", "enrolment close alice", "import pending", "version", "doctor",
		"phones alice", "phones remove alice AAAAbbbb", "push clear alice", "leave"} {
		runCLI(t, newFake(), strings.Fields(line)...).wantNot(canaries...)
		runCLI(t, newFake(), append(strings.Fields(line), "--json")...).wantNot(canaries...)
	}
	runCLI(t, newFake(), "recovery", "alice").wantExit(0).wantOut(canaryRecovery, "not shown again").wantNot(canarySecret, canaryBypass)
	runCLI(t, newFake(), "bypass", "alice", "--reason", "x").wantOut(canaryBypass).wantNot(canarySecret, canaryRecovery)
	runCLI(t, newFake(), "enrolment", "open", "alice", "--code").wantOut(canaryBypass).wantNot(canarySecret, canaryRecovery)
}

func TestBypass(t *testing.T) {
	f := newFake()
	s := runCLI(t, f, "bypass", "alice", "--for", "3d", "--reason", " phone at home ").wantExit(0)
	s.wantOut("Bypass code for alice: 1234-5678-9012", "until 2026-11-25 10:20:30")
	r := asked[*adminv1.CreateBypassRequest](f)[0]
	if r.GetValidFor().AsDuration() != 72*time.Hour || r.GetReason() != "phone at home" {
		t.Errorf("%v", r)
	}
	v := runCLI(t, f, "bypass", "alice", "--reason", "x", "--json").wantExit(0).object()
	if v["code"] != canaryBypass || v["expires"] != "2026-11-22T11:20:30Z" || v["user"] != "alice" {
		t.Errorf("%v", v)
	}
	runCLI(t, f, "bypass", "alice", "--reason", strings.Repeat("x", 201)).wantExit(5)
	runCLI(t, f, "bypass", "alice", "--reason", "  ").wantExit(5).wantErr("--reason")
	runCLI(t, f, "bypass", "nobody", "--reason", "x").wantExit(4)
}

func TestRecoveryAndUnlockJSON(t *testing.T) {
	if v := runCLI(t, newFake(), "recovery", "alice", "--json").wantExit(0).object(); len(v["recovery_codes"].([]any)) != 2 || v["user"] != "alice" {
		t.Errorf("%v", v)
	}
	if v := runCLI(t, newFake(), "unlock", "alice", "--json").wantExit(0).object(); v["name"] != "alice" || v["locked"] != false {
		t.Errorf("%v", v)
	}
}

func TestUserList(t *testing.T) {
	s := runCLI(t, newFake(), "user", "list").wantExit(0)
	lines := strings.Split(s.out, "\n")
	if !strings.HasPrefix(lines[1], "alice  uid:1000  SHA1/6") || !strings.HasPrefix(lines[2], "bob    uid:1001  SHA256/8") {
		t.Errorf("%s", s.out)
	}
	s.wantOut("locked 14m30s", "pending: carol (from oath")
	v := runCLI(t, newFake(), "user", "list", "--json").wantExit(0).object()
	if len(v["users"].([]any)) != 2 || len(v["pending"].([]any)) != 1 {
		t.Errorf("%v", v)
	}
}

func TestUserShow(t *testing.T) {
	runCLI(t, newFake(), "user", "show", "bob").wantExit(0).wantOut("bob (uid:1001)", "SHA256, 8 digits", "for another 14m30s", "sallyport unlock bob")
	v := runCLI(t, newFake(), "user", "show", "bob", "--json").wantExit(0).object()
	if v["locked"] != true || v["locked_seconds"] != 870.0 || v["digits"] != 8.0 {
		t.Errorf("%v", v)
	}
	runCLI(t, newFake(), "user", "show", "nobody").wantExit(4).wantErr("nobody")
}

func TestUserRemoveAsksOnATerminal(t *testing.T) {
	f := newFake()
	newSession(t, f).tty("n").run("user", "remove", "alice").wantExit(1).wantErr("nothing was changed")
	newSession(t, f).tty("").run("user", "remove", "alice").wantExit(1)
	if n := len(asked[*adminv1.UserRequest](f)); n != 0 {
		t.Fatalf("removed %d times without a yes", n)
	}
	newSession(t, f).tty("yes").run("user", "remove", "alice").wantExit(0).wantOut("no longer enrolled")
	newSession(t, f).tty().run("user", "remove", "alice", "--yes").wantExit(0)
	runCLI(t, f, "user", "remove", "alice").wantExit(0)
	if n := len(asked[*adminv1.UserRequest](f)); n != 3 {
		t.Errorf("removed %d times", n)
	}
}

func TestEvents(t *testing.T) {
	f := newFake()
	s := runCLI(t, f, "events", "--user", "alice", "--last", "5", "--after", "9").wantExit(0)
	want := "2026-11-22 10:20:30  login_attempt       alice         allow ok with totp sshd remote from 192.0.2.7\n" +
		`2026-11-22 10:21:30  login_attempt       bob\x1b[31m   deny wrong_code sudo` + "\n"
	if s.out != want {
		t.Errorf("got:\n%swant:\n%s", s.out, want)
	}
	if r := asked[*adminv1.EventsRequest](f)[0]; r.GetUser() != "alice" || r.GetLast() != 5 || r.GetAfter() != 9 || r.GetFollow() {
		t.Errorf("%v", r)
	}
	s = runCLI(t, f, "events", "--json").wantExit(0)
	if lines := strings.Split(strings.TrimSpace(s.out), "\n"); len(lines) != 2 || lines[0] != eventAlice {
		t.Errorf("%q", lines)
	}
}

func TestEventsThatDoNotParseAreOneLineStill(t *testing.T) {
	f := newFake()
	f.events = []string{"{\"a\":\n1}", "garbage\n\x1b", ""}
	s := runCLI(t, f, "events", "--json").wantExit(0)
	lines := strings.Split(strings.TrimSpace(s.out), "\n")
	if len(lines) != 3 {
		t.Fatalf("%q", lines)
	}
	for _, l := range lines {
		if !json.Valid([]byte(l)) {
			t.Errorf("not JSON: %q", l)
		}
	}
	runCLI(t, f, "events").wantExit(0).wantNot("\x1b")
}

func TestEventsFollow(t *testing.T) {
	f := newFake()
	s := newSession(t, f)
	out := newLockedBuffer()
	s.deps.Stdout, s.deps.Stderr = out, newLockedBuffer()
	done := make(chan int)
	go func() { done <- Main([]string{"events", "--follow", "--json", "--runtime-dir", s.dir}, s.deps) }()
	out.await(t, "wrong_code")
	f.follow <- `{"seq":3,"event":"user_unlocked","user":"bob"}`
	out.await(t, "user_unlocked")
	close(f.follow)
	if exit := <-done; exit != 0 {
		t.Errorf("exit %d", exit)
	}
}

func TestColourOnlyOnATerminalAndNoColor(t *testing.T) {
	runCLI(t, newFake(), "status").wantNot("\x1b[")
	newSession(t, newFake()).tty().run("status").wantOut("\x1b[32mhealthy\x1b[0m")
	for name, value := range map[string]string{"NO_COLOR": "1", "TERM": "dumb"} {
		s := newSession(t, newFake()).tty()
		s.deps.Getenv = func(n string) string {
			if n == name {
				return value
			}
			return ""
		}
		s.run("status").wantExit(0).wantNot("\x1b[")
	}
	newSession(t, newFake()).tty().run("status", "--json").wantNot("\x1b[")
}

func TestConfig(t *testing.T) {
	s := runCLI(t, newFake(), "config", "show").wantExit(0)
	s.wantOut(`state_dir = "/var/lib/sallyport"`, "# default", "# /etc/sallyport/sallyport.toml:7")
	runCLI(t, newFake(), "config", "check").wantExit(0).wantOut(clean(config.DefaultPath) + ": ok")

	down := newSession(t, nil)
	down.run("config", "show").wantExit(0).wantOut("the agent is not running", "this is what the file says", `state_dir = "/x"`)
	if v := down.run("config", "show", "--json").wantExit(0).object(); v["running"] != false {
		t.Errorf("%v", v)
	}
	// A draft may be the caller's own; what the agent reads may not.
	down.deps.CheckConfig = func(file string, draft bool) (CheckedConfig, error) {
		return CheckedConfig{Unknown: []string{fmt.Sprintf("%s, %v", file, draft)}}, nil
	}
	down.run("config", "check", "other.toml").wantExit(0).wantOut("not known: other.toml, true; it is ignored")
	down.run("config", "check").wantExit(0).wantOut(clean(config.DefaultPath) + ", false")
	if v := down.run("config", "check", "--json").wantExit(0).object(); len(v["unknown"].([]any)) != 1 {
		t.Errorf("%v", v)
	}
	down.deps.CheckConfig = func(file string, _ bool) (CheckedConfig, error) {
		return CheckedConfig{}, &os.PathError{Op: "read", Path: file, Err: os.ErrInvalid}
	}
	down.run("config", "check", "other.toml").wantExit(1).wantErr("other.toml")
	down.run("config", "show").wantExit(1).wantErr("the agent is not running either")
	down.run("status").wantExit(2).wantOut("config_broken")
}

func TestVault(t *testing.T) {
	f := newFake()
	runCLI(t, f, "vault", "init").wantExit(5).wantErr("--yes")
	newSession(t, f).tty("n").run("vault", "accept").wantExit(1)
	if len(f.requests) != 0 {
		t.Fatalf("%v", f.requests)
	}
	runCLI(t, f, "vault", "init", "--yes").wantExit(0).wantOut("The vault is open")
	newSession(t, f).tty("y").run("vault", "accept").wantExit(0)
	if v := runCLI(t, f, "vault", "rekey", "--to", "tpm", "--yes", "--json").wantExit(0).object(); v["keychain"] != "tpm" {
		t.Errorf("%v", v)
	}
}

func TestVaultInitWithNoAgentRunning(t *testing.T) {
	s := newSession(t, nil)
	var did []string
	s.deps.LocalVault = func(action string, target Target) (*adminv1.VaultStatus, error) {
		did = append(did, action)
		if target.RuntimeDir != s.dir {
			t.Errorf("%v", target)
		}
		return &adminv1.VaultStatus{State: "open", Keychain: "file"}, nil
	}
	s.run("vault", "init", "--yes").wantExit(0)
	s.run("vault", "accept", "--yes").wantExit(0)
	s.run("vault", "rekey", "--to", "file", "--yes").wantExit(2)
	s.run("vault", "wipe").wantExit(5).wantErr("--yes")
	s.run("vault", "wipe", "--yes").wantExit(0).wantOut("The vault's key is destroyed")
	if quoted(did) != `["init" "accept" "wipe"]` {
		t.Errorf("%v", did)
	}
	// A refusal by a running agent is no reason to go behind its back.
	f := newFake()
	f.deny = status.Error(codes.PermissionDenied, "only root")
	up := newSession(t, f)
	up.deps.LocalVault = func(string, Target) (*adminv1.VaultStatus, error) { t.Error("done locally"); return nil, nil }
	up.run("vault", "init", "--yes").wantExit(3)
}

func TestEnrolmentWindow(t *testing.T) {
	f := newFake()
	runCLI(t, f, "enrolment", "open", "alice", "--for", "2h", "--code").wantExit(0).wantOut("until 2026-11-22 12:20:30", canaryBypass)
	v := runCLI(t, f, "enrollment", "close", "alice", "--json").wantExit(0).object()
	if v["open"] != false || v["user"] != "alice" {
		t.Errorf("%v", v)
	}
	r := asked[*adminv1.OpenEnrolmentRequest](f)
	if len(r) != 2 || !r[0].GetWithCode() || r[0].GetValidFor().AsDuration() != 2*time.Hour || !r[1].GetClose() {
		t.Errorf("%v", r)
	}
}

func TestManAndCompletionAndHelp(t *testing.T) {
	dir := t.TempDir()
	s := newSession(t, nil)
	s.run("man", dir).wantExit(0)
	page, err := os.ReadFile(filepath.Join(dir, "sallyport-user-remove.1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{".TH SALLYPORT", ".SH EXIT STATUS", "the agent is not running", `\-\-yes`} {
		if !strings.Contains(string(page), want) {
			t.Errorf("the page lacks %q:\n%s", want, page)
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		s.run("completion", shell).wantExit(0).wantOut("sallyport")
	}
	s.run("help").wantExit(0).wantOut("Exit status:", "2  the agent is not running", "Helpdesk:")
	s.run().wantExit(0).wantOut("Exit status:")
	s.run("bypass", "--help").wantExit(0).wantOut("--reason")
	if v := s.run("version", "--json").wantExit(0).object(); v["version"] != "9.9.9" {
		t.Errorf("%v", v)
	}
}

func TestCompletionOffersTheEnrolled(t *testing.T) {
	newSession(t, newFake()).run("--runtime-dir", "", "__complete", "unlock", "").wantNot("panic")
	s := newSession(t, newFake())
	dir := s.dir
	s.dir = ""
	s.run("__complete", "--runtime-dir", dir, "unlock", "").wantOut("alice", "bob")
}

func TestHowLong(t *testing.T) {
	for d, want := range map[time.Duration]string{
		30 * time.Second: "30s", 14*time.Minute + 30*time.Second: "14m30s", 15 * time.Minute: "15m", 10 * time.Minute: "10m",
		2*time.Hour + 5*time.Minute: "2h5m", 2 * time.Hour: "2h", 2*time.Hour + 10*time.Minute: "2h10m", 76 * time.Hour: "3d4h",
		72 * time.Hour: "3d", 72*time.Hour + 10*time.Hour: "3d10h",
	} {
		if got := howLong(d); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}
