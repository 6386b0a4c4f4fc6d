package hosttest

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"testing"
)

// arrives is an RDP user whose client has sent this along.
func arrives(t *testing.T, blob []byte, people ...person) *screen {
	t.Helper()
	return sit(t, visit{from: "192.0.2.7", people: people, other: "connected", before: func(s *screen) {
		s.last = s.do("remote", passwordProvider, hex.EncodeToString(blob))
	}})
}

func sentAlong(domain, user string) []byte {
	return wide64.pack(kerbLogon{interactiveLogon, domain, user, password})
}

// TestRDPNobodyTypesThePasswordTwice: the client has sent name and password, so the
// screen goes straight on to the second factor.
func TestRDPNobodyTypesThePasswordTwice(t *testing.T) {
	for name, people := range map[string][]person{
		"other user":      nil,
		"the user's tile": {bob, alice},
	} {
		t.Run(name, func(t *testing.T) {
			agentPlays(t, func(s *session) {
				if string(s.begin.GetUser()) != `CORP\alice` || string(s.begin.GetPassword()) != password {
					s.fail("the user is %q", s.begin.GetUser())
				}
				codeThen(allow())(s)
			})
			s := arrives(t, sentAlong("CORP", "alice"), people...)
			if a := s.last; a.To != clsid || a.Taken != "0x00000000" || !bytes.Equal(a.Blob, sentAlong("CORP", "alice")) {
				t.Errorf("the filter gives %s to %s (%s), taken: %s", hex.EncodeToString(a.Blob), a.To, a.Updated, a.Taken)
			}
			a := s.do("tiles")
			if a.Default == nil || !a.Automatic {
				t.Fatalf("the screen does not log in by itself: %v %v", a.Default, a.Automatic)
			}
			s.selects(*a.Default)
			s.submits()
			s.isAsked(codePrompt)
			s.typesCode("123456")
			s.isIn("CORP", "alice")
			if a := s.do("refresh"); a.Automatic {
				t.Error("the screen would log in by itself again")
			}
			s.leaves()
		})
	}
}

// TestRDPWrongCode: after a refusal the password is not tried again by itself.
func TestRDPWrongCode(t *testing.T) {
	const why = "That code is not right."
	agentPlays(t, codeThen(deny("wrong_code", why)))
	s := arrives(t, sentAlong("CORP", "alice"))
	s.selects(*s.do("tiles").Default)
	s.submits()
	s.typesCode("123456")
	s.isRefused(why)
	if a := s.do("refresh"); a.Automatic {
		t.Error("the screen would log in by itself again")
	}
	s.findsNo(password)
	s.leaves()
}

// TestRDPWithoutAPassword: only the name came; the person types the rest.
func TestRDPWithoutAPassword(t *testing.T) {
	agentPlays(t, codeThen(allow()))
	s := arrives(t, wide64.pack(kerbLogon{interactiveLogon, "CORP", "alice", ""}))
	a := s.do("tiles")
	if a.Default == nil || a.Automatic {
		t.Fatalf("default %v, by itself: %v", a.Default, a.Automatic)
	}
	s.selects(*a.Default)
	s.typesPassword()
	s.isAsked(codePrompt)
	s.typesCode("123456")
	s.isIn("CORP", "alice")
	s.leaves()
}

// malformed are inbound blobs that no honest client sends.
func malformed() map[string][]byte {
	good := sentAlong("CORP", "alice")
	with := func(change func(b []byte)) []byte {
		b := bytes.Clone(good)
		change(b)
		return b
	}
	put16 := func(at int, v uint16) func([]byte) {
		return func(b []byte) { binary.LittleEndian.PutUint16(b[at:], v) }
	}
	put64 := func(at int, v uint64) func([]byte) {
		return func(b []byte) { binary.LittleEndian.PutUint64(b[at:], v) }
	}
	const domain, user = 8, 24 // the UNICODE_STRINGs; a buffer is 8 behind its length
	m := map[string][]byte{
		"no bytes":                    {},
		"one byte":                    {2},
		"half a header":               good[:32],
		"a header without strings":    good[:64],
		"cut in the user name":        good[:70],
		"without a user name":         with(put16(user, 0)),
		"an odd length":               with(put16(user, 9)),
		"a length beyond the end":     with(put16(user, 0xfffe)),
		"an offset beyond the end":    with(put64(user+8, 1<<20)),
		"an offset at the end":        with(put64(user+8, uint64(len(good)))),
		"an offset that wraps around": with(put64(user+8, ^uint64(0)-3)),
		"a pointer in its place":      with(put64(user+8, 0x7fff_ffff_0000)),
		"an offset into the header":   with(put64(user+8, 8)),
		"a domain beyond the end":     with(put64(domain+8, 1<<40)),
		"32-bit pointers":             wow32.pack(kerbLogon{interactiveLogon, "CORP", "alice", password}),
		"a smart card's logon":        with(func(b []byte) { binary.LittleEndian.PutUint32(b, 6) }),
		"a name with a NUL":           wide64.pack(kerbLogon{interactiveLogon, "CORP", "ali\x00ce", password}),
		"a name of 600 letters":       wide64.pack(kerbLogon{interactiveLogon, "CORP", string(bytes.Repeat([]byte("a"), 600)), password}),
		"100 KB of nothing":           make([]byte, 100<<10),
		"100 KB of 0xff":              bytes.Repeat([]byte{0xff}, 100<<10),
	}
	return m
}

// TestRDPMalformed: the person logs in as if nothing had come.
func TestRDPMalformed(t *testing.T) {
	for name, blob := range malformed() {
		t.Run(name, func(t *testing.T) {
			agentPlays(t, codeThen(allow()))
			s := arrives(t, blob)
			if a := s.do("tiles"); a.Automatic {
				t.Error("the screen logs in by itself")
			}
			s.selects(0)
			s.types("User name", `CORP\alice`)
			s.typesPassword()
			s.isAsked(codePrompt)
			s.typesCode("123456")
			s.isIn("CORP", "alice")
			s.leaves()
		})
	}
}

// TestRDPEveryTruncation of a good blob is either refused or read inside its bounds:
// the page behind it is not there.
func TestRDPEveryTruncation(t *testing.T) {
	s := sit(t, visit{from: "192.0.2.7", other: "connected"})
	good := sentAlong("CORP", "alice")
	for n := range good {
		if a := s.do("remote", passwordProvider, hex.EncodeToString(good[:n])); a.Taken == "0x00000000" && n < 64+2*len("CORPalice") {
			t.Errorf("%d bytes of %d are taken", n, len(good))
		}
	}
	s.leaves()
}

// TestRDPWhileSwitchedOff: the credential stays Windows' own provider's.
func TestRDPWhileSwitchedOff(t *testing.T) {
	setValue(t, settings, "enabled", uint32(0))
	s := arrives(t, sentAlong("CORP", "alice"))
	if s.last.To == clsid || s.last.Taken != "" {
		t.Errorf("the credential goes to %q", s.last.To)
	}
	s.leaves()
}

// TestCredUIInput: what the calling program gave is filled in, and not sent off.
func TestCredUIInput(t *testing.T) {
	for name, c := range map[string]struct {
		flags int
		blob  []byte
	}{
		"64 bit": {creduiEnumerateAdmins, sentAlong("CORP", "alice")},
		"32 bit": {creduiEnumerateAdmins | creduiPack32, wow32.pack(kerbLogon{interactiveLogon, "CORP", "alice", password})},
		"only":   {creduiEnumerateAdmins | creduiInCredOnly, sentAlong("CORP", "alice")},
	} {
		t.Run(name, func(t *testing.T) {
			agentPlays(t, says(skip()))
			s := sit(t, visit{scenario: "credui", flags: c.flags, people: []person{bob, alice}, before: func(s *screen) {
				if a := s.do("input", hex.EncodeToString(c.blob)); a.Taken != "0x00000000" {
					t.Errorf("SetSerialization gives %s", a.Taken)
				}
			}})
			a := s.do("tiles")
			if a.Default == nil || a.Automatic {
				t.Fatalf("default %v, by itself: %v", a.Default, a.Automatic)
			}
			if want := map[bool]int{true: 1, false: 2}[name == "only"]; len(a.Tiles) < want || name == "only" && len(a.Tiles) != 1 {
				t.Errorf("there are %d tiles", len(a.Tiles))
			}
			s.selects(*a.Default)
			s.submits()
			if s.last.Credential == nil {
				t.Fatalf("not in: %+v", s.last)
			}
			l := map[bool]layout{false: wide64, true: wow32}[c.flags&creduiPack32 != 0]
			if got, err := l.parse(s.last.Credential.Blob); err != nil || got != (kerbLogon{0, "CORP", "alice", password}) {
				t.Errorf("the credential is %+v: %v", got, err)
			}
			s.leaves()
		})
	}
}

// TestCredUIMalformedInput: nothing of it is taken over.
func TestCredUIMalformedInput(t *testing.T) {
	s := sit(t, visit{scenario: "credui", flags: creduiEnumerateAdmins, people: []person{alice}, before: func(s *screen) {
		for name, blob := range malformed() {
			if a := s.do("input", hex.EncodeToString(blob)); a.Taken == "0x00000000" {
				t.Errorf("%s is taken", name)
			}
		}
	}})
	if a := s.do("tiles"); a.Default != nil {
		t.Errorf("the screen selects the tile %d", *a.Default)
	}
	s.leaves()
}

// TestCredUIAnotherPackage: with CREDUIWIN_AUTHPACKAGE_ONLY a provider that cannot
// serialize for the package has no tiles.
func TestCredUIAnotherPackage(t *testing.T) {
	s := sit(t, visit{scenario: "credui", flags: creduiEnumerateAdmins | creduiAuthPackageOnly, people: []person{alice}, before: func(s *screen) {
		if a := s.do("input", hex.EncodeToString(sentAlong("CORP", "alice")), 4711); a.Taken == "0x00000000" || a.Taken == "0x00000001" {
			t.Errorf("SetSerialization gives %s", a.Taken)
		}
	}})
	if len(s.tiles) != 0 {
		t.Errorf("there are %d tiles", len(s.tiles))
	}
	s.leaves()
}
