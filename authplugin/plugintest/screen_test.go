//go:build linux

package plugintest

import (
	"encoding/json"
	"flag"
	"fmt"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/authplugin/viewtest/screen"
	"sallyport/internal/factor/push"
	"sallyport/internal/testkit/phone"
	"sallyport/internal/testkit/sandbox"
	"sallyport/pam/e2e/machine"
)

// Logins as a person sees them: the core linked with the view that macOS gets, on
// GNUstep's AppKit, the stand-in for authd in SecurityAgent's place, X's keys, and the
// shipped agent.

var pictures = flag.String("pictures", "", "write the pictures of docs/img into this folder")

// seat is a stand-in whose windows are on a screen, and the person before it.
type seat struct {
	*standin
	desk *screen.Screen
	eyes *login // asks what is on the screen
}

// seats bounds how many there are at once: a GNUstep that starts is busy.
var seats = make(chan struct{}, 3)

// sits starts one whose plug-in reaches the agent whose sockets are in dir.
func sits(t *testing.T, dir string) *seat {
	t.Helper()
	seats <- struct{}{}
	t.Cleanup(func() { <-seats })
	desk, err := screen.Start()
	must(t, err)
	t.Cleanup(desk.Stop)
	s := onScreen.start(t, dir, options{screen: desk})
	desk.Xdotool(t, "mousemove", "1020", "760") // it would be in the pictures
	return &seat{s, desk, s.login(t, account{}, "")}
}

// needsScreen is for the beginning of each of these tests.
func needsScreen(t *testing.T) {
	t.Helper()
	sandbox.Need(t)
	if err := screen.Missing(); err != nil {
		t.Skip("needs GNUstep, Xvfb and xdotool: " + err.Error())
	}
	t.Parallel()
}

// glance is what the person sees, and what there is of the view's making.
type glance struct {
	screen.Views
	windows, ever, views int
}

func (s *seat) see() (g glance) {
	s.t.Helper()
	s.eyes.do("views")
	f := s.eyes.until("views")
	for i, n := range []*int{&g.windows, &g.ever, &g.views} {
		var err error
		*n, err = strconv.Atoi(f[i+1])
		must(s.t, err)
	}
	must(s.t, json.Unmarshal([]byte(fromHex(s.t, f[4])), &g.Views))
	return g
}

// until waits until the screen shows what it should.
func (s *seat) until(what string, shown func(glance) bool) glance {
	s.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		g := s.see()
		if shown(g) {
			return g
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("never seen: %s; the screen shows %+v", what, g)
		}
	}
}

// shows waits for a window that has the keyboard, waits for the person, and has these
// texts.
func (s *seat) shows(texts ...string) glance {
	s.t.Helper()
	return s.until(strings.Join(texts, ", "), func(g glance) bool {
		window, ok := g.With("window")
		if !ok || !window.Focus || !s.desk.Focused(window) {
			return false
		}
		if f, ok := g.Field(); ok && !f.Focus {
			return false
		}
		for _, v := range g.Views {
			if strings.HasSuffix(v.Class, "Button") && !v.Enabled {
				return false // the window before, which is answered
			}
		}
		for _, text := range texts {
			if !slices.ContainsFunc(g.Views, func(v screen.Seen) bool { return strings.Contains(v.Text, text) }) {
				return false
			}
		}
		return true
	})
}

// typesInto types an answer into the field, and no Return.
func (l *login) typesInto(s *seat, text string) {
	l.t.Helper()
	l.types(text) // says so to the stand-in, which looks for it among the hints
	s.desk.Type(l.t, text)
	s.until("what is typed", func(g glance) bool { f, ok := g.Field(); return ok && f.Text == text })
}

// enters types an answer and presses Return.
func (l *login) enters(s *seat, text string) {
	l.t.Helper()
	l.typesInto(s, text)
	s.desk.Keys(l.t, "Return")
}

// clears checks that nothing of the view is left.
func (s *seat) clears() {
	s.t.Helper()
	s.until("an empty screen", func(g glance) bool { return len(g.Views) == 0 && g.windows == 0 && g.views == 0 })
}

// shoots takes the picture for docs/img, or compares that there is one like it.
func (s *seat) shoots(g glance, name string) {
	s.t.Helper()
	content, ok := g.With("SallyportContent")
	if !ok {
		s.t.Fatalf("%s: nothing to take a picture of: %+v", name, g)
	}
	img := s.desk.Steady(s.t, content)
	if screen.Blank(img) {
		s.t.Errorf("%s is blank", name)
	}
	file := "macos-" + name + ".png"
	if *pictures != "" {
		data, err := screen.PNG(img)
		must(s.t, err)
		must(s.t, os.WriteFile(filepath.Join(*pictures, file), data, 0o644))
		return
	}
	kept, err := os.Open(filepath.Join("..", "..", "docs", "img", file))
	must(s.t, err)
	defer kept.Close()
	if was, err := png.DecodeConfig(kept); err != nil || was.Width != content.W || was.Height != content.H {
		s.t.Errorf("docs/img/%s: %v, %d by %d, and the window is %d by %d; -pictures writes it anew", file, err, was.Width, was.Height, content.W, content.H)
	}
}

// personNamed is enrolled under a name that a picture can show.
func personNamed(t *testing.T, at *machine.Computer, name string) *person {
	t.Helper()
	p := &person{account: accountNamed(t, name), at: at}
	var err error
	p.phone, _, err = at.Enrol(p.name)
	must(t, err)
	return p
}

func TestScreenWrongThenRight(t *testing.T) {
	needsScreen(t)
	p := personNamed(t, office, "anna")
	s := sits(t, sockets(office))
	l := s.login(t, p.account, atLogin).runs()
	g := s.shows(codePrompt, p.name)
	if f, _ := g.Field(); f.Class != "NSSecureTextField" || !f.Focus {
		t.Errorf("what is typed into is %+v", f)
	}
	l.enters(s, p.phone.Wrong(1))
	s.shows(codePrompt, wrongCode)
	l.typesInto(s, p.phone.Next())
	s.shoots(s.shows(codePrompt, wrongCode), "code")
	s.desk.Keys(t, "Return")
	l.isIn()
	l.went(askAgain + ", " + asked) // nobody was asked for the password again
	s.clears()
	if g := s.see(); g.ever != 2 {
		t.Errorf("there have been %d windows", g.ever)
	}
	wantReasons(t, office, p.account, "deny wrong_code", "allow code_accepted")
}

func TestScreenRightCode(t *testing.T) {
	needsScreen(t)
	p := enrolled(t, office)
	s := sits(t, sockets(office))
	l := s.login(t, p.account, atLogin).runs()
	s.shows(codePrompt)
	l.enters(s, p.phone.Next())
	l.isIn()
	l.went(asked)
	l.closes()
	s.clears()
	wantReasons(t, office, p.account, "allow code_accepted")
}

func TestScreenEscape(t *testing.T) {
	needsScreen(t)
	p := enrolled(t, office)
	s := sits(t, sockets(office))
	l := s.login(t, p.account, atLogin).runs()
	s.shows(codePrompt)
	l.typesInto(s, "123")
	s.desk.Keys(t, "Escape")
	l.isOutOrCancelled()
	s.clears()
	wantReasons(t, office, p.account, "deny cancelled")
}

// reception is where phones ring for longer than it takes to look at the screen.
var reception = sync.OnceValues(func() (*machine.Computer, error) {
	a, err := authority()
	if err != nil {
		return nil, err
	}
	at, err := machine.NewComputer(dist, "/run/reception", append([]string{"[push]", `life = "45s"`, `gap = "45s"`}, officeSettings[3:]...)...)
	if err != nil {
		return nil, err
	}
	token, err := a.Token(nil, "--any-user")
	if err != nil {
		return nil, err
	}
	return at, joins(at, a, token, "reception")
})

// phoneNamed is somebody at the reception with a phone of that name.
func phoneNamed(t *testing.T, user, name string) *approver {
	t.Helper()
	at, err := reception()
	must(t, err)
	a, err := authority()
	must(t, err)
	p := &approver{person: personNamed(t, at, user)}
	must(t, a.Do(nil, "user", "add", p.name, "--json"))
	p.approves = phone.New(a.Origin, name)
	must(t, p.at.EnrolPush(p.name, func(link string) error { return p.approves.Enrol(soon(t), link) }))
	return p
}

// rings waits for the window of a phone that rings, and reads the number off it.
func (s *seat) rings(texts ...string) (glance, string) {
	s.t.Helper()
	g := s.shows(append(texts, "on your phone", "Time left: ")...)
	for _, v := range g.Views {
		if len(v.Text) == 2 && v.Label == "Number "+v.Text {
			return g, v.Text
		}
	}
	s.t.Fatalf("there is no number: %+v", g)
	return g, ""
}

// The window goes by itself: nobody touches a key.
func TestScreenPushApproved(t *testing.T) {
	needsScreen(t)
	p := phoneNamed(t, "zoe", "Zoe's phone")
	s := sits(t, sockets(p.at))
	l := s.login(t, p.account, atLogin).runs()
	g, number := s.rings("zoe", "(Zoe's phone)")
	s.shoots(g, "push")
	p.decides(t, push.Approve, number, "approved")
	l.isIn()
	l.went(live + asked)
	s.clears()
	wantReasons(t, p.at, p.account, "allow push_approved")
}

func TestScreenPushDenied(t *testing.T) {
	needsScreen(t)
	p := phoneNamed(t, "ben", "Ben's phone")
	s := sits(t, sockets(p.at))
	l := s.login(t, p.account, atLogin).runs()
	s.rings()
	p.decides(t, push.Deny, "", "denied")
	s.shoots(s.shows("You denied this login on your phone.", "Back"), "refused")
	s.desk.Keys(t, "Return")
	l.isOut()
	s.clears()
	wantReasons(t, p.at, p.account, "deny push_denied")
}

func TestScreenAskAgain(t *testing.T) {
	needsScreen(t)
	p := phoneNamed(t, "dora", "Dora's phone")
	s := sits(t, sockets(p.at))
	l := s.login(t, p.account, atLogin).runs()
	_, first := s.rings()
	s.desk.Keys(t, "Return") // too early
	if _, number := s.rings("Not approved yet."); number != first {
		t.Errorf("the number was %s and is %s", first, number)
	}
	g := s.shows("Nobody answered on the phone.", "Ask again")
	again, _ := g.With("Ask again")
	s.desk.Click(t, again)
	g, number := s.rings()
	if slices.ContainsFunc(g.Views, func(v screen.Seen) bool { return strings.Contains(v.Text, "Not approved") }) {
		t.Errorf("the new request's window shows %+v", g)
	}
	p.decides(t, push.Approve, number, "approved")
	l.isIn()
	s.clears()
	wantReasons(t, p.at, p.account, "allow push_approved")
}

func TestScreenCodeWhileThePhoneRings(t *testing.T) {
	needsScreen(t)
	p := phoneNamed(t, "emil", "Emil's phone")
	s := sits(t, sockets(p.at))
	l := s.login(t, p.account, atLogin).runs()
	s.rings("Or type a code")
	w, err := p.approves.Rings(soon(t))
	must(t, err)
	l.enters(s, p.phone.Next())
	l.isIn()
	p.page(t, w, "code")
	s.clears()
	wantReasons(t, p.at, p.account, "allow code_accepted")
}

func TestScreenAgentStopped(t *testing.T) {
	needsScreen(t)
	at := ownAgent(t)
	p := enrolled(t, at)
	s := sits(t, sockets(at))
	must(t, at.Stop())
	l := s.login(t, p.account, atLogin).runs()
	g := s.shows("Sallyport is not running on this computer")
	if _, ok := g.Field(); ok {
		t.Errorf("there is something to type into: %+v", g)
	}
	back, _ := g.With("Back")
	s.desk.Click(t, back)
	l.isOut()
	l.went(refused)
	s.clears()
}

// Whoever needs no second factor sees nothing of ours, not for a moment.
func TestScreenNotEnrolled(t *testing.T) {
	needsScreen(t)
	s := sits(t, sockets(office))
	stranger := newAccount(t, "plain")
	l := s.login(t, stranger, atLogin).runs()
	l.isIn()
	l.went(asked)

	s.sawNothing()
	wantReasons(t, office, stranger, "skip not_asked")
}

func TestScreenBreakGlass(t *testing.T) {
	needsScreen(t)
	s := sits(t, t.TempDir())
	glass := newAccount(t, "glass")
	s.writeList(uidText(glass)+"\n", 0o644)
	l := s.login(t, glass, atLogin).runs()
	l.isIn()
	l.went(asked)
	s.sawNothing()
}

// sawNothing checks that there never was a window.
func (s *seat) sawNothing() {
	s.t.Helper()
	if g := s.see(); len(g.Views) != 0 || g.ever != 0 {
		s.t.Errorf("there have been %d windows; the screen shows %+v", g.ever, g)
	}
}

func TestScreenEnrolment(t *testing.T) {
	needsScreen(t)
	nora := accountNamed(t, "nora")
	s := sits(t, sockets(office))
	var window struct{ Code string }
	must(t, office.JSON(&window, "enrolment", "open", nora.name, "--for", "1h", "--code"))
	l := s.login(t, nora, atLogin).runs()
	s.shows("Code to enrol with")
	l.enters(s, window.Code)

	g := s.shows("Scan the code above")
	at, ok := g.With("SallyportQR")
	if !ok {
		t.Fatalf("no QR code is drawn: %+v", g)
	}
	var app *machine.Phone
	s.desk.Until(t, at, func(img *image.RGBA) error {
		uri, err := screen.ReadQR(img)
		if err == nil {
			app, err = machine.NewPhone(uri)
		}
		return err
	})
	s.shoots(g, "enrol")
	l.enters(s, app.Next())

	g = s.shows("Keep these recovery codes")
	if n := strings.Count(fmt.Sprint(g.Views), "-"); n < 10 {
		t.Errorf("%d of 10 recovery codes are shown: %+v", n, g)
	}
	s.desk.Keys(t, "Return")
	l.isIn()
	s.clears()
	wantReasons(t, office, nora, "allow enrolled_at_login")

	l = s.login(t, nora, atLogin).runs() // from now on a login like any other
	s.shows(codePrompt)
	l.enters(s, app.Next())
	l.isIn()
}

func TestScreenTwentyLogins(t *testing.T) {
	needsScreen(t)
	s := sits(t, sockets(office))
	var people []*person
	for range 5 {
		people = append(people, enrolled(t, office))
	}
	login := func(i int) {
		p := people[i%len(people)]
		l := s.login(t, p.account, atLogin).runs()
		s.shows(codePrompt, p.name)
		if i%2 == 0 {
			l.enters(s, p.phone.Next())
			l.isIn()
		} else {
			s.desk.Keys(t, "Escape")
			l.isOutOrCancelled()
		}
		l.closes()
	}
	login(0) // GNUstep starts what it keeps
	before := s.eyes.settled(nil)
	for i := range 20 {
		login(i)
	}
	s.clears()
	after := s.eyes.settled(&before)
	t.Logf("before %+v, after 20 more logins %+v", before, after)
	if after.threads > before.threads || after.files > before.files+1 {
		t.Errorf("threads or descriptors are left: %+v, then %+v", before, after)
	}
	if g := s.see(); g.ever != 21 {
		t.Errorf("there have been %d windows", g.ever)
	}
}
