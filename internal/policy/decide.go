package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"sallyport/internal/identity"
)

// Fact is something about a login that may not be known. The zero value is not.
type Fact[T any] struct {
	Value T
	Known bool
	Why   string // it is not known, for whoever reads the log; may be ""
}

// Known is a fact.
func Known[T any](value T) Fact[T] { return Fact[T]{Value: value, Known: true} }

// NotKnown is a fact that could not be learnt, and why.
func NotKnown[T any](why string) Fact[T] { return Fact[T]{Why: why} }

// Device is what the computer knows of itself.
type Device struct {
	Encrypted Fact[bool]   // the disk that the system is on
	TPM       Fact[bool]   // there is one
	OS        string       // "linux", "windows", "macos"
	OSVersion Fact[string] // "12.4"
	Authority Fact[string] // that it has joined; "": none
}

// Last is the last factor that somebody gave on this computer; "": none yet.
type Last struct {
	Factor string
	Age    time.Duration
}

// Subject is who wants in, where, and what else rules may ask about.
type Subject struct {
	Name     string // as the system spells it; "" when it does not resolve
	ID       identity.ID
	Resolved bool // false: unknown to the system
	// Typed: Name is what was typed, as the system could not be asked; it may have
	// another name for the account.
	Typed bool

	Hook     string // "pam", "credential_provider", "authorization_plugin"
	Service  string
	Scenario string     // "login", "unlock", "elevate", "remote"
	Session  string     // the terminal
	Host     string     // where from, as the hook says it; "": this computer
	Remote   netip.Addr // the zero Addr when missing or not a literal address
	// RemoteUnknown: it comes over the network, from where cannot be told.
	RemoteUnknown bool
	// Trusted: Hook, Service, Scenario, Session, Host and Remote come from a root
	// process. What anyone else says of them never weakens.
	Trusted bool

	Online bool      // the authority is connected
	Now    time.Time // in the computer's time zone; the zero Time is not known
	NoTime string    // why not
	Device Device
	Last   Fact[Last]
}

// ComesFrom sets where the login comes from: a host as the hook names it. overNetwork:
// the hook says that it comes over the network, whether or not it names a host.
func (s *Subject) ComesFrom(host string, overNetwork bool) {
	addr, err := netip.ParseAddr(host)
	s.Host, s.Remote, s.RemoteUnknown = host, addr, err != nil && (host != "" || overNetwork)
}

// local says whether the login is at the computer itself.
func (s *Subject) local() bool { return !s.Remote.IsValid() && !s.RemoteUnknown }

// Effect is what to do.
type Effect int

// The zero value asks.
const (
	Ask        Effect = iota // a second factor, or no entry
	Skip                     // nothing is asked
	IfEnrolled               // ask whoever has a second factor, skip the others
	Deny                     // no entry, whatever factor is given
)

func (e Effect) String() string { return [...]string{"ask", "skip", "ask_if_enrolled", "deny"}[e] }

// The factors that a rule can name, as in internal/factor.
const (
	TOTP     = "totp"
	Push     = "push"
	Recovery = "recovery"
	Bypass   = "bypass" // no rule can name it: it always counts
)

// Decision is an effect and the rule that led to it.
type Decision struct {
	Effect Effect
	Rule   string // "exempt.groups=ops", "rule=office", "default=enrolled"
	// Factors are those of which one has to be given; nil: any. A bypass from the
	// helpdesk always counts, named or not. Where root and the organisation have
	// none in common, it is Bypass alone.
	Factors []string
	Digits  int // of the number that is typed on the phone; 0: as push.digits
	// Remember: whoever gave a factor not longer ago than this, in the same boot,
	// session and network, is asked nothing. Zero: they are asked.
	Remember time.Duration
	// Groups that were looked at for this, and that the user is in now: what
	// LastSeen is to remember.
	Groups []string
}

// Policy is the rules of this computer with the organisation's beside them, ready to
// decide. It is compiled once for each change, and safe for concurrent use.
type Policy struct {
	local           side
	central         *side // nil: the organisation says nothing
	allowExemptions bool
}

// side is what one of the two says: root, or the organisation.
type side struct {
	Rules
	source   string
	compiled []rule
	broken   bool // the rules cannot be read
	weakens  bool // its exemptions and skips count
}

// Compile makes ready what root says on this computer and what the organisation says;
// central is nil where it says nothing, or where root takes none of it. The
// organisation's exemptions, and what it lets skip, count only with allowExemptions.
// The policy is good also with an error: what could not be read requires.
func Compile(local Rules, central *Rules, allowExemptions bool) (*Policy, error) {
	p := &Policy{allowExemptions: allowExemptions}
	err := p.local.compile(Computer, local, true)
	if central != nil {
		p.central = &side{}
		if e := p.central.compile(Organisation, *central, allowExemptions); e != nil {
			err = errors.Join(err, fmt.Errorf("the organisation's policy: %w", e))
			p.central.Rules = Unreadable()
		}
	}
	return p, err
}

func (side *side) compile(source string, r Rules, weakens bool) (err error) {
	side.Rules, side.source, side.weakens = r, source, weakens
	side.compiled, err = compileRules(r.Rules)
	side.broken = err != nil
	for i := range side.compiled {
		r := &side.compiled[i]
		r.effect.Rule = side.named("rule=" + r.name)
	}
	return err
}

// Decide says what a login comes to.
func (p *Policy) Decide(s Subject, names Resolver) Decision { return p.decide(&s, names, nil) }

// Explain is Decide, and says how it came about.
func (p *Policy) Explain(s Subject, names Resolver) Explanation {
	t := &told{}
	d := p.decide(&s, names, t)
	return Explanation{Decision: d, Why: d.describe() + ", by " + d.Rule, Steps: t.steps, Facts: t.facts}
}

// decide is the whole: what root says, what the organisation says, and the stricter
// of the two. Whom root exempts nobody requires, or the organisation could lock out
// the account that repairs the computer.
func (p *Policy) decide(s *Subject, names Resolver, t *told) Decision {
	f := &facts{s: s, names: names, told: t}
	root := p.local.decide(f)
	d := root.Decision
	if p.central != nil && !root.exempt {
		central := p.central.decide(f)
		// policy.ask names nobody; where root lets the organisation exempt, it gives
		// way to a rule that does.
		if central.exempt || p.allowExemptions && root.byDefault && (central.Effect == Skip || central.Remember > 0) {
			d = central.Decision
		} else {
			d = stricter(d, central.Decision)
		}
	}
	if d.Effect != Skip {
		d.Groups = f.in()
	}
	return d
}

// stated is what one side says.
type stated struct {
	Decision
	exempt    bool // by policy.exempt
	byDefault bool // by policy.ask alone
}

// decide goes through what one side says, in its order: exemptions, rules, what is
// required, and policy.ask for everybody else. What cannot be told requires, and from
// there on nothing weakens: floor is then the least that is asked.
func (side *side) decide(f *facts) stated {
	if side.weakens && f.s.Resolved {
		if rule, _ := side.Exempt.match(f, f.s.Trusted, false); rule != "" {
			d := side.decision(Skip, "exempt."+rule)
			f.told.step(side, d.Rule, Decides, "")
			return stated{Decision: d, exempt: true}
		}
	}
	var floor *Decision
	raise := func(d Decision) Decision {
		if floor != nil || !f.s.Trusted {
			d.Remember = 0
		}
		if floor != nil {
			d = notBelow(*floor, d)
		}
		return d
	}
	if side.broken && side.Ask != askUnreadable {
		d := side.decision(Ask, "rules (cannot be read)")
		f.told.step(side, d.Rule, CannotTell, "sallyport config check says what is wrong")
		floor = &d
	}
	for i := range side.compiled {
		r := &side.compiled[i]
		d := r.effect
		if r.weakens() && !side.weakens {
			f.told.step(side, d.Rule, Ignored, "authority.allow_exemptions is off: the organisation can only require more")
			continue
		}
		holds, claimed, why := r.fits(f)
		outcome := Decides
		switch {
		case holds == no:
			outcome = No
		case holds == failed:
			outcome = CannotTell
			least := raise(side.decision(Ask, "rule="+r.name+" (cannot tell: "+why+")"))
			floor = &least
		case r.weakens() && holds == hangs:
			outcome, why = Ignored, "it hangs on what a program says that is not root's"
		case r.weakens() && !f.s.Resolved:
			outcome, why = Ignored, "the system does not know the user"
		case r.weakens() && floor != nil:
			outcome, why = Ignored, "a rule before it cannot tell"
		case claimed && d.Effect != Deny:
			// What is claimed may require, but not end the search for what requires more.
			outcome, why = CannotTell, "it fits by what a program says that is not root's: at least this is asked"
			least := raise(d)
			floor = &least
		}
		f.told.step(side, d.Rule, outcome, why)
		if outcome == Decides {
			return stated{Decision: raise(d)}
		}
	}
	d, byDefault := side.lists(f)
	f.told.step(side, d.Rule, Decides, "")
	return stated{Decision: raise(d), byDefault: byDefault && floor == nil}
}

// lists is what policy.required and policy.ask say.
func (side *side) lists(f *facts) (d Decision, byDefault bool) {
	rule, failed := side.Required.match(f, true, true)
	if rule != "" {
		return side.decision(Ask, "required."+rule), false
	}
	if failed != "" {
		return side.decision(Ask, "required."+failed+" (look-up failed)"), false
	}
	for _, group := range side.Required.Groups {
		if f.s.Resolved && f.names.LastSeen(f.s.ID, group) {
			return side.decision(Ask, "required.groups="+group+" (last seen)"), false
		}
	}
	switch side.Ask {
	case AskEnrolled:
		return side.decision(IfEnrolled, "default=enrolled"), true
	case askUnreadable:
		why := "the organisation's policy cannot be read"
		if side.source == Computer {
			why = "no policy is known"
		}
		return Decision{Rule: "default=required (" + why + ")"}, true
	}
	return side.decision(Ask, "default=required"), true
}

func (side *side) decision(e Effect, rule string) Decision {
	return Decision{Effect: e, Rule: side.named(rule)}
}

// named is what the events call one side's rule.
func (side *side) named(rule string) string {
	if side.source == Organisation {
		return rule + " (organisation)"
	}
	return rule
}

func (r *rule) weakens() bool { return r.effect.Effect == Skip }

// fits says whether a rule fits a login. claimed: only by what a program says that is
// not root's. For a rule that weakens, that is not known (hangs).
func (r *rule) fits(f *facts) (holds truth, claimed bool, why string) {
	holds, why = r.holds(f, !f.s.Trusted)
	if holds != hangs {
		return holds, false, why
	}
	holds, why = r.holds(f, false)
	if r.weakens() && holds != failed {
		return hangs, false, ""
	}
	return holds, true, why
}

// holds evaluates the condition, twice where somebody is not in a group now and was
// not long ago: glibc's getgrouplist hides a directory that is down. A rule that asks
// or denies fits if it did in either case, one that skips if it did in both.
func (r *rule) holds(f *facts, noClaims bool) (truth, string) {
	if r.when == nil {
		return yes, ""
	}
	f.noClaims, f.asSeen, f.absent = noClaims, false, nil
	now, why := r.when.eval(f)
	if len(f.absent) == 0 {
		return now, why
	}
	group := f.absent[0]
	f.asSeen = true
	then, thenWhy := r.when.eval(f)
	strictness := func(t truth) int {
		if r.weakens() && t == yes {
			return -1
		}
		return int(t)
	}
	switch {
	case strictness(then) <= strictness(now):
		return now, why
	case then == failed:
		return then, thenWhy
	}
	return then, fmt.Sprintf("last seen in %s not long ago", group)
}

// rank orders what is asked from nothing to everything.
func (d *Decision) rank() int {
	switch {
	case d.Effect == Deny:
		return 4
	case d.Effect == Ask && d.Factors != nil:
		return 3
	case d.Effect == Ask:
		return 2
	case d.Effect == IfEnrolled:
		return 1
	}
	return 0
}

// notBelow is a decision of one side that may not be weaker than floor.
func notBelow(floor, d Decision) Decision {
	digits := max(floor.Digits, d.Digits)
	if floor.rank() > d.rank() || floor.rank() == d.rank() && d.Factors == nil {
		d = floor
	}
	d.Digits = digits
	return d
}

// stricter is what both root and the organisation let in.
func stricter(root, central Decision) Decision {
	d, other := root, central
	if central.rank() > root.rank() {
		d, other = central, root
	}
	d.Digits = max(d.Digits, other.Digits)
	if other.Effect != Skip { // which says nothing of a time
		d.Remember = min(d.Remember, other.Remember)
	}
	if root.rank() != central.rank() || d.Factors == nil {
		return d
	}
	d.Factors = slices.DeleteFunc(slices.Clone(root.Factors), func(name string) bool { return !slices.Contains(central.Factors, name) })
	switch len(d.Factors) {
	case len(root.Factors):
	case len(central.Factors):
		d.Rule = central.Rule
	case 0:
		d.Factors, d.Rule = []string{Bypass}, root.Rule+" and "+central.Rule+" (no factor in common)"
	default:
		d.Rule = root.Rule + " and " + central.Rule
	}
	return d
}

// describe says what is asked, for people.
func (d *Decision) describe() string {
	text := "a second factor is required"
	switch {
	case d.Effect == Skip:
		return "nothing is asked"
	case d.Effect == Deny:
		return "nobody is let in"
	case d.Effect == IfEnrolled:
		text = "whoever has a second factor is asked for it"
	case slices.Equal(d.Factors, []string{Bypass}):
		return "nothing but a bypass from the helpdesk counts"
	case d.Factors != nil:
		text = strings.Join(d.Factors, " or ") + " is required"
	}
	if d.Digits != 0 {
		text += fmt.Sprintf(", with a number of %d digits", d.Digits)
	}
	if d.Remember != 0 {
		text += fmt.Sprintf(", and not again for %s", d.Remember)
	}
	return text
}

// Explanation is a decision and how it came about.
type Explanation struct {
	Decision
	Why   string // one line for people
	Steps []Step // in the order in which they were looked at
	Facts []Seen // what the rules saw
}

// Step is one rule that was looked at.
type Step struct {
	Rule    string // as in Decision
	Source  string // Computer or Organisation
	Outcome Outcome
	Text    string // why it cannot tell, or is ignored
}

// Whose a rule is.
const (
	Computer     = "computer"
	Organisation = "organisation"
)

// Outcome is what one rule came to.
type Outcome string

// The outcomes of a rule.
const (
	Decides    Outcome = "decides"
	No         Outcome = "no"
	CannotTell Outcome = "cannot_tell" // something that it needs is not known: it requires, and the search goes on
	Ignored    Outcome = "ignored"     // it may not weaken
)

// Seen is one fact as the rules saw it.
type Seen struct {
	Name  string
	Value string // as CEL; "": not known
	Text  string // why it is not known
}
