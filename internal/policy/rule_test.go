package policy_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/internal/identity"
	"sallyport/internal/policy"
)

// TestWhatIsWrongWithARule: the error names the rule, where it is wrong, and what to
// write instead.
func TestWhatIsWrongWithARule(t *testing.T) {
	for line, says := range map[string]string{
		``:                                 `"": has no colon; a rule is written NAME: EFFECT when CONDITION`,
		`deny when online`:                 `has no colon`,
		`: deny`:                           `the name is missing`,
		` a: deny`:                         `the name begins or ends with a space`,
		"a\u202eb: deny":                   `a character in it that cannot be shown`,
		"a: deny when user == \"b\x00\"":   `a character in it that cannot be shown`,
		"a: deny when user == \"\xff\"":    `is not UTF-8`,
		strings.Repeat("n", 65) + `: deny`: `more than 64 characters`,
		`a: deny when ` + strings.Repeat("!", 1000) + `online`: `there is room for 1000: make two rules of it`,

		`a:`:                         `says nothing to do`,
		`a: allow`:                   `"allow" is nothing to do; it may be skip, deny, any`,
		`a: SKIP`:                    `"SKIP" is nothing to do`,
		`a: any or totp`:             `"any" is nothing to do`,
		`a: totp or totp`:            `totp is named twice`,
		`a: bypass`:                  `a bypass from the helpdesk always counts and is not named`,
		`a: skip, remember 15m`:      `"skip" goes with nothing else`,
		`a: deny, number 3`:          `"deny" goes with nothing else`,
		`a: any, number 1`:           `number is "1"; it must be 2 to 6`,
		`a: any, number 7`:           `number is "7"`,
		`a: totp, number 3`:          `push is not named`,
		`a: any, remember 59s`:       `remember is "59s"; it must be 1m to 168h`,
		`a: any, remember 169h`:      `remember is "169h"`,
		`a: any, remember`:           `remember is ""`,
		`a: any, number 2, number 2`: `number is there twice`,
		`a: any, forever`:            `"forever" is not known behind the factors`,
		`a: any when`:                `nothing follows "when"`,
		`a: any whenever`:            `"any whenever" is nothing to do`,

		`a: any when user`:                                    `the condition is a text; it has to be true or false, such as user == "alice": when >>>user`,
		`a: any when user = "alice"`:                          `"=" is not expected here; and is written &&, or is ||, equal is ==: when user >>>= "alice"`,
		`a: any when user == alice`:                           `there is no "alice"; docs/policy.md lists what there is, and texts are in quotes: when user == >>>alice`,
		`a: any when online and local`:                        `"and" is not expected here; and is written &&`,
		`a: any when user == "alice`:                          `the text has no end`,
		`a: any when user == "CORP\alice"`:                    `a backslash in a text is written \\`, // \a is the bell
		`a: any when user == "CORP\nora"`:                     `a backslash in a text is written \\`, // and \n the end of the line
		`a: any when user == "CORP\maya"`:                     `a backslash in a text is written \\`,
		`a: any when hour == "6"`:                             `a number and a text cannot be compared: when hour >>>== "6"`,
		`a: any when hour > 22 || 6`:                          `this is a number, and has to be true or false`,
		`a: any when (online`:                                 `) is missing`,
		`a: any when online)`:                                 `")" is not expected here`,
		`a: any when groups`:                                  `the condition is a set of groups`,
		`a: any when user in groups`:                          `this has to be written here, in quotes: when >>>user in groups`,
		`a: any when "%wheel" in groups`:                      `the group "%wheel" begins with "%"`,
		`a: any when "S-1-2-1" in groups`:                     `tells how somebody logs on, not who`,
		`a: any when user in "alice"`:                         `a text cannot be in a text here`,
		`a: any when user in []`:                              `the list is empty`,
		`a: any when uid in ["a"]`:                            `a number cannot be in a list here`,
		`a: any when remote.within("office")`:                 `"office" is not an address or a range such as 192.0.2.0/24: when remote.within(>>>"office")`,
		`a: any when remote.within()`:                         `within is for remote and names networks`,
		`a: any when user.within("::/0")`:                     `within is for remote`,
		`a: any when device.disk`:                             `there is no "device.disk"`,
		`a: any when user.size() > 3`:                         `there is no size of a text with 0 arguments`,
		`a: any when user.lower("x")`:                         `a text has startsWith, endsWith, contains, matches and atLeast`,
		`a: any when user.matches(session)`:                   `this has to be written here, in quotes`,
		`a: any when user.matches("(")`:                       `"(" is not a pattern`,
		`a: any when user.matches("((a{9}){9}){9}")`:          `the pattern is too large`,
		`a: any when device.os_version.atLeast("x")`:          `"x" is not a version such as 12.4`,
		`a: any when last.age < duration("8 h")`:              `"8 h" is not a time such as 8h or 90m`,
		`a: any when now < timestamp("tomorrow")`:             `"tomorrow" is not a moment such as 2026-12-24T12:00:00Z`,
		`a: any when now < timestamp("9999-01-01T00:00:00Z")`: `is not a moment`,
		`a: any when now.getHours() < 3`:                      `there is no getHours of a timestamp`,
		`a: any when hour + 1 < 3`:                            `there is no reckoning in conditions: when hour >>>+ 1 < 3`,
		`a: any when [1].exists(x, true)`:                     `there is no`,
		`a: any when online ? 1 : 2`:                          `the condition is a number`,
		`a: any when 99999999999999999999 > uid`:              `is not a number`,
		`a: any when ` + strings.Repeat("(", 60) + `online` + strings.Repeat(")", 60): `the parentheses are too deep`,
	} {
		r := policy.Rules{Ask: policy.AskEnrolled, Rules: []string{"fine: any", line}}
		err := r.Validate()
		if err == nil || !strings.HasPrefix(err.Error(), "policy.rules: rule 2, ") || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, want %s", line, err, says)
		}
		// And whoever compiles it nevertheless gets a policy that requires.
		p, err := policy.Compile(r, nil, false)
		if d := p.Decide(alice, company); err == nil || d.Effect != policy.Ask || d.Rule != "rules (cannot be read)" {
			t.Errorf("%q: %+v, %v", line, d, err)
		}
		p, err = policy.Compile(policy.Rules{Ask: policy.AskEnrolled}, &r, true)
		if d := p.Decide(alice, company); err == nil || d.Effect != policy.Ask || d.Rule != "default=required (the organisation's policy cannot be read)" {
			t.Errorf("%q: %+v, %v", line, d, err)
		}
	}
	if err := (&policy.Rules{Ask: policy.AskEnrolled, Rules: []string{"a: any", "b: any", "a: deny"}}).Validate(); err == nil || !strings.Contains(err.Error(), `rule 3, "a": there is another rule of that name`) {
		t.Error(err)
	}
	many := manyRules(policy.MaxRules + 1)
	if err := many.Validate(); err == nil || !strings.Contains(err.Error(), "has 1001 rules; there is room for 1000") {
		t.Error(err)
	}
}

// TestRulesThatAreFine are on the edge of what may be written.
func TestRulesThatAreFine(t *testing.T) {
	for _, line := range []string{
		`everybody: any`, `everybody:any`, strings.Repeat("n", 64) + `: deny`, `Zürich, Büro (3. Stock): skip when local`, `a when b: any when online`,
		`a: totp  or push,number 2 ,  remember 168h when online`, `a: recovery`, `a: push, number 6`, `a: any, remember 1m`, "a: any when online\t||\tlocal",
		`a: any when "domain users" in groups && "CORP\\Domain Admins" in groups && "r&d" in groups && "1000" in groups`, `a: any when user == r'CORP\maya'`, `a: any when user == "when x: y"`,
		`a: any when !(!online) == true ? hour in [1, 2, -3] : uid <= 0xffffffff`,
	} {
		r := policy.Rules{Ask: policy.AskEnrolled, Rules: []string{line}}
		if err := r.Validate(); err != nil {
			t.Errorf("%q: %v", line, err)
		}
	}
}

// TestNothingUncertainWeakensRules draws rules at random. Whatever is not known, and
// whatever a program that is not root claims, at least as much is asked as without;
// and the organisation beside root never asks less than root alone.
func TestNothingUncertainWeakensRules(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	pick := func(list ...string) string { return list[r.IntN(len(list))] }
	draw := func() policy.Rules {
		rules := policy.Rules{Ask: pick(policy.AskEnrolled, policy.AskRequired)}
		for i := range r.IntN(5) {
			atom := func() string {
				return pick(`"staff" in groups`, `"ops" in groups`, `user == "alice"`, `uid == 1001`, `service == "sshd"`, `remote.within("192.0.2.0/24")`, `local`, `online`, `hour < 12`, `device.encrypted`, `last.age < duration("1h")`, `session == "tty1"`)
			}
			line := fmt.Sprintf("rule %d: %s", i, pick("skip", "skip", "deny", "any", "any, remember 1h", "totp", "push or totp, number 3, remember 15m", "recovery"))
			switch r.IntN(4) {
			case 0:
				line += " when " + atom()
			case 1:
				line += " when " + atom() + pick(" && ", " || ") + atom()
			case 2:
				line += " when !(" + atom() + ")" + pick(" && ", " || ") + atom()
			}
			rules.Rules = append(rules.Rules, line)
		}
		return rules
	}
	order := func(d policy.Decision) int {
		switch {
		case d.Effect == policy.Deny:
			return 4
		case d.Effect == policy.Ask && d.Factors != nil:
			return 3
		}
		return strength(d)
	}
	for round := range 20_000 {
		rules, central := draw(), draw()
		who := from([]policy.Subject{alice, bob, ghost}[r.IntN(3)], pick("192.0.2.7", "198.51.100.1"))
		if r.IntN(3) == 0 {
			who.ComesFrom("", false)
		}
		who.Service, who.Session, who.Online, who.Now = pick("sshd", "sudo"), pick("tty1", "tty2"), r.IntN(2) == 0, time.Date(2026, 11, 22, r.IntN(24), 0, 0, 0, time.UTC)
		who.Device.Encrypted, who.Last = policy.Known(r.IntN(2) == 0), policy.Known(policy.Last{Factor: pick("", "totp"), Age: time.Minute})
		fail := func(what string, got, than policy.Decision) {
			t.Fatalf("seed %d, round %d: %s: %+v where it was %+v\nrules %q\ncentral %q\nwho %+v", seed, round, what, got, than, rules.Rules, central.Rules, who)
		}
		certain := decide(rules, who, company)
		// What is not known may ask for less than a rule that denies or names factors,
		// but never lets in without.
		asks := func(what string, got policy.Decision) {
			if got.Effect == policy.Skip && certain.Effect != policy.Skip || got.Remember > certain.Remember && certain.Effect != policy.Skip {
				fail(what, got, certain)
			}
		}
		down := company
		down.failing = []string{pick("staff", "ops"), pick("staff", "ops")}
		asks("a directory is down", decide(rules, who, down))
		unknown := who
		unknown.Device.Encrypted = policy.NotKnown[bool]("")
		asks("whether the disk is encrypted is not known", decide(rules, unknown, company))
		unknown = who
		unknown.Last, unknown.Now = policy.NotKnown[policy.Last](""), time.Time{}
		asks("the time and the last factor are not known", decide(rules, unknown, company))

		claimed := who
		claimed.Trusted = false
		if d := decide(rules, claimed, company); order(d) < order(certain) || d.Remember != 0 {
			fail("a program that is not root", d, certain)
		}
		d := both(rules, central, false, who)
		if order(d) < order(certain) || d.Remember > certain.Remember && certain.Effect != policy.Skip || d.Digits < certain.Digits {
			fail("the organisation beside root", d, certain)
		}
		for _, factor := range d.Factors {
			if certain.Factors != nil && factor != policy.Bypass && !slices.Contains(certain.Factors, factor) {
				fail("a factor that root does not allow", d, certain)
			}
		}
	}
}

// HAZARD: the company's policy names groups that this computer does not have, and a
// deny for one that it has is not seen.
func TestGroupsThatAreNotThereHideNoRule(t *testing.T) {
	rules := policy.Rules{Ask: policy.AskEnrolled}
	for i := range policy.MaxRules {
		rules.Rules = append(rules.Rules, fmt.Sprintf(`rule %d: any when "group%d" in groups`, i, i))
	}
	rules.Rules[policy.MaxRules-1] = `last: deny when "staff" in groups`
	if d := decide(rules, alice, company); d.Effect != policy.Deny || d.Rule != "rule=last" {
		t.Errorf("%+v", d)
	}
}

// HAZARD: somebody gets around a rule about them by how they type their name.
func TestANameThatWasTypedIsNotKnown(t *testing.T) {
	who := alice
	who.Typed = true
	rules := policy.Rules{Ask: policy.AskEnrolled, Rules: []string{`one: deny when user == "ALICE"`, `two: skip when user != "bob"`}}
	if d := decide(rules, who, company); d.Effect != policy.Ask || !strings.HasPrefix(d.Rule, "rule=one (cannot tell: user is not known") {
		t.Errorf("%+v", d)
	}
}

func TestAGroupIsLookedUpOnceInALogin(t *testing.T) {
	waits := 0
	rules := policy.Rules{Ask: policy.AskEnrolled, Rules: make([]string, policy.MaxRules)}
	for i := range rules.Rules {
		rules.Rules[i] = fmt.Sprintf(`rule %d: deny when "staff" in groups && "group%d" in groups && hour < 0`, i, i%3)
	}
	who := alice
	who.Now = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	if d := decide(rules, who, counting{&waits}); d.Effect != policy.IfEnrolled || waits != 4 {
		t.Errorf("%+v after %d look-ups", d, waits)
	}
}

// counting is a directory where everybody is in every group.
type counting struct{ asked *int }

func (counting) IsUser(string, identity.ID) policy.Membership  { return policy.NotMember }
func (c counting) Membership(string, string) policy.Membership { *c.asked++; return policy.Member }
func (counting) LastSeen(identity.ID, string) bool             { return false }

// TestAThousandRulesCostLittle: the costliest rules that can be written, as many as
// there may be. The bounds are far from what it takes, for a machine under load with
// the race detector: what grows without bound passes any.
func TestAThousandRulesCostLittle(t *testing.T) {
	worst := map[string]string{
		"lists":    `any when user in [` + strings.Repeat(`"a",`, 220) + `"a"]`,
		"depth":    `any when ` + strings.Repeat("(", 40) + `online` + strings.Repeat(" && !online)", 40) + ` && !online`,
		"chain":    `any when !local` + strings.Repeat(" || !local", 90),
		"pattern":  `any when session.matches("(x+x+)+y") || session.matches("^(a?){40}a{40}$")`,
		"networks": `any when remote.within(` + strings.Repeat(`"10.0.0.0/8",`, 60) + `"10.0.0.0/8")`,
	}
	who := from(alice, "203.0.113.7")
	who.Session, who.Online = strings.Repeat("x", 256), true
	who.Remote = from(alice, "203.0.113.7").Remote
	for name, effect := range worst {
		if name == "chain" {
			who.ComesFrom("", false)
		}
		rules := policy.Rules{Ask: policy.AskEnrolled}
		for i := range policy.MaxRules {
			rules.Rules = append(rules.Rules, fmt.Sprintf("rule %d: %s", i, effect))
		}
		begun := time.Now()
		p, err := policy.Compile(rules, nil, false)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		compiled := time.Since(begun)
		begun = time.Now()
		if d := p.Decide(who, company); d.Effect != policy.IfEnrolled {
			t.Errorf("%s: %+v", name, d)
		}
		t.Logf("%s: compiled in %v, decided in %v", name, compiled, time.Since(begun))
		if decided := time.Since(begun); compiled > time.Minute || decided > 30*time.Second {
			t.Errorf("%s: compiled in %v, decided in %v", name, compiled, decided)
		}
	}
}
