//go:build linux

package main

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"sallyport/internal/identity"
	"sallyport/internal/policy"
)

// ruleCounts are how many rules the policy is measured with.
var ruleCounts = []int{0, 1, 100, policy.MaxRules}

// settle is how long an agent is left alone before its memory is looked at.
const settle = 2 * time.Second

// rulesFact is what so many rules cost.
type rulesFact struct {
	rules           int
	compile, decide time.Duration
	rss             int // bytes, of an idle agent with 100 users
}

// manyRules are rules of which none fits, so that each login looks at all of them.
func manyRules(n int) (lines []string) {
	for i := range n {
		lines = append(lines, fmt.Sprintf(`rule %d: any, remember 15m when service == "sshd" && remote.within("10.%d.0.0/16", "2001:db8:%x::/48") && (hour < 6 || hour >= 22) && "group%d" in groups`, i, i%256, i, i))
	}
	return lines
}

// rulesSetting is the part of a configuration that has so many rules.
func rulesSetting(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("[policy]\nrules = [\n'%s'\n]\n", strings.Join(manyRules(n), "',\n'"))
}

// nowhere is a system where nobody is in any group.
type nowhere struct{}

func (nowhere) IsUser(string, identity.ID) policy.Membership { return policy.NotMember }
func (nowhere) Membership(string, string) policy.Membership  { return policy.NotMember }
func (nowhere) LastSeen(identity.ID, string) bool            { return false }

// rules measures the policy: what a decision costs here, and what the rules add to an
// agent.
func (b *bench) rules() error {
	if b.peersOnly {
		return nil
	}
	progress("policies of up to %d rules", policy.MaxRules)
	who := policy.Subject{Name: "maya", ID: identity.UID(1000), Resolved: true, Trusted: true, Hook: "pam", Service: "sshd", Scenario: "remote",
		Host: "203.0.113.7", Remote: netip.MustParseAddr("203.0.113.7"), Now: time.Now()}
	for _, n := range ruleCounts {
		f := rulesFact{rules: n}
		rules := policy.Rules{Ask: policy.AskEnrolled, Rules: manyRules(n)}
		begun := time.Now()
		p, err := policy.Compile(rules, nil, false)
		if err != nil {
			return err
		}
		f.compile = time.Since(begun)
		const rounds = 1000
		begun = time.Now()
		for range rounds {
			p.Decide(who, nowhere{})
		}
		f.decide = time.Since(begun) / rounds
		if f.rss, err = b.rssWithRules(n); err != nil {
			return err
		}
		b.ruleFacts = append(b.ruleFacts, f)
	}
	return nil
}

// rssWithRules starts the idle agent again, with rules in its file.
func (b *bench) rssWithRules(n int) (int, error) {
	content, err := os.ReadFile(b.idle.config)
	if err != nil {
		return 0, err
	}
	if err := b.idle.stop(); err != nil {
		return 0, err
	}
	if err := os.WriteFile(b.idle.config, append(bytes.Clone(content), rulesSetting(n)...), 0o600); err != nil {
		return 0, err
	}
	if _, err := b.idle.start(); err != nil {
		return 0, err
	}
	time.Sleep(settle)
	rss, err := b.idle.rss()
	if err != nil {
		return 0, err
	}
	return rss, os.WriteFile(b.idle.config, content, 0o600)
}
