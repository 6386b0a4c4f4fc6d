package loginsvc

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"path"
	"strings"
	"time"

	"sallyport/agent/store"
	"sallyport/internal/accounts"
	"sallyport/internal/clock"
	"sallyport/internal/device"
	"sallyport/internal/engine"
	"sallyport/internal/factor"
	"sallyport/internal/factor/offline"
	"sallyport/internal/identity"
	"sallyport/internal/localsock"
	"sallyport/internal/policy"
	"sallyport/internal/vault"
	loginv1 "sallyport/proto/sallyport/login/v1"
)

// Facts of this computer that rules go by; what is nil is not known.
type Facts struct {
	// Online says whether the authority is on the line now.
	Online func() bool
	// Reach is Online, and tries to have it on the line.
	Reach func(ctx context.Context) bool
	// Device is given the boot clock.
	Device func(now time.Duration) device.Facts
	// Zone is the time zone; nil: that of the process's start.
	Zone     func() (*time.Location, error)
	Networks func() (string, error)
	// Session tells one use of a terminal from the next one; "" when it cannot.
	Session func(name string) string
}

// Imagined is a login that nobody makes: it changes nothing.
type Imagined struct {
	Begin  *loginv1.Begin
	Online *bool     // nil: as it is
	At     time.Time // zero: now
	// NotRoot: the person's own program asks, which is believed less.
	NotRoot bool
}

// Explained is what a login would come to, and why.
type Explained struct {
	policy.Explanation
	User    accounts.User // the zero User: it does not resolve
	Outcome string        // "not_asked", "asked" or "denied"
	Reason  factor.Reason // "" while it is asked
	Offline *Offline      // nil: it does not matter that the authority is not on the line, or it is
}

// Offline is what the time without contact does to a login.
type Offline struct {
	offline.Standing
	Challenge bool // the prompt can show one that the helpdesk answers
}

// The outcomes of an Explained.
const (
	NotAsked = "not_asked"
	Asked    = "asked"
	Denied   = "denied"
)

// Explain says what a login would come to. It asks in the very way
// that a login does.
func (s *Service) Explain(ctx context.Context, i Imagined) (Explained, error) {
	if err := checkBegin(i.Begin); err != nil {
		return Explained{}, err
	}
	l := &login{Service: s, ctx: ctx, settings: s.Settings(), peer: localsock.Peer{ID: identity.System}, begin: i.Begin, imagined: &i}
	l.describe()
	if i.NotRoot {
		user, err := s.Names.Lookup(ctx, string(i.Begin.GetUser()))
		if err != nil {
			return Explained{}, err
		}
		l.peer = localsock.Peer{ID: user.ID}
	}
	if reason, text := l.identify(); reason != "" {
		return Explained{}, errors.New(string(reason) + ": " + l.event.Text + text)
	}
	out := l.machine.Step(l.decide())
	e := Explained{Explanation: l.explanation, User: l.user, Outcome: Asked}
	if v, ok := out[len(out)-1].(engine.Verdict); ok {
		e.Reason, e.Outcome = v.Reason, Denied
		if v.Decision == engine.Skip {
			e.Outcome = NotAsked
		}
	}
	if e.Reason == reasonVault || e.Reason == reasonConfig {
		e.Why = l.event.Text
	}
	if e.Digits > 0 {
		e.Digits = l.digits
	}
	if e.Outcome == Asked && !l.online() {
		e.Offline = &Offline{Standing: l.standing}
		if err := s.Store.View(func(tx *vault.Tx) error {
			a, err := l.answers(tx)
			e.Offline.Challenge = a != nil
			return err
		}); err != nil {
			return Explained{}, err
		}
	}
	switch {
	case l.remember == 0:
	case l.place.Session == "":
		e.Why += "; but nothing is remembered where no terminal or session is named"
	case l.place.Network == "":
		e.Why += "; but nothing is remembered where the networks cannot be told"
	}
	return e, nil
}

// now is the present, or the imagined time: all clocks are as far ahead.
func (l *login) now(tx *vault.Tx) clock.Instant {
	now := tx.Now()
	if l.imagined != nil && !l.imagined.At.IsZero() {
		ahead := l.imagined.At.Sub(now.Wall)
		now.Wall, now.Boot = now.Wall.Add(ahead), now.Boot+ahead
	}
	return now
}

// maxBehind is by how much the clock may lie behind a time seen before, and still
// tell the time.
const maxBehind = 5 * time.Minute

// subject is this login as the lists see it.
func (l *login) subject() policy.Subject {
	s := policy.Subject{Name: l.user.Name, ID: l.user.ID, Resolved: l.resolved, Typed: l.user.Typed,
		Hook: l.event.Hook, Service: string(l.begin.GetService()), Scenario: l.event.Scenario, Session: string(l.begin.GetSession()),
		Trusted: l.peer.IsRoot()}
	s.ComesFrom(string(l.begin.GetRemoteHost()), l.begin.GetScenario() == loginv1.Scenario_SCENARIO_REMOTE)
	return s
}

// addFacts adds what rules go by.
func (l *login) addFacts(s *policy.Subject) {
	s.Online = l.online()
	s.Device = l.device()
	err := l.Store.View(func(tx *vault.Tx) error {
		now := l.now(tx)
		zone, err := l.zone()
		switch {
		case err != nil:
			s.NoTime = "the time zone cannot be read: " + err.Error()
		case now.Behind() <= maxBehind:
			s.Now = now.Wall.In(zone)
		}
		joined, err := store.JoinedTo(tx)
		if err != nil {
			return err
		}
		s.Device.Authority = policy.Known("")
		if joined != nil {
			s.Device.Authority = policy.Known(joined.URL)
		}
		account, err := store.Account(tx, string(l.user.ID))
		if err != nil {
			return err
		}
		s.Last = policy.NotKnown[policy.Last]("the clock lies behind, or it was given before this was kept")
		if name, ago, known := account.LastUse(now); known {
			s.Last = policy.Known(policy.Last{Factor: string(name), Age: ago})
		}
		return nil
	})
	if err != nil {
		s.Last, s.Device.Authority = policy.NotKnown[policy.Last](err.Error()), policy.NotKnown[string](err.Error())
	}
}

func (l *login) zone() (*time.Location, error) {
	if l.Facts.Zone == nil {
		return time.Local, nil
	}
	return l.Facts.Zone()
}

// here is a moment as people are told it: in UTC where the time zone cannot be read.
func (l *login) here(t time.Time) time.Time {
	zone, err := l.zone()
	if err != nil {
		zone = time.UTC
	}
	return t.In(zone)
}

func (l *login) device() policy.Device {
	if l.Facts.Device == nil {
		return policy.Device{}
	}
	f := l.Facts.Device(l.Clock.Now().Boot)
	fact := func(f device.Fact) policy.Fact[bool] {
		return policy.Fact[bool]{Value: f.Yes, Known: f.Known, Why: f.Why}
	}
	d := policy.Device{Encrypted: fact(f.Encrypted), TPM: fact(f.TPM), OS: f.OS, OSVersion: policy.NotKnown[string]("the system does not say")}
	if f.Version != "" {
		d.OSVersion = policy.Known(f.Version)
	}
	return d
}

// judge asks the policy about this login.
func (l *login) judge() policy.Decision {
	subject, names := l.subject(), l.Names.Resolver(l.ctx, l.Store.LastSeen, l.user, l.proof.groups)
	if exempts := l.Store.Exempts(&l.settings.Config); exempts != nil && l.imagined == nil {
		if d := exempts.Decide(subject, names); d.Effect == policy.Skip {
			return d
		}
	}
	p := l.Store.Policy(&l.settings.Config)
	unknown := l.settings.Broken && !l.settings.RulesKnown
	if unknown {
		p = store.RequiresAll()
	}
	if p.HasRules || l.imagined != nil {
		l.addFacts(&subject)
	}
	var d policy.Decision
	if l.imagined != nil {
		l.explanation = p.Explain(subject, names)
		d = l.explanation.Decision
	} else {
		d = p.Decide(subject, names)
	}
	if unknown {
		d.Rule = "configuration broken"
		l.explanation.Rule = d.Rule
	}
	l.place, l.remember = factor.Place{}, 0
	if d.Remember > 0 && l.peer.IsRoot() && l.resolved {
		l.place, l.remember = l.where(p.ID+" "+d.Rule, subject), d.Remember
	}
	return d
}

// where is what a factor that is given in this login would be remembered for. What
// cannot be told is empty, and then nothing is remembered.
func (l *login) where(rule string, s policy.Subject) factor.Place {
	p := factor.Place{BootID: l.Clock.Now().BootID, Rule: rule}
	if l.Facts.Session != nil {
		p.Session = l.Facts.Session(s.Session)
	}
	if l.Facts.Networks == nil || s.RemoteUnknown {
		return p
	}
	if networks, err := l.Facts.Networks(); err == nil {
		sum := sha256.Sum256([]byte(networks)) // they may be many
		p.Network = fmt.Sprintf("%s at %x", from(s.Remote), sum[:16])
	}
	return p
}

func from(remote netip.Addr) string {
	if !remote.IsValid() {
		return "here"
	}
	return remote.String()
}

// earn remembers the factor that was just given. A bypass is good once: it is for
// this login alone.
func (l *login) earn(a *factor.Account, o factor.Outcome, now clock.Instant) {
	if o.OK && (o.Factor == factor.TOTP || o.Factor == factor.Push || o.Factor == factor.Recovery) {
		a.Remember(l.place, now, l.remember)
	}
}

// terminal is the path of a session that is one: PAM_TTY is "/dev/pts/3", or "pts/3" (pam_set_item(3)).
// What every program calls its own (tty(4)), and the console in front, are no one's.
func terminal(session string) (name string, ok bool) {
	if !strings.HasPrefix(session, "/") {
		session = "/dev/" + session
	}
	switch name = path.Clean(session); name {
	case "/dev/tty", "/dev/tty0", "/dev/null":
		return name, false
	}
	return name, strings.HasPrefix(name, "/dev/")
}
