package accounts

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"sallyport/internal/policy"
)

// Spelling is a name as people on Windows type it, taken apart: DOMAIN\user,
// .\user, user@domain (a user principal name) or user alone.
type Spelling struct {
	Domain string // before the backslash; "." is this computer, "" there is none
	User   string // behind it; the whole of a user principal name
}

// local is the domain that stands for this computer.
const local = "."

// Spell takes a name apart. ok is false for what is nobody's name: Windows would
// read it up to the NUL, or strip the space, and find somebody else. Names that end
// in a dollar sign are those of computers and of services' managed accounts, which
// LookupAccountNameW says are users.
func Spell(name string) (s Spelling, ok bool) {
	if !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) {
		return s, false
	}
	domain, user, qualified := strings.Cut(name, `\`)
	if !qualified {
		domain, user = "", name
	}
	if qualified && domain == "" || user == "" || strings.Contains(user, `\`) || strings.HasSuffix(user, "$") {
		return s, false
	}
	if at := strings.LastIndexByte(user, '@'); at == 0 || at > 0 && at == len(user)-1 {
		return s, false
	}
	for _, part := range []string{domain, user} {
		if strings.TrimSpace(part) != part {
			return s, false
		}
	}
	return Spelling{domain, user}, true
}

// Bare says whether the name alone is there, and no domain.
func (s Spelling) Bare() bool { return s.Domain == "" && !strings.Contains(s.User, "@") }

// qualified says whether the name is spelt as Windows itself spells it, capitals
// apart: DOMAIN\user.
func (s Spelling) qualified() bool {
	return s.Domain != "" && s.Domain != local && !strings.Contains(s.User, "@")
}

// CanWait says whether a name that the system does not know yet will be known by the
// name that the system gives whoever it is: on Windows it needs its domain.
func CanWait(name string) bool {
	s, ok := Spell(name)
	return !domains || ok && s.qualified()
}

// String is the name as Windows takes it.
func (s Spelling) String() string {
	if s.Domain == "" {
		return s.User
	}
	return s.Domain + `\` + s.User
}

// alike says what two spellings tell by themselves: in one domain a name is one
// account's, and another name another's. The laptop that is out of reach of its
// domain has nobody to ask. Directories differ in which accents they take for the
// same letter: those names are left to them.
func alike(listed, known string) policy.Membership {
	a, ok := Spell(listed)
	b, ok2 := Spell(known)
	if !ok || !ok2 || a.Domain == "" || !strings.EqualFold(a.Domain, b.Domain) || !ascii(listed) || !ascii(known) {
		return policy.Unknown
	}
	if strings.EqualFold(a.User, b.User) {
		return policy.Member
	}
	return policy.NotMember
}

func ascii(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r > unicode.MaxASCII })
}

// microsoftAccount is the domain under which Windows finds the local account that
// is linked with a Microsoft account.
const microsoftAccount = "MicrosoftAccount"

// certain says whether Windows' "no mapping" means that there is no such account.
// It says so too when the domain cannot be asked. Certain is what this computer
// knows by itself, and what a domain controller of its own domain says: answers
// asks for one. Further domains are asked by way of that one, and Microsoft Entra
// ID only of whom was here before. computer and home are NetBIOS names; home is ""
// where the computer is in no domain.
func (s Spelling) certain(computer, home string, answers func() bool) bool {
	switch {
	case s.Domain == local, strings.EqualFold(s.Domain, computer), strings.EqualFold(s.Domain, microsoftAccount):
		return true
	case strings.Contains(s.User, "@"), strings.EqualFold(s.Domain, "AzureAD"):
		return false
	case home == "":
		return true
	}
	return (s.Domain == "" || strings.EqualFold(s.Domain, home)) && answers()
}
