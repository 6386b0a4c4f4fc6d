package factor_test

import (
	"testing"
	"time"

	"sallyport/internal/clock"
	"sallyport/internal/factor"
	"sallyport/internal/secret"
)

// place is where this person sits now.
func (w *world) place() factor.Place {
	return factor.Place{BootID: w.now().BootID, Session: "/dev/pts/3", Network: "192.0.2.0/24", Rule: "sudo again"}
}

// CVE-2024-20301: a trusted session survives a reboot.
func TestWhatIsRememberedIsBoundToItsPlace(t *testing.T) {
	w := enrolled(t)
	w.account.Remember(w.place(), w.now(), 15*time.Minute)
	knows := func(name string, p factor.Place, want bool) {
		t.Helper()
		if got := w.account.Remembers(p, w.now()); got != want {
			t.Errorf("%s: remembered %v, want %v", name, got, want)
		}
	}
	here := w.place()
	other := func(change func(*factor.Place)) factor.Place { p := here; change(&p); return p }
	knows("here", here, true)
	for name, p := range map[string]factor.Place{
		"another session":      other(func(p *factor.Place) { p.Session = "/dev/pts/4" }),
		"another network":      other(func(p *factor.Place) { p.Network = "198.51.100.0/24" }),
		"another rule":         other(func(p *factor.Place) { p.Rule = "others" }),
		"another boot":         other(func(p *factor.Place) { p.BootID = "boot 7" }),
		"a session not known":  other(func(p *factor.Place) { p.Session = "" }),
		"a network not known":  other(func(p *factor.Place) { p.Network = "" }),
		"a boot not known":     other(func(p *factor.Place) { p.BootID = "" }),
		"a rule without name":  other(func(p *factor.Place) { p.Rule = "" }),
		"nothing of it at all": {},
	} {
		knows(name, p, false)
		w.account.Remember(p, w.now(), 0)
		knows(name+", for no time", p, false)
	}
	w.later(15*time.Minute - 1)
	knows("at the last moment", here, true)
	w.clockSet(-24 * time.Hour)
	knows("with the clock set back", here, true)
	w.later(1)
	knows("and then", here, false)

	w.account.Remember(w.place(), w.now(), 15*time.Minute)
	knows("again", here, true)
	w.reboots()
	knows("after a reboot", here, false)
	knows("after a reboot, as of now", w.place(), false)
	for range 40 {
		w.reboots()
		w.account.Remember(w.place(), w.now(), time.Hour)
	}
	if n := len(w.account.Remembered); n > 16 {
		t.Errorf("%d places are kept", n)
	}
}

func TestWhatEndsWhatIsRemembered(t *testing.T) {
	for name, end := range map[string]func(*world){
		"unlock": func(w *world) { w.account.Unlock() },
		"enrol":  func(w *world) { w.enrol("another secret of 20") },
		"lockout": func(w *world) {
			w.locksItself(15 * time.Minute)
		},
	} {
		w := enrolled(t)
		w.account.Remember(w.place(), w.now(), time.Hour)
		end(w)
		if w.account.Remembers(w.place(), w.now()) {
			t.Errorf("%s does not end it", name)
		}
	}
}

func TestTheLastFactor(t *testing.T) {
	w := enrolled(t)
	want := func(name factor.Name, ago time.Duration, known bool) {
		t.Helper()
		if n, a, k := w.account.LastUse(w.now()); n != name || k != known || known && a != ago {
			t.Errorf("%q %s ago, known %v; want %q %s ago, %v", n, a, k, name, ago, known)
		}
	}
	want("", 0, true)
	w.at("12:00:00").types(w.phone()).gets(allow)
	want(factor.TOTP, 0, true)
	w.later(time.Hour)
	want(factor.TOTP, time.Hour, true)
	w.types(w.recovery[0]).gets(allow)
	want(factor.Recovery, 0, true)
	w.later(time.Hour)
	w.reboots()
	want(factor.Recovery, time.Hour, true)
	w.clockSet(-3 * time.Hour)
	want(factor.Recovery, 0, false)
	w.highest = time.Time{} // the helpdesk cleared it
	want(factor.Recovery, 0, false)
	var nobody *factor.Account
	if n, _, known := nobody.LastUse(clock.Instant{}); n != "" || !known {
		t.Error("nobody has given a factor")
	}
	// A record of before this was kept.
	w.account.Last = nil
	want("", 0, false)
}

func TestAFactorThatDoesNotCountIsNotCompared(t *testing.T) {
	answers := map[factor.Name]string{factor.TOTP: "123456", factor.Recovery: "ABCDE-FGH23", factor.Bypass: "1234 5678 9012"}
	for _, c := range []struct {
		allowed factor.Allowed
		takes   []factor.Name
	}{
		{nil, []factor.Name{factor.TOTP, factor.Recovery, factor.Bypass}},
		{factor.Allowed{}, []factor.Name{factor.Bypass}},
		{factor.Allowed{factor.Push}, []factor.Name{factor.Bypass}},
		{factor.Allowed{factor.TOTP}, []factor.Name{factor.TOTP, factor.Bypass}},
		{factor.Allowed{factor.Push, factor.Recovery}, []factor.Name{factor.Recovery, factor.Bypass}},
	} {
		takes := map[factor.Name]bool{}
		for _, n := range c.takes {
			takes[n] = true
		}
		for name, answer := range answers {
			o, refused := c.allowed.Refuse(secret.New(answer))
			if refused == takes[name] || refused && (o.OK || o.Reason != factor.NotAllowed || o.Factor != name) {
				t.Errorf("%v: %s: refused %v, %+v", c.allowed, name, refused, o)
			}
		}
	}
}
