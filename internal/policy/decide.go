package policy

import (
	"net/netip"
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
	local Rules
}

// Compile makes ready what root says on this computer and what the organisation says;
// central is nil where it says nothing, or where root takes none of it. The
// organisation's exemptions count only with allowExemptions. The policy is good also
// with an error: what could not be read requires.
func Compile(local Rules, central *Rules, allowExemptions bool) (*Policy, error) {
	if central != nil {
		local = Raise(local, *central, allowExemptions)
	}
	return &Policy{local}, nil
}

// Decide says what a login comes to.
func (p *Policy) Decide(s Subject, names Resolver) Decision { return p.local.Decide(s, names) }

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
	Source  string
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
	CannotTell Outcome = "cannot_tell" // something that it needs is not known
	Ignored    Outcome = "ignored"     // it fits, and must not weaken
)

// Seen is one fact as the rules saw it.
type Seen struct {
	Name  string
	Value string // as CEL; "": not known
	Text  string // why it is not known
}

// Explain is Decide, and says how it came about.
func (p *Policy) Explain(s Subject, names Resolver) Explanation {
	return Explanation{Decision: p.Decide(s, names)}
}
