package hosttest

import (
	"slices"
	"testing"

	loginv1 "sallyport/proto/sallyport/login/v1"
)

// Flags of CredUIPromptForWindowsCredentials, as a provider gets them.
const (
	creduiGeneric              = 0x1
	creduiAuthPackageOnly      = 0x10
	creduiInCredOnly           = 0x20
	creduiEnumerateAdmins      = 0x100
	creduiEnumerateCurrentUser = 0x200
	creduiPack32               = 0x10000000
)

func TestScenarios(t *testing.T) {
	for name, c := range map[string]struct {
		visit   visit
		want    loginv1.Scenario
		service string
	}{
		"logon":            {visit{}, loginv1.Scenario_SCENARIO_LOGIN, "logonui"},
		"unlock":           {visit{scenario: "unlock"}, loginv1.Scenario_SCENARIO_UNLOCK, "logonui"},
		"over RDP":         {visit{from: "192.0.2.7"}, loginv1.Scenario_SCENARIO_REMOTE, "logonui"},
		"unlock over RDP":  {visit{scenario: "unlock", from: "192.0.2.7"}, loginv1.Scenario_SCENARIO_REMOTE, "logonui"},
		"elevation":        {visit{scenario: "credui", flags: creduiEnumerateAdmins}, loginv1.Scenario_SCENARIO_ELEVATE, "credui"},
		"CredUI, for self": {visit{scenario: "credui", flags: creduiEnumerateCurrentUser}, loginv1.Scenario_SCENARIO_ELEVATE, "credui"},
	} {
		t.Run(name, func(t *testing.T) {
			agentPlays(t, func(s *session) {
				if s.begin.GetScenario() != c.want || string(s.begin.GetService()) != c.service {
					s.fail("the scenario is %v of %q", s.begin.GetScenario(), s.begin.GetService())
				}
				// The client says it itself: an address that a policy could match it must not be.
				if got, want := string(s.begin.GetRemoteHost()), map[bool]string{true: "rdp:192.0.2.7"}[c.visit.from != ""]; got != want {
					s.fail("the remote host is %q, want %q", got, want)
				}
				codeThen(allow())(s)
			})
			c.visit.people = []person{alice}
			s := sit(t, c.visit)
			s.selects(0)
			s.typesPassword()
			s.isAsked(codePrompt)
			s.typesCode("123456")
			s.isIn("CORP", "alice")
			s.leaves()
		})
	}
}

// TestCredUIPacksForWow: a 32-bit program asks for 32-bit pointers.
func TestCredUIPacksForWow(t *testing.T) {
	agentPlays(t, says(skip()))
	s := sit(t, visit{scenario: "credui", flags: creduiEnumerateAdmins | creduiPack32, people: []person{alice}})
	s.selects(0)
	s.typesPassword()
	if s.last.Credential == nil {
		t.Fatalf("not in: %+v", s.last)
	}
	got, err := wow32.parse(s.last.Credential.Blob)
	want := kerbLogon{0, "CORP", "alice", password}
	if err != nil || got != want || string(wow32.pack(want)) != string(s.last.Credential.Blob) {
		t.Errorf("the credential is %+v (%v), want %+v", got, err, want)
	}
	s.leaves()
}

// offered are the providers that stay after the filter.
func (s *screen) offered() (list []string) {
	for _, p := range s.providers {
		if p.Allowed {
			list = append(list, p.CLSID)
		}
	}
	slices.Sort(list)
	return list
}

// everybody are all providers of this Windows.
func everybody() []string {
	list := []string{clsid}
	for _, id := range microsofts {
		list = append(list, id)
	}
	slices.Sort(list)
	return list
}

// TestFilterLeavesOnlyOurs (paths nobody covered: other credential providers left enabled).
func TestFilterLeavesOnlyOurs(t *testing.T) {
	for _, v := range []visit{
		{}, {scenario: "unlock"}, {from: "192.0.2.7"}, {scenario: "credui", flags: creduiEnumerateAdmins},
	} {
		s := sit(t, v)
		if got := s.offered(); !slices.Equal(got, []string{clsid}) {
			t.Errorf("%+v: offered are %v", v, got)
		}
		if len(s.tiles) == 0 {
			t.Errorf("%+v: there is no tile", v)
		}
		s.leaves()
	}
}

// TestFilterLeavesTheRestToWindows: where we have no tile, nobody else's is hidden.
func TestFilterLeavesTheRestToWindows(t *testing.T) {
	for name, v := range map[string]visit{
		"a change of the password":       {scenario: "change"},
		"before the login (PLAP)":        {scenario: "plap"},
		"a program's own password":       {scenario: "credui", flags: creduiGeneric},
		"a password for elsewhere":       {scenario: "credui"},
		"elsewhere, of the current user": {scenario: "credui", flags: creduiGeneric | creduiEnumerateCurrentUser},
	} {
		t.Run(name, func(t *testing.T) {
			s := sit(t, v)
			if got := s.offered(); !slices.Equal(got, everybody()) {
				t.Errorf("offered are %v", got)
			}
			for _, p := range s.providers {
				if p.CLSID == clsid && (p.Ready || p.Usage != "0x80004001") { // E_NOTIMPL
					t.Errorf("ours is ready: %v, and says %s", p.Ready, p.Usage)
				}
			}
			s.leaves()
		})
	}
}

// TestSwitchedOff: each scenario by the registry, the policies' key before the other.
func TestSwitchedOff(t *testing.T) {
	besideOthers(t)
	visits := map[string]visit{
		"logon":  {},
		"unlock": {scenario: "unlock"},
		"credui": {scenario: "credui", flags: creduiEnumerateAdmins},
	}
	// Windows 10 and later mostly unlock by logging on: logon alone switches nothing off,
	// or a guarded unlock would be none. TestLogonAndUnlockSwitchedOff has the two.
	for value, where := range map[string][]string{
		"logon": nil, "unlock": {"unlock"}, "credui": {"credui"},
		"enabled": {"logon", "unlock", "credui"}, // the emergency switch
	} {
		for _, c := range []struct {
			name                string
			installed, policies any
			off                 bool
		}{
			{"installed", uint32(0), nil, true},
			{"by policy", nil, uint32(0), true},
			{"the policy wins", uint32(0), uint32(1), false},
			{"what is no switch counts as the default", "0", nil, false},
			{"nor is 2", uint32(2), nil, false},
		} {
			t.Run(value+" "+c.name, func(t *testing.T) {
				if c.installed != nil {
					setValue(t, settings, value, c.installed)
				}
				if c.policies != nil {
					setValue(t, policies, value, c.policies)
				}
				s := turnOn(t)
				for name, v := range visits {
					want := []string{clsid}
					if c.off && slices.Contains(where, name) {
						want = everybody()
					}
					s.visit = v
					s.sitDown()
					if got := s.offered(); !slices.Equal(got, want) {
						t.Errorf("%s: offered are %v, want %v", name, got, want)
					}
					if (len(s.tiles) > 0) != (len(want) == 1) {
						t.Errorf("%s: %d tiles of ours", name, len(s.tiles))
					}
					s.leaves()
				}
			})
		}
	}
}

func TestLogonAndUnlockSwitchedOff(t *testing.T) {
	setValue(t, settings, "logon", uint32(0))
	setValue(t, settings, "unlock", uint32(0))
	for _, v := range []visit{{}, {scenario: "unlock"}} {
		s := sit(t, v)
		if got := s.offered(); !slices.Equal(got, everybody()) {
			t.Errorf("%+v: offered are %v", v, got)
		}
		s.leaves()
	}
}

func TestAllowList(t *testing.T) {
	t.Run("values of a key", func(t *testing.T) {
		setValue(t, settings+`\allow`, "1", smartcardProvider)
		setValue(t, settings+`\allow`, "2", "no CLSID")
		s := sit(t, visit{})
		if got := s.offered(); !slices.Equal(got, []string{clsid, smartcardProvider}) {
			t.Errorf("offered are %v", got)
		}
		s.leaves()
	})
	t.Run("one value of many lines", func(t *testing.T) {
		setValue(t, policies, "allow", []string{smartcardProvider, passwordProvider})
		s := sit(t, visit{})
		if got := s.offered(); !slices.Equal(got, []string{passwordProvider, clsid, smartcardProvider}) {
			t.Errorf("offered are %v", got)
		}
		s.leaves()
	})
	t.Run("in other letters", func(t *testing.T) {
		setValue(t, settings+`\allow`, "1", "{8fd7e19c-3bf7-489b-a72c-846ab3678c96}")
		s := sit(t, visit{})
		if got := s.offered(); !slices.Equal(got, []string{clsid, smartcardProvider}) {
			t.Errorf("offered are %v", got)
		}
		s.leaves()
	})
}

// TestOursIsExcluded: where ours is not among the listed (an
// administrator excludes it), to hide the others would lock everybody out.
func TestOursIsExcluded(t *testing.T) {
	setValue(t, providersKey+clsid, "Disabled", uint32(1))
	s := sit(t, visit{})
	for _, p := range s.providers {
		if !p.Allowed {
			t.Errorf("%s is hidden", p.Name)
		}
	}
	s.leaves()
}
