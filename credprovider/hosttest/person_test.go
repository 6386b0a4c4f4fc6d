package hosttest

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/internal/testkit/wine"
)

// password is everybody's, and the canary: no login may leave it in LogonUI's memory.
const password = "Kanarienvogel-7351"

const (
	aliceSID = "S-1-5-21-1004336348-1177238915-682003330-1001"
	bobSID   = "S-1-5-21-1004336348-1177238915-682003330-1002"
)

// visit is how a screen is set up.
type visit struct {
	scenario string // "" = logon
	flags    int
	from     string   // the RDP client's address; "" = the console
	people   []person // on the screen
	other    string   // "Other user": local, connected, "" = none
	worker   bool     // Connect is called on a thread of its own
	env      []string
	before   func(*screen) // between scenario and show
}

type person struct{ sid, name string }

var (
	alice = person{aliceSID, `CORP\alice`}
	bob   = person{bobSID, `CORP\bob`}
)

// sit turns the screen on and returns it with its tiles, none selected.
func sit(t *testing.T, v visit) *screen {
	t.Helper()
	s := turnOn(t, v.env...)
	s.visit = v
	s.sitDown()
	return s
}

// sitDown begins a visit at a screen that is on and empty.
func (s *screen) sitDown() {
	s.t.Helper()
	v := s.visit
	if v.from != "" {
		s.do("from", v.from)
	}
	if v.scenario == "" {
		v.scenario = "logon"
	}
	s.providers = s.do("scenario", v.scenario, v.flags).Providers
	for _, p := range v.people {
		s.do("user", p.sid, p.name, p.name)
	}
	if v.other != "" {
		s.do("other", v.other)
	}
	if v.before != nil {
		v.before(s)
	}
	s.tiles = s.do("show").Tiles
}

// atLogon is alice in front of her tile.
func atLogon(t *testing.T) *screen {
	t.Helper()
	s := sit(t, visit{people: []person{alice}})
	s.selects(0)
	return s
}

// atOther is somebody in front of "Other user".
func atOther(t *testing.T) *screen {
	t.Helper()
	s := sit(t, visit{other: "local"})
	s.selects(0)
	return s
}

func (s *screen) selects(tile int) answer {
	s.t.Helper()
	return s.do("select", tile)
}

// find returns the field that the person sees under this label.
func (s *screen) find(label string, types ...string) field {
	s.t.Helper()
	for _, f := range s.fields {
		for _, t := range types {
			if f.Shown && f.Label == label && f.Type == t {
				return f
			}
		}
	}
	s.t.Fatalf("there is no %q; on the screen: %s", label, s.look())
	panic("not reached")
}

func (s *screen) sees(label string) bool {
	for _, f := range s.fields {
		if f.Shown && f.Label == label {
			return true
		}
	}
	return false
}

// types types into a field, key by key.
func (s *screen) types(label, text string) {
	s.t.Helper()
	s.do("type", s.find(label, "edit", "password").ID, text)
}

// submits presses the arrow beside the field, and waits until the tile is back.
func (s *screen) submits(options ...any) answer {
	s.t.Helper()
	s.presses(options...)
	return s.waits()
}

// presses does not wait.
func (s *screen) presses(options ...any) {
	s.t.Helper()
	f := s.find("Log in", "submit")
	if f.Interactive == "disabled" {
		s.t.Fatal("the button is disabled")
	}
	if s.visit.worker {
		options = append([]any{"worker"}, options...)
	}
	for len(s.shown) > 0 { // of the press before
		<-s.shown
	}
	s.start("submit", options...)
}

// cancels presses the button, and gives up once that has happened: no sooner, for what
// has not yet reached the agent never does then.
func (s *screen) cancels(once <-chan struct{}) answer {
	s.t.Helper()
	dir, err := os.MkdirTemp(dist, "cancel-")
	if err != nil {
		s.t.Fatal(err)
	}
	file := filepath.Join(dir, "now")
	s.presses("cancel-once", wine.Path(file))
	select {
	case <-once:
	case <-time.After(patience):
		s.t.Fatal("it does not come so far that it can be cancelled")
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		s.t.Fatal(err)
	}
	return s.waits()
}

// silenceMax is how long Connect may go without asking whether the person still
// wants it, on the host's clock; beyond that Cancel looks broken.
const silenceMax = 1000 * time.Millisecond

// waits takes what a press of the button came to.
func (s *screen) waits() answer {
	s.t.Helper()
	s.last = s.finish("submit")
	a := s.last
	if a.Error != "" {
		s.t.Fatalf("submit: %s", a.Error)
	}
	if a.Connect != "0x00000000" && a.Connect != "" || a.Serialize != "0x00000000" {
		s.t.Errorf("Connect gives %s, GetSerialization %s", a.Connect, a.Serialize)
	}
	if silence := time.Duration(a.SilenceMS) * time.Millisecond; silence > silenceMax {
		s.t.Errorf("Connect did not ask for %v whether to go on", silence)
	}
	if a.BlockedMS > 500 && a.Connect != "" {
		s.t.Errorf("GetSerialization took %d ms", a.BlockedMS)
	}
	return a
}

// says waits for a message while the button is pressed.
func (s *screen) says(part string) string {
	s.t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case text := <-s.shown:
			if strings.Contains(text, part) {
				return text
			}
		case <-deadline:
			s.t.Fatalf("the screen never says %q", part)
		}
	}
}

// reads wants a text on the tile.
func (s *screen) reads(part string) {
	s.t.Helper()
	for _, f := range s.fields {
		if f.Shown && (f.Type == "small" || f.Type == "large") && strings.Contains(f.Text, part) {
			return
		}
	}
	s.t.Errorf("the tile does not say %q; on the screen: %s", part, s.look())
}

// isAsked wants the last press to have come to another question.
func (s *screen) isAsked(part string) {
	s.t.Helper()
	if a := s.last; a.Response != "not finished" || a.Credential != nil || a.Text != "" {
		s.t.Fatalf("want a question, got %q, %q, after %q; on the screen: %s", a.Response, a.Text, a.Messages, s.look())
	}
	if part != "" {
		s.reads(part)
	}
	if !s.sees("Code") {
		s.t.Errorf("there is no field for a code: %s", s.look())
	}
}

// isRefused wants it to have come to nothing, with a reason that is said.
func (s *screen) isRefused(part string) {
	s.t.Helper()
	a := s.last
	if a.Response != "not finished" && a.Response != "finished without" || a.Credential != nil {
		s.t.Fatalf("want a refusal, got %q with a credential: %v", a.Response, a.Credential != nil)
	}
	if !strings.Contains(a.Text, part) || a.Text == "" {
		s.t.Errorf("the reason is %q, want %q", a.Text, part)
	}
	s.isBlank()
}

// isBlank wants the tile to be as at the beginning.
func (s *screen) isBlank() {
	s.t.Helper()
	if s.find("Password", "password").Text != "" {
		s.t.Error("the password field is not empty")
	}
	if s.sees("Code") {
		s.t.Errorf("a code is still asked for: %s", s.look())
	}
}

// isIn wants a credential for Windows, byte by byte, and has Windows accept it.
func (s *screen) isIn(domain, user string) {
	s.t.Helper()
	s.isInWith(domain, user, password)
}

func (s *screen) isInWith(domain, user, password string) {
	s.t.Helper()
	a := s.last
	if a.Response != "finished" || a.Credential == nil {
		s.t.Fatalf("not in: %q, %q; on the screen: %s", a.Response, a.Text, s.look())
	}
	if a.Credential.CLSID != clsid || !a.Credential.Negotiate {
		s.t.Errorf("the credential is of %s, for Negotiate: %v", a.Credential.CLSID, a.Credential.Negotiate)
	}
	messageType := map[string]uint32{"": interactiveLogon, "logon": interactiveLogon, "unlock": workstationUnlockLogon, "credui": 0}[s.visit.scenario]
	want := kerbLogon{messageType, domain, user, password}
	got, err := wide64.parse(a.Credential.Blob)
	if err != nil {
		s.t.Fatalf("the credential is malformed: %v\n%s", err, hex.Dump(a.Credential.Blob))
	}
	if got != want {
		s.t.Errorf("the credential is %+v, want %+v", got, want)
	}
	if packed := wide64.pack(want); string(packed) != string(a.Credential.Blob) {
		s.t.Errorf("the credential is\n%swant\n%s", hex.Dump(a.Credential.Blob), hex.Dump(packed))
	}
	if r := s.do("result", 0); r.Text != "" {
		s.t.Errorf("after success the tile says %q", r.Text)
	}
}

// leaves takes the screen away. Nothing may be left of the visit.
func (s *screen) leaves(options ...any) {
	s.t.Helper()
	end := s.do("close", options...)
	if end.ProviderReferences != 0 || end.FilterReferences != 0 {
		s.t.Errorf("references that are left: %d to the provider, %d to the filter", end.ProviderReferences, end.FilterReferences)
	}
	if !end.CanUnload || !end.Unloaded {
		s.t.Errorf("the DLL may be unloaded: %v; is unloaded: %v", end.CanUnload, end.Unloaded)
	}
	s.findsNo(password)
}

// findsNo wants a secret to be nowhere in the process.
func (s *screen) findsNo(secret string) {
	s.t.Helper()
	a := s.do("scan", hex.EncodeToString([]byte(secret)))
	for _, f := range a.Found {
		s.t.Errorf("the secret is at %s, in %s: %s", f.At, f.As, f.Around)
	}
	if a.Searched < 1<<20 {
		s.t.Errorf("only %d bytes were searched", a.Searched)
	}
}

// finds wants it to be there: that the search finds what there is.
func (s *screen) finds(secret string) {
	s.t.Helper()
	if a := s.do("scan", hex.EncodeToString([]byte(secret))); len(a.Found) == 0 {
		s.t.Error("the search does not find what was just typed")
	}
}
