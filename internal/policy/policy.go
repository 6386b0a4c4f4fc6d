// Package policy decides who is asked for a second factor. It is pure: names
// and groups are resolved by the caller, and a look-up that failed says so.
package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unicode"

	"sallyport/internal/identity"
)

// Rules is the [policy] section of the configuration.
type Rules struct {
	// Ask says what happens to whoever no list names: "enrolled" (only those
	// with a second factor are asked; an installation locks nobody out) or
	// "required" (everyone is).
	Ask      string `toml:"ask" comment:"who is asked when no list below matches: \"enrolled\" or \"required\""`
	Required Match  `toml:"required"`
	Exempt   Match  `toml:"exempt"`
	// Rules come after the exemptions and before what is required; each is one line,
	// NAME: EFFECT when CONDITION.
	Rules   []string `toml:"rules" json:",omitempty" comment:"rules such as 'at night: deny when hour < 6': the first whose condition is true decides, after the exemptions and before the rest"`
	Offline Offline  `toml:"offline" json:",omitzero"`
}

// Offline bounds how long a computer that has joined an authority lets people in
// without contact.
type Offline struct {
	Days       int `toml:"days" comment:"how many days without contact to the authority; 0: any number"`
	Logins     int `toml:"logins" comment:"how many logins of one person without contact; 0: any number"`
	WarnDays   int `toml:"warn_days" comment:"how many days before the end the prompt says so"`
	WarnLogins int `toml:"warn_logins" comment:"how many logins before the end the prompt says so"`
}

// Match names people and places. Any one entry that fits makes it match.
type Match struct {
	Users    []string `toml:"users" comment:"names of accounts; each is looked up before it is compared"`
	UIDs     []uint32 `toml:"uids" comment:"numbers of accounts" os:"unix"`
	SIDs     []string `toml:"sids" json:",omitempty" comment:"SIDs of accounts, such as S-1-5-21-1-2-3-1001" os:"windows"`
	Groups   []string `toml:"groups" comment:"names of groups, or their numbers or SIDs"`
	Services []string `toml:"services" comment:"what is logged in to: PAM services such as sshd; on Windows logonui and credui, on macOS loginwindow, screensaver and authorization"`
	Remote   []string `toml:"remote" comment:"addresses or ranges such as 192.0.2.0/24 of the computer that the login comes from"`
}

// Ask values.
const (
	AskEnrolled = "enrolled"
	AskRequired = "required"
	// askUnreadable is what Unreadable says, for the events.
	askUnreadable = "unreadable"
)

// Validate says what is wrong with the rules, naming the key.
func (r *Rules) Validate() error {
	if r.Ask != AskEnrolled && r.Ask != AskRequired {
		return fmt.Errorf("policy.ask is %q; it must be \"enrolled\" or \"required\"", r.Ask)
	}
	if _, err := compileRules(r.Rules); err != nil {
		return err
	}
	for name, m := range map[string]*Match{"policy.required": &r.Required, "policy.exempt": &r.Exempt} {
		for _, entry := range m.Remote {
			if _, err := parseRange(entry); err != nil {
				return fmt.Errorf("%s.remote: %q is not an address or a range such as 192.0.2.0/24", name, entry)
			}
		}
		for _, entry := range m.SIDs {
			if _, err := identity.SID(entry); err != nil {
				return fmt.Errorf("%s.sids: %w", name, err)
			}
		}
		for _, entry := range m.Groups {
			if err := logonGroup(entry); err != nil {
				return fmt.Errorf("%s.groups: %w", name, err)
			}
		}
		for key, list := range map[string][]string{"users": m.Users, "groups": m.Groups, "services": m.Services} {
			for _, entry := range list {
				if why := notAName(entry, key == "groups"); why != "" {
					return fmt.Errorf("%s.%s: %q %s", name, key, entry, why)
				}
			}
		}
	}
	return nil
}

// logonGroup refuses the SID of a group of logons.
func logonGroup(entry string) error {
	if id, err := identity.SID(entry); err == nil && id.IsLogonGroup() {
		return LogonGroupError(entry)
	}
	return nil
}

// LogonGroupError refuses an entry that names a group of logons. Which of those
// somebody is in is known of the agent's own check of the password, and not of the
// session that follows.
func LogonGroupError(entry string) error {
	return fmt.Errorf("%q tells how somebody logs on, not who: use services and remote for that, and groups of accounts here", entry)
}

// notAName says why an entry cannot be one name, or "". In other products' files
// it may mean something; here it would match nobody, and nobody would notice.
func notAName(entry string, group bool) string {
	inner := entry
	if group || strings.Contains(entry, `\`) { // "domain users": Active Directory's own; "CORP\john smith"
		inner = strings.ReplaceAll(entry, " ", "")
	}
	switch {
	case entry == "":
		return "is empty"
	case strings.TrimSpace(entry) != entry:
		return "begins or ends with a space"
	case strings.ContainsAny(entry[:1], "!-+@%"):
		return fmt.Sprintf("begins with %q, which means nothing here: an entry is one name, and exceptions go into policy.exempt", entry[:1])
	case strings.ContainsAny(entry, ",*"):
		return "has a comma or an asterisk in it: an entry is one name, and there are no patterns"
	case strings.ContainsFunc(inner, unicode.IsSpace):
		return "has a space in it: an entry is one name; a user whose name has one is written DOMAIN\\name, or goes into uids or sids"
	}
	return ""
}

// Membership is what is known of a user and one entry of a list.
type Membership int

// The zero value is Unknown: a failed look-up.
const (
	Unknown Membership = iota
	Member
	NotMember
)

// Resolver is what the operating system knows of names (NSS on Linux).
type Resolver interface {
	// IsUser says whether a name on a list is that account's. A name that the
	// system does not know is nobody's: NotMember.
	IsUser(name string, id identity.ID) Membership
	// Membership of the user in a group named on a list.
	Membership(user string, group string) Membership
	// LastSeen says whether the user was a member not long ago. It only ever
	// requires: glibc's getgrouplist hides a directory that is down, and its
	// silence must not read as "not a member".
	LastSeen(id identity.ID, group string) bool
}

// match returns the entry that fits, and one that could not be looked up.
// places: whether Service and Remote count. enough: one name that could not be
// looked up decides, and no other name is: each may wait for a directory that
// hangs, and the organisation's lists may have hundreds.
func (m *Match) match(f *facts, places, enough bool) (rule, failed string) {
	s := f.s
	if s.Resolved {
		if uid, ok := s.ID.UID(); ok && slices.Contains(m.UIDs, uid) {
			return fmt.Sprintf("uids=%d", uid), ""
		}
		if sid, ok := s.ID.SID(); ok && slices.ContainsFunc(m.SIDs, func(entry string) bool { return strings.EqualFold(entry, sid) }) {
			return "sids=" + sid, ""
		}
		if slices.Contains(m.Users, s.Name) {
			return "users=" + s.Name, ""
		}
		for _, name := range m.Users {
			switch f.names.IsUser(name, s.ID) {
			case Member:
				return "users=" + name, ""
			case Unknown:
				failed = "users=" + name
			}
			if enough && failed != "" {
				break
			}
		}
		for _, group := range m.Groups {
			switch f.member(group) {
			case Member:
				return "groups=" + group, ""
			case Unknown:
				failed = "groups=" + group
			}
		}
	}
	if !places {
		return "", failed
	}
	if slices.Contains(m.Services, s.Service) {
		return "services=" + s.Service, ""
	}
	if s.RemoteUnknown && len(m.Remote) > 0 {
		failed = "remote"
	}
	if s.Remote.IsValid() {
		for _, entry := range m.Remote {
			if p, err := parseRange(entry); err == nil && contains(p, s.Remote) {
				return "remote=" + entry, ""
			}
		}
	}
	return "", failed
}

// parseRange reads an address or a range. An IPv4 one in IPv6 notation is meant
// as IPv4, which is what addresses are compared as.
func parseRange(entry string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(entry); err == nil {
		if addr.Zone() != "" {
			return netip.Prefix{}, errors.New("a zone is not compared")
		}
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	p, err := netip.ParsePrefix(entry)
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked(), err
}
