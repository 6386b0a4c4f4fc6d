package cli

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"sallyport/internal/policy"
	adminv1 "sallyport/proto/sallyport/admin/v1"
)

func (f *fakeAgent) ExplainPolicy(_ context.Context, r *adminv1.ExplainPolicyRequest) (*adminv1.ExplainPolicyResponse, error) {
	if r.GetUser() == "nobody" {
		return &adminv1.ExplainPolicyResponse{Effect: "ask", Outcome: "asked", Rule: "default=required", Why: "a second factor is required"}, f.got(r)
	}
	if r.GetHook() == "x" {
		return nil, status.Error(codes.InvalidArgument, "\"x\" is no hook")
	}
	return &adminv1.ExplainPolicyResponse{User: "alice", Key: "uid:1000", Effect: "ask", Outcome: "asked", Rule: "rule=admins\x1b[31m", Why: "push is required, by rule=admins",
		Factors: []string{"push"}, Digits: 3, Remember: durationpb.New(15 * time.Minute),
		Steps: []*adminv1.PolicyStep{{Rule: "rule=office", Source: "computer", Outcome: "cannot_tell", Text: "remote is not known"}, {Rule: "rule=admins", Source: "organisation", Outcome: "decides"}},
		Facts: []*adminv1.PolicyFact{{Name: "service", Value: `"sshd"`}, {Name: "device.encrypted", Text: "the system does not say"}}, Offline: standings[r.GetUser()]}, f.got(r)
}

// standings are people of the fake agent, as they stand without contact.
var standings = map[string]*adminv1.OfflineStanding{
	"unlimited": {},
	"near":      {Limited: true, LoginsLeft: wrapperspb.UInt32(1), Left: durationpb.New(51 * time.Hour)},
	"counted":   {Limited: true, Reached: true, LoginsLeft: wrapperspb.UInt32(0), Challenge: true},
	"away":      {Limited: true, Reached: true, Left: durationpb.New(0)},
}

// TestExplainSaysWhatTheTimeWithoutContactDoes, and the way out.
func TestExplainSaysWhatTheTimeWithoutContactDoes(t *testing.T) {
	for user, want := range map[string]string{
		"unlimited": "no limit: codes are taken for as long",
		"near":      "codes are taken: 1 more login, 2d3h without contact left (policy.offline)",
		"counted":   "no code is taken: too long without contact (policy.offline). Connect this computer; or the helpdesk answers the challenge that the prompt shows",
		"away":      "Connect this computer; or root here makes a bypass code: sallyport bypass",
	} {
		runCLI(t, newFake(), "policy", "explain", user, "--offline").wantExit(0).wantOut("  offline   ", want)
		v, _ := runCLI(t, newFake(), "policy", "explain", user, "--offline", "--json").wantExit(0).object()["offline"].(map[string]any)
		o, left, seconds := standings[user], v["logins_left"], v["left_seconds"]
		if v["limited"] != o.GetLimited() || v["reached"] != o.GetReached() || v["challenge"] != o.GetChallenge() ||
			(left != nil) != (o.GetLoginsLeft() != nil) || (seconds != nil) != (o.GetLeft() != nil) || seconds != nil && seconds != o.GetLeft().AsDuration().Seconds() {
			t.Errorf("%s: %v", user, v)
		}
	}
	runCLI(t, newFake(), "policy", "explain", "alice").wantExit(0).wantNot("  offline   ")
	if v, said := runCLI(t, newFake(), "policy", "explain", "alice", "--json").object()["offline"]; v != nil || !said {
		t.Errorf("%v, %v", v, said)
	}
}

func TestPolicyExplain(t *testing.T) {
	f := newFake()
	s := runCLI(t, f, "policy", "explain", "alice", "--service", "sshd", "--from", "203.0.113.7", "--offline", "--session", "/dev/pts/3", "--not-root", "--at", "2026-11-22 22:30").wantExit(0)
	s.wantOut("alice is asked", "rule=admins", "push; a bypass of the helpdesk always does", "3 digits", "15", "rule=office", "cannot tell", "remote is not known",
		"organisation", "decides", `"sshd"`, "device.encrypted", "not known").wantNot("\x1b")
	r := asked[*adminv1.ExplainPolicyRequest](f)[0]
	if r.GetService() != "sshd" || r.GetRemoteHost() != "203.0.113.7" || r.GetNetwork() != "offline" || r.GetSession() != "/dev/pts/3" || !r.GetNotRoot() ||
		r.GetAt().AsTime().Format(time.RFC3339) != "2026-11-22T22:30:00Z" {
		t.Errorf("asked for %v", r)
	}
	v := runCLI(t, f, "policy", "explain", "alice", "--json").wantExit(0).object()
	if v["outcome"] != "asked" || v["digits"] != 3.0 || v["remember_seconds"] != 900.0 || len(v["steps"].([]any)) != 2 || len(v["facts"].([]any)) != 2 {
		t.Errorf("%v", v)
	}
	runCLI(t, f, "policy", "explain", "nobody").wantExit(0).wantOut("nobody, whom this computer does not know, is asked")
	runCLI(t, f, "policy", "explain", "alice", "--hook", "x").wantExit(ExitUsage).wantErr("no hook")
	runCLI(t, f, "policy", "explain", "alice", "--online", "--offline").wantExit(ExitUsage)
	runCLI(t, f, "policy", "explain", "alice", "--at", "tonight").wantExit(ExitUsage).wantErr("22:30")
	runCLI(t, f, "policy", "explain").wantExit(ExitUsage)
	runCLI(t, nil, "policy", "explain", "alice").wantExit(ExitNotRunning)
}

const tableOfTwo = `[[case]]
name = "at night"
at = 2026-11-22T23:00:00Z
expect = "deny"
[[case]]
name = "at noon"
at = 2026-11-22T12:00:00Z
expect = "skip"
`

func TestPolicyTest(t *testing.T) {
	file := filepath.Join(t.TempDir(), "table.toml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	rules := "[policy]\nrules = ['night: deny when hour >= 22', 'day: any']\n"
	write(rules + tableOfTwo)
	s := runCLI(t, nil, "policy", "test", file).wantExit(1) // no agent is needed
	s.wantOut("not as expected: at noon (decided by rule=day)", "effect: got ask, expected skip", "2 cases, 1 not as expected").wantNot("at night")
	v := runCLI(t, nil, "policy", "test", file, "--json").wantExit(1).object()
	if v["ok"] != false || len(v["cases"].([]any)) != 2 {
		t.Errorf("%v", v)
	}
	write(rules + strings.Replace(tableOfTwo, `"skip"`, `"ask"`, 1))
	runCLI(t, nil, "policy", "test", file).wantExit(0).wantOut("2 cases, all as expected")

	// Without rules of its own it is about those of the configuration.
	write(tableOfTwo)
	w := newSession(t, nil)
	w.deps.CheckConfig = func(string, bool) (CheckedConfig, error) {
		return CheckedConfig{Policy: policy.Rules{Ask: policy.AskEnrolled, Rules: []string{"night: deny when hour >= 22", "day: skip"}}}, nil
	}
	w.run("policy", "test", file).wantExit(0).wantOut("all as expected")

	for name, text := range map[string]string{"no case": rules, "a rule that is none": "[policy]\nrules = ['x']\n" + tableOfTwo, "an unknown word": rules + tableOfTwo + "expects = 1\n"} {
		write(text)
		if s := runCLI(t, nil, "policy", "test", file); s.exit == 0 || s.err == "" {
			t.Errorf("%s: exit %d, %q", name, s.exit, s.err)
		}
	}
	runCLI(t, nil, "policy", "test", file+".not").wantExit(ExitUsage)
}

func TestPolicyShow(t *testing.T) {
	f := newFake()
	f.policy = &adminv1.ShowConfigResponse{Values: []*adminv1.ConfigValue{
		{Key: "policy.rules", Value: `["night: deny when hour < 6", 'all: any', "late: totp"]`, Source: "sallyport.toml:7"},
		{Key: "policy.ask", Value: `"enrolled"`, Source: "default"}, {Key: "policy.exempt.users", Value: `["rescue"]`, Source: "sallyport.toml:9"}},
		OrganisationPolicy: []byte(`{"Ask":"required","Required":{"Groups":["staff"]},"Rules":["theirs: push"]}`)}
	runCLI(t, f, "policy", "show").wantExit(0).wantOut("whoever is enrolled", "1  night: deny", "2  all: any", `"all" always fits, so that the 1 rule behind it never decide`,
		`policy.exempt.users = ["rescue"]`, "sallyport.toml:9", `the organisation: ask = "required"`, "1  theirs: push", "required.groups = staff").wantNot("policy.ask")
	v := runCLI(t, f, "policy", "show", "--json").wantExit(0).object()
	if len(v["rules"].([]any)) != 3 || v["organisation"] == nil || v["source"] != "sallyport.toml:7" {
		t.Errorf("%v", v)
	}
	runCLI(t, newFake(), "policy", "show").wantExit(0).wantOut("whoever is enrolled").wantNot("organisation")
	runCLI(t, nil, "policy", "show").wantExit(ExitNotRunning)
}
