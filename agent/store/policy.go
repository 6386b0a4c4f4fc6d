package store

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"runtime/debug"
	"slices"
	"sync"

	"sallyport/internal/config"
	"sallyport/internal/organisation"
	"sallyport/internal/policy"
	"sallyport/internal/vault"
)

// policyMark is a setting that names the organisation's policy in force, so that a
// login need not read all of it to see that it is the one it knows.
const policyMark = "policy-mark"

// Policy is what decides who is asked, ready for any number of logins.
type Policy struct {
	*policy.Policy
	// Central is what the organisation says; nil where that does not count here.
	Central *policy.Rules
	// Unreadable says why that cannot be read: then everybody is asked whom root
	// does not exempt. Broken says which rules cannot be used; they require.
	Unreadable, Broken error
	// HasRules: decisions go by more than names, services and addresses.
	HasRules bool
	// ID names this policy; any change of it gives it another.
	ID string

	local            policy.Rules
	allow            bool
	mark, unreadable string
}

// policyCache holds the last policies that were compiled.
type policyCache struct {
	mu   sync.Mutex
	last *Policy

	exemptMu sync.Mutex // not mu, which is held while the vault is read
	exempt   *Policy
}

// Exempts returns root's exemptions alone; nil where there are none. They need no
// vault: a disk that hangs must not keep out who is to repair it.
func (s *Store) Exempts(c *config.Config) *policy.Policy {
	only := policy.Rules{Ask: policy.AskRequired, Exempt: c.Policy.Exempt}
	if count(&only.Exempt) == 0 {
		return nil
	}
	s.policy.exemptMu.Lock()
	defer s.policy.exemptMu.Unlock()
	if e := s.policy.exempt; e == nil || !reflect.DeepEqual(e.local, only) {
		s.policy.exempt = &Policy{local: only}
		s.policy.exempt.compile()
	}
	return s.policy.exempt.Policy
}

// Policy returns the policy in force: root's rules with what the organisation
// signed beside them. It is compiled once for each change.
func (s *Store) Policy(c *config.Config) *Policy {
	p := &Policy{local: c.Policy, allow: c.Authority.AllowExemptions}
	if slices.Contains(c.Authority.Accept, string(organisation.KindPolicy)) {
		if p.Unreadable = s.View(func(tx *vault.Tx) (err error) { p.mark, err = markOfPolicy(tx); return err }); p.Unreadable != nil {
			p.unreadable = p.Unreadable.Error()
		}
	}
	s.policy.mu.Lock()
	defer s.policy.mu.Unlock()
	if last := s.policy.last; last != nil && last.same(p) {
		return last
	}
	if p.Unreadable == nil && p.mark != "" {
		var item Item
		if p.Unreadable = s.View(func(tx *vault.Tx) (err error) { item, err = Signed(tx, organisation.KindPolicy, ""); return err }); p.Unreadable != nil {
			p.unreadable = p.Unreadable.Error()
		} else {
			p.mark = mark(item) // of what is compiled, should another have come meanwhile
			var rules policy.Rules
			rules, p.Unreadable = policy.Parse(item.Policy)
			p.Central = &rules
		}
	}
	if p.Unreadable != nil {
		rules := policy.Unreadable()
		p.Central = &rules
	}
	p.compile()
	s.policy.last = p
	return p
}

func (p *Policy) same(q *Policy) bool {
	// The rules of one configuration lie in one place, so that this is quick.
	return p.mark == q.mark && p.allow == q.allow && p.unreadable == q.unreadable && reflect.DeepEqual(p.local, q.local)
}

func (p *Policy) compile() {
	p.Policy, p.Broken = policy.Compile(p.local, p.Central, p.allow)
	p.HasRules = len(p.local.Rules) > 0 || p.Central != nil && len(p.Central.Rules) > 0
	text, err := json.Marshal([]any{p.local, p.Central, p.allow})
	if err != nil { // texts and numbers: cannot be
		panic(err)
	}
	sum := sha256.Sum256(text)
	p.ID = hex.EncodeToString(sum[:16])
	// What reading a thousand rules leaves behind is megabytes, and more than what a
	// collection takes itself; a hundred are not.
	if rules := len(p.local.Rules); rules > 200 || p.Central != nil && rules+len(p.Central.Rules) > 200 {
		debug.FreeOSMemory()
	}
}

// RequiresAll is a policy that asks everybody, where none is known.
func RequiresAll() *Policy {
	p := &Policy{local: policy.Unreadable()}
	p.compile()
	return p
}

// Describe says in one line who is asked.
func (p *Policy) Describe() string {
	central, asked := cmp.Or(p.Central, &policy.Rules{Ask: policy.AskEnrolled}), "whoever is enrolled"
	if p.local.Ask == policy.AskRequired || central.Ask == policy.AskRequired {
		asked = "everyone"
	}
	exempt := count(&p.local.Exempt)
	if p.allow {
		exempt += count(&central.Exempt)
	}
	text := fmt.Sprintf("asked: %s; required entries: %d, exempt entries: %d", asked, count(&p.local.Required)+count(&central.Required), exempt)
	if p.HasRules {
		text += fmt.Sprintf(", rules: %d", len(p.local.Rules)+len(central.Rules))
	}
	if p.Central != nil {
		text += "; the organisation's policy is in it"
	}
	return text
}

// markOfPolicy returns what names the organisation's policy; "" when there is none.
func markOfPolicy(tx *vault.Tx) (string, error) {
	var m string
	if found, err := tx.Get(vault.Settings, policyMark, &m); err != nil || found {
		return m, err
	}
	// None, or one that was kept by a version that left no mark.
	item, err := Signed(tx, organisation.KindPolicy, "")
	if err != nil || item.Version == 0 {
		return "", err
	}
	return mark(item), nil
}

func mark(i Item) string {
	sum := sha256.Sum256(i.Policy)
	return fmt.Sprintf("%d %x", i.Version, sum[:16])
}

// count is how many entries a list has.
func count(m *policy.Match) int {
	return len(m.Users) + len(m.UIDs) + len(m.SIDs) + len(m.Groups) + len(m.Services) + len(m.Remote)
}
