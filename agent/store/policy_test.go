package store

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/internal/clock"
	"sallyport/internal/config"
	"sallyport/internal/event"
	"sallyport/internal/identity"
	"sallyport/internal/keychain"
	"sallyport/internal/organisation"
	"sallyport/internal/policy"
	"sallyport/internal/vault"
)

func newStore(t *testing.T) *Store {
	t.Helper()
	s := New(vault.Options{Dir: filepath.Join(t.TempDir(), "state"), Keychain: keychain.Config{Kind: keychain.File}, Clock: clock.System(),
		Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func (s *Store) signs(t *testing.T, version uint64, text string) {
	t.Helper()
	if err := s.Update(context.Background(), func(tx *vault.Tx) error {
		return PutSigned(tx, organisation.KindPolicy, "", Item{Version: version, Policy: []byte(text)})
	}); err != nil {
		t.Fatal(err)
	}
}

// The policy is compiled once for each change, whoever changes it, and never for a
// login.
func TestThePolicyIsCompiledOncePerChange(t *testing.T) {
	s, c := newStore(t), config.Default()
	c.Policy.Rules = []string{"night: deny when hour < 6"}
	seen := map[string]string{}
	last := (*Policy)(nil)
	step := func(name string, fresh bool) *Policy {
		t.Helper()
		p := s.Policy(&c)
		if (p != last) != fresh {
			t.Errorf("%s: compiled anew: %v", name, p != last)
		}
		if other, known := seen[p.ID]; fresh && known {
			t.Errorf("%s has the name of %s", name, other)
		}
		seen[p.ID], last = name, p
		if again := c; s.Policy(&again) != p { // a configuration that was read again, and says the same
			t.Errorf("%s: compiled again", name)
		}
		return p
	}
	step("root's rules", true)
	s.Record(t.Context(), event.Event{Name: event.LoginAttempt})
	step("a login later", false)
	c.Policy.Rules = []string{"night: deny when hour < 7"}
	step("other rules of root's", true)
	s.signs(t, 1, `{"Ask":"required"}`)
	if p := step("the organisation's", true); p.Central == nil || p.Unreadable != nil || !strings.Contains(p.Describe(), "everyone") || !strings.Contains(p.Describe(), "rules: 1; the organisation's") {
		t.Errorf("%+v: %s", p, p.Describe())
	}
	s.signs(t, 2, `{"Ask":"enrolled","Rules":["x: any"]}`)
	step("the organisation's next", true)
	c.Authority.AllowExemptions = true
	step("its exemptions count", true)
	s.signs(t, 3, `{"Ask":"never"}`)
	if p := step("one that cannot be read", true); p.Unreadable == nil || p.Central == nil {
		t.Errorf("%+v", p)
	}
	c.Authority.Accept = nil
	if p := step("root takes none of it", true); p.Central != nil {
		t.Errorf("%+v", p)
	}
}

// A policy that an older version kept has no mark.
func TestAPolicyOfAnOlderVersion(t *testing.T) {
	s, c := newStore(t), config.Default()
	s.signs(t, 1, `{"Ask":"required"}`)
	if err := s.Update(t.Context(), func(tx *vault.Tx) error { return tx.Delete(vault.Settings, policyMark) }); err != nil {
		t.Fatal(err)
	}
	p := s.Policy(&c)
	if p.Central == nil || p.Central.Ask != policy.AskRequired || s.Policy(&c) != p {
		t.Errorf("%+v", p)
	}
	if err := s.Update(t.Context(), ForgetAuthority); err != nil {
		t.Fatal(err)
	}
	if p := s.Policy(&c); p.Central != nil {
		t.Errorf("after the authority was left: %+v", p.Central)
	}
}

// HAZARD: a vault that cannot be read asks everybody, and no longer than that.
func TestAVaultThatCannotBeReadRequires(t *testing.T) {
	s, c := newStore(t), config.Default()
	open := s.Policy(&c)
	v := s.v
	s.v, s.err = nil, errors.New("the disk is gone")
	s.trying = true
	if p := s.Policy(&c); p.Unreadable == nil || p == open || p.Central == nil || p.Central.Ask == policy.AskEnrolled {
		t.Errorf("%+v", p)
	}
	s.v, s.err, s.trying = v, nil, false
	if p := s.Policy(&c); p.Unreadable != nil || p.ID != open.ID {
		t.Errorf("%+v", p)
	}
}

func TestExemptionsNeedNoVault(t *testing.T) {
	s, c := newStore(t), config.Default()
	if s.Exempts(&c) != nil {
		t.Error("there are none")
	}
	c.Policy.Exempt.Users = []string{"rescue"}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	p := s.Exempts(&c)
	if p == nil || s.Exempts(&c) != p {
		t.Fatalf("%v", p)
	}
	d := p.Decide(policy.Subject{Name: "rescue", ID: "uid:7", Resolved: true}, nobody{})
	if d.Effect != policy.Skip || d.Rule != "exempt.users=rescue" {
		t.Errorf("%+v", d)
	}
	if d := p.Decide(policy.Subject{Name: "maya", ID: "uid:8", Resolved: true}, nobody{}); d.Effect == policy.Skip {
		t.Errorf("%+v", d)
	}
}

// nobody is a system that knows nobody by another name.
type nobody struct{}

func (nobody) IsUser(string, identity.ID) policy.Membership { return policy.NotMember }
func (nobody) Membership(string, string) policy.Membership  { return policy.NotMember }
func (nobody) LastSeen(identity.ID, string) bool            { return false }

// HAZARD: a disk that hangs keeps out whom root exempts, as another login reads the
// organisation's policy from it.
func TestWhomRootExemptsWaitsForNoVault(t *testing.T) {
	s := new(Store)
	c := config.Default()
	c.Policy.Exempt.UIDs = []uint32{0}
	s.policy.mu.Lock() // a login that reads the vault
	defer s.policy.mu.Unlock()
	if s.Exempts(&c) == nil { // or it waits for ever
		t.Error("nobody is exempt")
	}
}

// What is remembered of memberships does not grow with each policy there was.
func TestMembershipsOfFormerPoliciesAreForgotten(t *testing.T) {
	s := newStore(t)
	id, kept := identity.UID(1000), seen{}
	update := func(fn func(tx *vault.Tx) error) {
		t.Helper()
		if err := s.Update(t.Context(), fn); err != nil {
			t.Fatal(err)
		}
	}
	update(func(tx *vault.Tx) error {
		return tx.Put(vault.Settings, seenSetting+string(id), seen{"former": tx.Now().Floor().Add(-seenFor), "today's": tx.Now().Floor().Add(-time.Hour)})
	})
	update(func(tx *vault.Tx) error { return NoteSeen(tx, id, "staff") })
	update(func(tx *vault.Tx) error { _, err := tx.Get(vault.Settings, seenSetting+string(id), &kept); return err })
	if len(kept) != 2 || kept["staff"].IsZero() || kept["today's"].IsZero() {
		t.Errorf("%v", kept)
	}
}
