//go:build linux

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/internal/event"
	"sallyport/internal/testkit/hook"
	"sallyport/internal/testkit/sandbox"
	"sallyport/pam/e2e/machine"
)

// A phone that the organisation's key vouches for counts on every computer.
func TestAPhoneEnrolledAtTheAuthorityApprovesEverywhere(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	s := newSite(t, allowOften)
	laptop, desk := s.computer("laptop", pushOften...), s.computer("desk", pushOften...)
	p := s.enrol(s.phone("Pixel"), maya)
	for _, c := range []*computer{laptop, desk} {
		c.event(0, event.SyncApplied, "1 phones may approve")
		c.byPhone(p, maya)
		if is := c.person(maya); len(is.Phones) != 1 || is.Phones[0].Source != "authority" || is.Phones[0].Name != "Pixel" {
			t.Errorf("%s knows the phones %+v", c.name, is.Phones)
		}
	}
	t.Log("one that a computer pinned is that computer's")
	pinned := laptop.pin(s.phone("Nokia"), zoe)
	laptop.byPhone(pinned, zoe)
	desk.byCode(zoe)
}

// The organisation's key lies elsewhere: nothing counts until it has signed.
func TestOrganisationKeyElsewhere(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	stick := filepath.Join(t.TempDir(), "organisation.key")
	s := newSite(t, allowOften, "--organisation-key", stick)
	laptop := s.computer("laptop", pushOften...)
	p := s.enrol(s.phone("Pixel"), maya)
	laptop.byCode(maya)
	if st := laptop.person(maya).PushState; st != "no_phone" {
		t.Errorf("push is %q before anything is signed", st)
	}
	dir := t.TempDir()
	pending, signed := filepath.Join(dir, "pending.json"), filepath.Join(dir, "signed.json")
	out, err := s.authority.Run("", "manifest", "pending")
	ok(t, err)
	ok(t, os.WriteFile(pending, []byte(out), 0o600))
	seq := laptop.last()
	if _, err := s.authority.Run("", "manifest", "import", pending); err == nil {
		t.Error("what nobody signed was imported")
	}
	out, err = s.authority.Run("", "manifest", "sign", "--key", stick, "--yes", pending)
	ok(t, err)
	ok(t, os.WriteFile(signed, []byte(out), 0o600))
	ok(t, s.authority.Do(nil, "manifest", "import", signed, "--json"))
	laptop.event(seq, event.SyncApplied, "1 phones may approve")
	laptop.byPhone(p, maya)
}

// What the authority issued is here before it is needed: the authority is stopped.
func TestCodesOfTheAuthorityWorkOffline(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	s := newSite(t, nil)
	laptop := s.computer("laptop")
	ok(t, s.authority.Do(nil, "user", "add", carl, "--json"))
	ok(t, s.authority.Do(nil, "device", "allow", "laptop", carl, "--json"))
	seq := laptop.last()
	var totp struct {
		URI string `json:"otpauth_uri"`
	}
	ok(t, s.authority.Do(&totp, "user", "totp", carl, "--json"))
	laptop.event(seq, event.SyncApplied, "^ totp, version 1")
	var recovery, bypass struct{ Codes []string }
	ok(t, s.authority.Do(&recovery, "user", "recovery", carl, "--json"))
	laptop.event(seq, event.SyncApplied, "^ recovery, version [0-9]+: 10 recovery codes")
	ok(t, s.authority.Do(&bypass, "user", "bypass", carl, "--for", "1h", "--reason", "phone at home", "--json"))
	laptop.event(seq, event.SyncApplied, "^ bypass, version 1")

	t.Log("a secret that was enrolled here stays")
	ok(t, s.authority.Do(nil, "user", "totp", maya, "--json"))
	laptop.event(seq, event.SyncRefused, "enrolled at this computer, which stays")
	laptop.byCode(maya)

	ok(t, s.authority.Stop())
	app, err := machine.NewPhone(totp.URI)
	ok(t, err)
	for _, code := range []string{app.Next(), recovery.Codes[3], bypass.Codes[0]} {
		laptop.codeOnly(carl).types(code, true, "code_accepted")
	}
	for _, used := range []string{recovery.Codes[3], bypass.Codes[0]} {
		l := laptop.codeOnly(carl)
		ok(t, l.Type(used))
		if v, err := l.Verdict(patience); err != nil || v.In {
			t.Errorf("a code was good twice: %+v, %v", v, err)
		}
	}
}

// reason is how a login ends that asks nothing, "" when it asks.
func (c *computer) reason(user string) string {
	c.t.Helper()
	l, err := hook.Begin(c.t.Context(), c.Socket(), hook.Request{User: user})
	ok(c.t, err)
	defer l.Close()
	if _, err := l.Prompt(patience); err == nil {
		return ""
	}
	list, err := c.Events(0)
	ok(c.t, err)
	for i := len(list) - 1; i >= 0; i-- {
		if e := list[i]; e.Name == event.LoginAttempt {
			return e.Verdict + " " + e.Reason
		}
	}
	return "nothing"
}

// TestPolicyOfTheAuthorityOnlyRaises what root set here, unless root says otherwise.
func TestPolicyOfTheAuthorityOnlyRaises(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	s := newSite(t, nil)
	laptop, lax := s.computer("laptop"), s.computer("lax", "[authority]", "allow_exemptions = true")
	if got := laptop.reason(carl); got != "skip not_asked" {
		t.Fatalf("carl, who is not enrolled: %q", got)
	}
	rules := filepath.Join(t.TempDir(), "rules.toml")
	set := func(text string) {
		t.Helper()
		s1, s2 := laptop.last(), lax.last()
		ok(t, os.WriteFile(rules, []byte(text), 0o600))
		ok(t, s.authority.Do(nil, "policy", "set", rules, "--json"))
		laptop.event(s1, event.SyncApplied, "^ policy")
		lax.event(s2, event.SyncApplied, "^ policy")
	}
	set("[required]\nusers = [\"carl\"]\n")
	if got := laptop.reason(carl); got != "" {
		t.Errorf("required by the organisation: %q", got)
	}
	if asked := laptop.person(maya).Asked; strings.Contains(asked, "carl") {
		t.Errorf("maya is asked because of %q", asked)
	}
	set("[exempt]\nusers = [\"maya\"]\n")
	if got := laptop.reason(maya); got != "" {
		t.Errorf("the organisation exempts maya: %q", got)
	}
	if got := lax.reason(maya); got != "skip exempt" {
		t.Errorf("and where root allows it: %q", got)
	}
	if got := laptop.reason(carl); got != "skip not_asked" {
		t.Errorf("carl, who is not required any more: %q", got)
	}
}
