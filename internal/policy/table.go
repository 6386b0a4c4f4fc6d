package policy

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"sallyport/internal/identity"
)

// Table is what somebody expects of rules, as `sallyport policy test` reads it.
type Table struct {
	// Policy is root's rules and Organisation the organisation's; without either,
	// those of the configuration are tested.
	Policy          *Rules `toml:"policy"`
	Organisation    *Rules `toml:"organisation"`
	AllowExemptions bool   `toml:"allow_exemptions"`
	Cases           []Case `toml:"case"`
}

// Case is a login that nobody makes, and what is expected to come of it. What is left
// out is as at this computer's own screen; what a computer knows of itself, and the
// time, are not known when left out.
type Case struct {
	Name string `toml:"name"`

	User       string   `toml:"user"` // "maya"
	NoSuchUser bool     `toml:"no_such_user"`
	UID        *uint32  `toml:"uid"` // 1000, unless there is a SID
	SID        string   `toml:"sid"`
	Groups     []string `toml:"groups"`    // of all others they are not
	LastSeen   []string `toml:"last_seen"` // groups that they were in not long ago

	Hook     string `toml:"hook"` // "pam"
	Service  string `toml:"service"`
	Scenario string `toml:"scenario"` // "remote" with From, else "login"
	From     string `toml:"from"`
	Session  string `toml:"session"`
	NotRoot  bool   `toml:"not_root"` // what says all this is not root's

	Offline bool        `toml:"offline"`
	At      time.Time   `toml:"at"`
	Device  CaseDevice  `toml:"device"`
	Last    *CaseFactor `toml:"last"` // none yet

	// NotKnown are look-ups that fail: "last", "group NAME", "user NAME".
	NotKnown []string `toml:"not_known"`

	// What is expected. Of what is left out, anything is right.
	Expect   string    `toml:"expect"` // as Effect says it; has to be there
	Rule     *string   `toml:"rule"`
	Factors  *[]string `toml:"factors"` // none: any
	Number   *int      `toml:"number"`
	Remember *caseTime `toml:"remember"`
}

// CaseDevice is what a case's computer knows of itself.
type CaseDevice struct {
	Encrypted *bool   `toml:"encrypted"`
	TPM       *bool   `toml:"tpm"`
	OS        string  `toml:"os"`
	OSVersion *string `toml:"os_version"`
	Authority *string `toml:"authority"`
}

// CaseFactor is the last factor that was given there.
type CaseFactor struct {
	Factor string   `toml:"factor"`
	Age    caseTime `toml:"age"`
}

// caseTime is a time written as "90s".
type caseTime time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (t *caseTime) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	*t = caseTime(v)
	return err
}

// ReadTable reads a table, strictly.
func ReadTable(text []byte) (*Table, error) {
	t := &Table{}
	decoder := toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields()
	if err := decoder.Decode(t); err != nil {
		var strict *toml.StrictMissingError
		var syntax *toml.DecodeError
		switch {
		case errors.As(err, &strict):
			row, column := strict.Errors[0].Position()
			return nil, fmt.Errorf("line %d, column %d: %s is nothing that a table has", row, column, strings.Join(strict.Errors[0].Key(), "."))
		case errors.As(err, &syntax):
			row, column := syntax.Position()
			return nil, fmt.Errorf("line %d, column %d: %w", row, column, err)
		}
		return nil, err
	}
	for _, r := range []*Rules{t.Policy, t.Organisation} {
		if r != nil && r.Ask == "" {
			r.Ask = AskEnrolled
		}
	}
	if len(t.Cases) == 0 {
		return nil, errors.New("there is no [[case]] in it")
	}
	names := map[string]bool{}
	for i := range t.Cases {
		c := &t.Cases[i]
		if err := c.check(); err != nil {
			return nil, fmt.Errorf("case %d, %q: %w", i+1, c.Name, err)
		}
		if names[c.Name] {
			return nil, fmt.Errorf("case %d, %q: there is another case of that name", i+1, c.Name)
		}
		names[c.Name] = true
	}
	return t, nil
}

// check says what is wrong with a case, and fills in what is left out.
func (c *Case) check() error {
	if c.Name == "" {
		return errors.New("it has no name")
	}
	effects := []string{Ask.String(), IfEnrolled.String(), Skip.String(), Deny.String()}
	if !slices.Contains(effects, c.Expect) {
		return fmt.Errorf("expect is %q; it must be one of %s", c.Expect, strings.Join(effects, ", "))
	}
	for _, what := range c.NotKnown {
		kind, name, _ := strings.Cut(what, " ")
		if what != "last" && (kind != "group" && kind != "user" || name == "") {
			return fmt.Errorf("not_known is %q; it may be \"last\", \"group NAME\" or \"user NAME\"", what)
		}
	}
	if c.SID != "" {
		if _, err := identity.SID(c.SID); err != nil {
			return err
		}
	}
	if c.Last != nil && !slices.Contains(append([]string{Bypass, "offline_bypass"}, nameable...), c.Last.Factor) {
		return fmt.Errorf("last.factor is %q, which is none", c.Last.Factor)
	}
	if c.User == "" {
		c.User = "maya"
	}
	if c.Hook == "" {
		c.Hook = "pam"
	}
	if c.Scenario == "" {
		c.Scenario = "login"
		if c.From != "" {
			c.Scenario = "remote"
		}
	}
	return nil
}

// ID is who logs in.
func (c *Case) ID() identity.ID {
	if c.SID != "" {
		id, _ := identity.SID(c.SID) // ReadTable has seen to it
		return id
	}
	if c.UID != nil {
		return identity.UID(*c.UID)
	}
	return identity.UID(1000)
}

// Subject is the login.
func (c *Case) Subject() Subject {
	s := Subject{Name: c.User, ID: c.ID(), Resolved: true, Hook: c.Hook, Service: c.Service, Scenario: c.Scenario, Session: c.Session,
		Trusted: !c.NotRoot, Online: !c.Offline, Now: c.At, Last: Known(Last{}),
		Device: Device{Encrypted: fact(c.Device.Encrypted), TPM: fact(c.Device.TPM), OS: c.Device.OS, OSVersion: fact(c.Device.OSVersion), Authority: fact(c.Device.Authority)}}
	if c.NoSuchUser {
		s.Name, s.ID, s.Resolved = "", "", false
	}
	s.ComesFrom(c.From, c.Scenario == "remote")
	if c.Last != nil {
		s.Last.Value = Last{c.Last.Factor, time.Duration(c.Last.Age)}
	}
	if slices.Contains(c.NotKnown, "last") {
		s.Last = NotKnown[Last]("")
	}
	return s
}

func fact[T any](v *T) Fact[T] {
	if v == nil {
		return Fact[T]{}
	}
	return Known(*v)
}

// Resolver is what the system knows of names in that case.
func (c *Case) Resolver() Resolver { return caseNames{c} }

type caseNames struct{ c *Case }

// IsUser implements Resolver.
func (n caseNames) IsUser(name string, id identity.ID) Membership {
	switch {
	case slices.Contains(n.c.NotKnown, "user "+name):
		return Unknown
	case name == n.c.User && id == n.c.ID():
		return Member
	}
	return NotMember
}

// Membership implements Resolver.
func (n caseNames) Membership(_, group string) Membership {
	switch {
	case slices.Contains(n.c.NotKnown, "group "+group):
		return Unknown
	case slices.Contains(n.c.Groups, group):
		return Member
	}
	return NotMember
}

// LastSeen implements Resolver.
func (n caseNames) LastSeen(_ identity.ID, group string) bool {
	return slices.Contains(n.c.LastSeen, group)
}

// Result is what came of one case.
type Result struct {
	Case        *Case
	Explanation Explanation
	Wrong       []string // what is not as expected, a line each; none: all is
}

// Compile makes the table's rules ready; configured are those of the configuration.
func (t *Table) Compile(configured Rules) (*Policy, error) {
	local := configured
	switch {
	case t.Policy != nil:
		local = *t.Policy
	case t.Organisation != nil:
		local = Rules{Ask: AskEnrolled}
	}
	for _, r := range []*Rules{&local, t.Organisation} {
		if r == nil {
			continue
		}
		if err := r.Validate(); err != nil {
			return nil, err
		}
	}
	return Compile(local, t.Organisation, t.AllowExemptions)
}

// Run decides every case of the table.
func (t *Table) Run(configured Rules) ([]Result, error) {
	p, err := t.Compile(configured)
	if err != nil {
		return nil, err
	}
	results := make([]Result, len(t.Cases))
	for i := range t.Cases {
		c := &t.Cases[i]
		e := p.Explain(c.Subject(), c.Resolver())
		results[i] = Result{c, e, c.Wrong(e.Decision)}
	}
	return results, nil
}

// Wrong says what is not as expected.
func (c *Case) Wrong(d Decision) (wrong []string) {
	differ := func(what string, got, want any) {
		if fmt.Sprint(got) != fmt.Sprint(want) {
			wrong = append(wrong, fmt.Sprintf("%s: got %v, expected %v", what, got, want))
		}
	}
	differ("effect", d.Effect, c.Expect)
	if c.Rule != nil {
		differ("rule", d.Rule, *c.Rule)
	}
	if c.Factors != nil {
		differ("factors", either(d.Factors), either(*c.Factors))
	}
	if c.Number != nil {
		differ("number", d.Digits, *c.Number)
	}
	if c.Remember != nil {
		differ("remember", d.Remember, time.Duration(*c.Remember))
	}
	return wrong
}

// either names factors as a rule does.
func either(factors []string) string {
	if len(factors) == 0 {
		return "any"
	}
	sorted := slices.Sorted(slices.Values(factors))
	return strings.Join(sorted, " or ")
}
