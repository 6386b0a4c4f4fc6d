//go:build linux

package e2e

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"sallyport/internal/event"
	"sallyport/internal/factor/push"
	"sallyport/internal/testkit/hook"
	"sallyport/internal/testkit/phone"
	"sallyport/internal/testkit/sandbox"
	"sallyport/pam/e2e/machine"
)

const (
	// patience bounds every wait.
	patience = 90 * time.Second
	// codeTime is how soon a code must be asked for where the authority does not
	// answer: the agent allows itself 1.5 s; the rest is a busy machine's. Whatever
	// else it could wait for takes longer than both.
	codeTime = 9 * time.Second
)

// Everybody who has an account. Each computer of each test has its own records;
// carl has none there.
const (
	maya = "maya"
	zoe  = "zoe"
	carl = "carl"
)

var shipped string // the directory with what is tested

func TestMain(m *testing.M) {
	buildBefore()
	machine.Main(m, func(dist string) error {
		shipped = dist
		for _, name := range []string{maya, zoe, carl} {
			if _, err := sandbox.AddUser(name, "correct horse"); err != nil {
				return err
			}
		}
		return nil
	}, "sallyport", "sallyport-authority")
}

// often lets tests push as often as they like.
var often = []string{"in_five_minutes = 100", "in_an_hour = 100", "misses = 0"}

// pushOften and allowOften are often, of a computer and of an authority.
var (
	pushOften  = append([]string{"[push]"}, often...)
	allowOften = append([]string{"[limits]"}, often...)
	// allowAtOnce takes another request while one is pending.
	allowAtOnce = append([]string{"[limits]", "concurrent = 0", "per_service = 0"}, often...)
)

// site is an authority and its computers.
type site struct {
	t         *testing.T
	authority *machine.Authority
}

// newSite makes an authority. with are arguments of its "init".
func newSite(t *testing.T, settings []string, with ...string) *site {
	t.Helper()
	return newSiteOf(t, shipped, settings, with...)
}

// newSiteOf is newSite of the programs in dist.
func newSiteOf(t *testing.T, dist string, settings []string, with ...string) *site {
	t.Helper()
	sandbox.Need(t)
	a, err := machine.NewAuthority(dist, t.TempDir(), settings, with...)
	ok(t, err)
	watch(t, "authority", a.Daemon)
	return &site{t, a}
}

// watch ends a service with the test, and shows its log if the test failed.
func watch(t *testing.T, name string, d *machine.Daemon) {
	t.Helper()
	t.Cleanup(func() {
		if err := d.Stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("what the %s said:\n%s", name, d.Output())
		}
	})
}

// computer is one that has joined, by a cable.
type computer struct {
	*machine.Computer
	t     *testing.T
	name  string
	cable *machine.Cable
	id    string // of the device
	codes map[string]*machine.Phone
	paper map[string][]string // recovery codes
}

// computer makes a computer that has joined, for maya and zoe, who have codes there.
func (s *site) computer(name string, settings ...string) *computer {
	s.t.Helper()
	return s.computerOf(shipped, name, settings...)
}

// computerOf is computer of the programs in dist.
func (s *site) computerOf(dist, name string, settings ...string) *computer {
	s.t.Helper()
	c := s.strangerOf(dist, name, settings...)
	token, err := s.authority.Token([]string{maya, zoe})
	ok(s.t, err)
	ok(s.t, c.Join(fmt.Sprintf("127.0.0.1:%d", c.cable.Port), token, "--name", name))
	c.connected()
	c.id = c.status().Authority.DeviceID
	return c
}

// stranger makes one that has not.
func (s *site) stranger(name string, settings ...string) *computer {
	s.t.Helper()
	return s.strangerOf(shipped, name, settings...)
}

func (s *site) strangerOf(dist, name string, settings ...string) *computer {
	s.t.Helper()
	m, err := machine.NewComputer(dist, filepath.Join(s.t.TempDir(), name), settings...)
	ok(s.t, err)
	watch(s.t, name, m.Agent)
	c := &computer{Computer: m, t: s.t, name: name, codes: map[string]*machine.Phone{}, paper: map[string][]string{}}
	c.cable, err = machine.NewCable(s.authority.Devices)
	ok(s.t, err)
	s.t.Cleanup(func() { _ = c.cable.Close() })
	for _, user := range []string{maya, zoe} {
		codes, enrolled, err := c.Enrol(user)
		ok(s.t, err)
		c.codes[user], c.paper[user] = codes, enrolled.RecoveryCodes
	}
	return c
}

// restart starts the agent again after Stop or Kill.
func (c *computer) restart() {
	c.t.Helper()
	ok(c.t, c.Start())
	watch(c.t, c.name, c.Agent)
}

// restart starts the authority again after Stop or Kill.
func (s *site) restart() {
	s.t.Helper()
	ok(s.t, s.authority.Start())
	watch(s.t, "authority", s.authority.Daemon)
}

// phone takes a phone out of its box.
func (s *site) phone(name string) *phone.Phone { return phone.New(s.authority.Origin, name) }

// pin enrols a phone at a computer: "sallyport enroll USER --push".
func (c *computer) pin(p *phone.Phone, user string) *phone.Phone {
	c.t.Helper()
	ok(c.t, c.EnrolPush(user, func(link string) error { return p.Enrol(soon(c.t), link) }))
	return p
}

// enrol enrols a phone at the authority: "sallyport-authority user enrol USER".
func (s *site) enrol(p *phone.Phone, user string) *phone.Phone {
	s.t.Helper()
	var shown struct{ URL string }
	ok(s.t, s.authority.Do(&shown, "user", "enrol", user, "--json"))
	ok(s.t, p.Enrol(soon(s.t), shown.URL))
	return p
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// soon is a context for what has patience.
func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits until something is so.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(30 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !is(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v in vain for: %s", patience, what)
		}
	}
}

func (c *computer) status() machine.Status {
	c.t.Helper()
	s, err := c.Status()
	ok(c.t, err)
	return s
}

func (c *computer) connected() {
	c.t.Helper()
	eventually(c.t, c.name+" is connected", func() bool { return c.status().Authority.Connected })
}

// replugged has the cable go to an address, and waits until the agent is connected by it:
// what still looks connected may be what was before.
func (c *computer) replugged(to string) {
	c.t.Helper()
	before := c.cable.Dialled()
	c.cable.Plug(to)
	eventually(c.t, c.name+" dials anew", func() bool { return c.cable.Dialled() > before })
	c.connected()
}

// person is what "sallyport user show" says.
type person struct {
	PushState    string  `json:"push_state"`
	PushReported bool    `json:"push_reported"`
	PushPaused   float64 `json:"push_paused_seconds"`
	Locked       bool
	Failures     int
	OfflineReady bool `json:"offline_ready"`
	// Without contact to the authority.
	OfflineLogins  uint32  `json:"offline_logins"`
	OfflineLeft    *uint32 `json:"offline_left"`
	OfflineReached bool    `json:"offline_reached"`
	Asked          string
	Phones         []struct{ ID, Name, Source string }
}

func (c *computer) person(user string) (p person) {
	c.t.Helper()
	ok(c.t, c.JSON(&p, "user", "show", user))
	return p
}

// login is one that is under way.
type login struct {
	*hook.Login
	t *testing.T
	hook.Asked
}

// login begins one, and waits for its prompt.
func (c *computer) login(user string) *login { return c.loginTo("sshd", user) }

func (c *computer) loginTo(service, user string) *login {
	c.t.Helper()
	l, err := hook.Begin(c.t.Context(), c.Socket(), hook.Request{User: user, Service: service})
	ok(c.t, err)
	c.t.Cleanup(l.Close)
	asked, err := l.Prompt(patience)
	ok(c.t, err)
	return &login{l, c.t, asked}
}

// rings begins a login at which a phone rings.
func (c *computer) rings(user string) *login {
	c.t.Helper()
	l := c.login(user)
	if l.Number == "" {
		c.t.Fatalf("no phone is asked: the prompt is %q; push is %q", l.Text, c.person(user).PushState)
	}
	return l
}

// codeOnly begins a login at which none does.
func (c *computer) codeOnly(user string) *login {
	c.t.Helper()
	l := c.login(user)
	if l.Number != "" || strings.Contains(l.Text, "on your phone") {
		c.t.Fatalf("a phone is asked: the prompt is %q", l.Text)
	}
	return l
}

func (l *login) ends(in bool, reason string) {
	l.t.Helper()
	v, err := l.Verdict(patience)
	ok(l.t, err)
	if v.In != in || v.Reason != reason {
		l.t.Fatalf("the login ended with %+v, want in %v, %s", v, in, reason)
	}
}

// types types a code and wants to be in, or out for a reason.
func (l *login) types(code string, in bool, reason string) {
	l.t.Helper()
	ok(l.t, l.Type(code))
	l.ends(in, reason)
}

// byCode wants a code to be asked for, and to be good.
func (c *computer) byCode(user string) {
	c.t.Helper()
	c.codeOnly(user).types(c.codes[user].Next(), true, "code_accepted")
}

// byPhone wants a login to be approved.
func (c *computer) byPhone(p *phone.Phone, user string) {
	c.t.Helper()
	l := c.rings(user)
	answers(c.t, p, push.Approve, l.Number)
	l.ends(true, "push_approved")
}

// alone waits until a phone shows one login: one that was given up here may be taken
// back there a while later.
func alone(t *testing.T, p *phone.Phone) {
	t.Helper()
	eventually(t, "the phone shows the one that waits", func() bool {
		list, err := p.Shown(soon(t))
		ok(t, err)
		return len(list) == 1
	})
}

// answers has a phone answer the login that it shows.
func answers(t *testing.T, p *phone.Phone, d push.Decision, number string) phone.Waiting {
	t.Helper()
	w, err := p.Answer(soon(t), d, number)
	ok(t, err)
	return w
}

// refused is the HTTP status with which the API refused.
func refused(t *testing.T, err error) int {
	t.Helper()
	r := (*phone.Refused)(nil)
	if !errors.As(err, &r) {
		t.Fatalf("the API did not refuse: %v", err)
	}
	return r.Status
}

// last is the number of the newest event, for events.
func (c *computer) last() uint64 { c.t.Helper(); return c.lastAfter(0) }

// lastAfter is last, where there is one after that.
func (c *computer) lastAfter(after uint64) (seq uint64) {
	c.t.Helper()
	list, err := c.Events(after)
	ok(c.t, err)
	for _, e := range list {
		seq = max(seq, e.Seq)
	}
	return seq
}

// event waits for an event after the one numbered so that has this name, and whose
// reason or text matches.
func (c *computer) event(after uint64, name event.Name, matches string) event.Event {
	c.t.Helper()
	re := regexp.MustCompile(matches)
	var found event.Event
	eventually(c.t, fmt.Sprintf("an event %s of %s like %q", name, c.name, matches), func() bool {
		list, err := c.Events(after)
		ok(c.t, err)
		for _, e := range list {
			if e.Name == name && re.MatchString(e.Reason+" "+e.Text) {
				found = e
				return true
			}
		}
		return false
	})
	return found
}

// count is how many events there are of a name and reason.
func (c *computer) count(name event.Name, reason string) (n int) {
	c.t.Helper()
	list, err := c.Events(0)
	ok(c.t, err)
	for _, e := range list {
		if e.Name == name && e.Reason == reason {
			n++
		}
	}
	return n
}

// event waits for an event of the authority's own.
func (s *site) event(name event.Name, matches string) event.Event {
	s.t.Helper()
	re := regexp.MustCompile(matches)
	var found event.Event
	eventually(s.t, fmt.Sprintf("an event %s of the authority like %q", name, matches), func() bool {
		list, err := s.authority.Events()
		ok(s.t, err)
		for _, e := range list {
			if e.Device == "" && e.Event.Name == name && re.MatchString(e.Event.Reason+" "+e.Event.Text) {
				found = e.Event
				return true
			}
		}
		return false
	})
	return found
}

// eventText is what events say, for people.
func eventText(list []event.Event) string {
	var b strings.Builder
	for _, e := range list {
		b.WriteString(e.Text + "\n")
	}
	return b.String()
}
