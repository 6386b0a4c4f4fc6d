//go:build linux

package agenttest

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	loginv1 "sallyport/proto/sallyport/login/v1"
)

var nextGID atomic.Int64

// newGroup makes a group; its name is unlike any other's.
func newGroup(t *testing.T, members ...*account) string {
	t.Helper()
	gid := int(31000 + nextGID.Add(1))
	name := fmt.Sprintf("at-group-%d", gid)
	addGroup(t, name, gid, members...)
	return name
}

// duo_unix 050d854, c06ab97 and CVE-2025-49012: groups that cannot be looked up,
// groups of the same name, lists of exemptions only.
func TestGroups(t *testing.T) {
	need(t)
	member, stranger := newUser(t), newUser(t)
	group := newGroup(t, member)
	for name, c := range map[string]struct {
		policy           string
		member, stranger loginv1.Verdict_Decision // skip, or deny: asked, with no second factor
	}{
		"required group":                     {fmt.Sprintf("[policy.required]\ngroups = [%q]", group), deny, skip},
		"exempt group":                       {fmt.Sprintf("[policy]\nask = \"required\"\n[policy.exempt]\ngroups = [%q]", group), skip, deny},
		"required group that is not there":   {"[policy.required]\ngroups = [\"at-no-such-group\"]", deny, deny},
		"exempt group that is not there":     {"[policy]\nask = \"required\"\n[policy.exempt]\ngroups = [\"at-no-such-group\"]", deny, deny},
		"not there, then required":           {fmt.Sprintf("[policy.required]\ngroups = [\"at-no-such-group\", %q]", group), deny, deny},
		"exempt wins over a failed look-up":  {fmt.Sprintf("[policy.required]\ngroups = [\"at-no-such-group\"]\n[policy.exempt]\nuids = [%d]", member.uid), skip, deny},
		"only exemptions":                    {fmt.Sprintf("[policy.exempt]\ngroups = [%q]", group), skip, skip},
		"an empty list":                      {"[policy.required]\ngroups = []\n[policy.exempt]\ngroups = []", skip, skip},
		"required by number":                 {fmt.Sprintf("[policy.required]\ngroups = [%q]", group[len("at-group-"):]), deny, skip},
		"required by a number nobody has":    {"[policy.required]\ngroups = [\"3999999\"]", skip, skip},
		"exempt user who is not there":       {"[policy]\nask = \"required\"\n[policy.exempt]\nusers = [\"at-nobody\"]", deny, deny},
		"required user":                      {fmt.Sprintf("[policy.required]\nusers = [%q]", member.name), deny, skip},
		"required uid":                       {fmt.Sprintf("[policy.required]\nuids = [%d]", member.uid), deny, skip},
		"required service":                   {"[policy.required]\nservices = [\"login\"]", deny, deny},
		"another service required":           {"[policy.required]\nservices = [\"sshd\"]", skip, skip},
		"exempt service":                     {"[policy]\nask = \"required\"\n[policy.exempt]\nservices = [\"login\"]", skip, skip},
		"required and exempt":                {fmt.Sprintf("[policy.required]\ngroups = [%q]\n[policy.exempt]\nusers = [%q]", group, member.name), skip, skip},
		"primary group, not in the list":     {"[policy.required]\ngroups = [\"users\"]", deny, deny},
		"required range, login at this host": {"[policy.required]\nremote = [\"0.0.0.0/0\"]", skip, skip},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := startAgent(t, c.policy)
			for u, decision := range map[*account]loginv1.Verdict_Decision{member: c.member, stranger: c.stranger} {
				r := a.as(u, "123456")
				if r.err != nil || r.decision != decision || (len(r.prompts) == 1) != (decision == deny) {
					t.Errorf("%s: %s, prompts %q, want %v", u.name, r, r.prompts, decision)
				}
				// Who is not asked was not asked in the account stage either.
				account := a.login(0, begin(u.name, func(b *loginv1.Begin) { b.Stage = loginv1.Stage_STAGE_ACCOUNT }))
				if account.err != nil || account.decision != decision || len(account.prompts) != 0 {
					t.Errorf("%s: account: %s, want %v", u.name, account, decision)
				}
			}
		})
	}
	t.Run("two groups of one name", func(t *testing.T) {
		t.Parallel()
		inFirst, inSecond := newUser(t), newUser(t)
		name := newGroup(t, inFirst)
		addGroup(t, name, 39000, inSecond)
		a := startAgent(t, "[policy]", `ask = "required"`, "[policy.exempt]", fmt.Sprintf("groups = [%q]", name))
		want(t, a.as(inFirst), skip, "exempt")
		want(t, a.as(inSecond, "123456"), deny, "not_enrolled")
	})
	t.Run("membership that is no longer reported", func(t *testing.T) {
		t.Parallel()
		// glibc's getgrouplist hides a directory that is down: it reads as 'not a
		// member'.
		u := newUser(t)
		name := newGroup(t, u)
		a := startAgent(t, "[policy.required]", fmt.Sprintf("groups = [%q]", name))
		want(t, a.as(u, "123456"), deny, "not_enrolled")
		passwdMu.Lock()
		replaceFile(t, "/etc/group", func(s string) string { return strings.Replace(s, ":"+u.name+"\n", ":\n", 1) })
		passwdMu.Unlock()
		r := a.as(u, "123456")
		want(t, r, deny, "not_enrolled")
		events := a.events()
		if rule := events[len(events)-1].Rule; !strings.Contains(rule, "last seen") {
			t.Errorf("the rule was %q", rule)
		}
		a.kill()
		a.start()
		want(t, a.as(u, "123456"), deny, "not_enrolled")
	})
}

// A downgrade: a hook that can do less does not get the weaker flow.
func TestMissingCapabilitiesEarnNothing(t *testing.T) {
	need(t)
	a := startAgent(t, "[policy]", `ask = "required"`, "[enrolment]", "at_login = true")
	u, phone := a.enrolled()
	for name, c := range map[string]*loginv1.Capabilities{"none": nil, "all": {LiveNotices: true, CancelPrompt: true, Qr: true, Choices: true}} {
		t.Run(name, func(t *testing.T) {
			r := a.login(0, begin(u.name, func(b *loginv1.Begin) { b.Capabilities = c }), phone.wrong(t))
			want(t, r, deny, "wrong_code")
			if len(r.prompts) != 1 {
				t.Errorf("prompts %q", r.prompts)
			}
		})
	}
}

// Every scenario and hook asks alike: none is a path that nobody covered.
func TestEveryScenarioAsks(t *testing.T) {
	need(t)
	a := startAgent(t)
	u, phone := a.enrolled()
	for scenario, name := range loginv1.Scenario_name {
		for hook := range loginv1.HookKind_name {
			if scenario == 0 || hook == 0 {
				continue
			}
			a.cli(nil, "unlock", u.name)
			r := a.login(0, begin(u.name, func(b *loginv1.Begin) {
				b.Scenario, b.Hook = loginv1.Scenario(scenario), loginv1.HookKind(hook)
				b.Service = []byte("a service that nobody knows")
			}), phone.wrong(t))
			want, prompts := "wrong_code", 1
			switch {
			case loginv1.HookKind(hook) == loginv1.HookKind_HOOK_KIND_CREDENTIAL_PROVIDER: // there is none on this system
				want, prompts = "protocol_error", 0
			case loginv1.HookKind(hook) == loginv1.HookKind_HOOK_KIND_AUTHORIZATION_PLUGIN && loginv1.Scenario(scenario) == loginv1.Scenario_SCENARIO_REMOTE: // it is at the screen
				want, prompts = "protocol_error", 0
			}
			if r.decision != deny || r.reason != want || len(r.prompts) != prompts {
				t.Errorf("%s: %s", name, r)
			}
		}
	}
}
