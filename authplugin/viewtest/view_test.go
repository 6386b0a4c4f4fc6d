//go:build linux

package viewtest

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/authplugin/viewtest/screen"
)

const question = "Code from your authenticator app: "

func TestWhatIsTypedIsTheAnswer(t *testing.T) {
	h := startHost(t)
	for name, c := range map[string]struct {
		visible uint32
		typed   string
	}{
		"digits":             {0, "123456"},
		"letters and spaces": {0, "Ab cd-EF_9 /%s%n"},
		"seen":               {1, "recovery-code"},
		"not ASCII":          {0, "zoë"},
		"not ASCII, seen":    {1, "çëç"},
		"the longest":        {0, strings.Repeat("7", textMax)},
	} {
		s := asking(question)
		s.Visible = c.visible
		v := h.open(s)
		f, ok := v.Field()
		if want := map[uint32]string{0: "NSSecureTextField", 1: "NSTextField"}[c.visible]; !ok || f.Class != want {
			t.Errorf("%s: the field is %q, want %q", name, f.Class, want)
		}
		if !f.Focus {
			t.Error("the field has not the focus")
		}
		desk.Type(t, c.typed)
		h.typed(c.typed)
		desk.Keys(t, "Return")
		if got := h.answer(); got != (answer{text, c.typed}) {
			t.Errorf("%s: got %+v", name, got)
		}
		if got := h.do("close"); got != "ok wiped" {
			t.Errorf("our copy of it is not wiped: %s", got)
		}
	}
}

func TestTheFieldIsEmptyOnceAnswered(t *testing.T) {
	h := startHost(t)
	h.open(asking(question))
	desk.Type(t, "424242")
	h.typed("424242")
	desk.Keys(t, "Return")
	h.answer()
	v := h.untilText("Checking…")
	f, _ := v.Field()
	if f.Text != "" || f.Enabled {
		t.Errorf("the field: %+v", f)
	}
	for _, s := range v {
		if strings.HasSuffix(s.Class, "Button") && s.Enabled {
			t.Errorf("%q can still be pressed", s.Text)
		}
	}
	h.do("close")
}

// TestMoreThanAnAnswerHolds: what does not fit is not taken, and no character is cut.
func TestMoreThanAnAnswerHolds(t *testing.T) {
	h := startHost(t)
	h.open(asking(question))
	desk.Type(t, strings.Repeat("12345678", 25))
	h.typed(strings.Repeat("12345678", 16))
	desk.Keys(t, "Return")
	if got := h.answer(); got.text != strings.Repeat("12345678", 16) {
		t.Errorf("200 characters became %q", got.text)
	}
	h.do("close")

	h.open(asking(question))
	desk.Type(t, "1"+strings.Repeat("ë", 70))
	h.typed("1" + strings.Repeat("ë", 63))
	desk.Keys(t, "Return")
	if got := h.answer(); got.text != "1"+strings.Repeat("ë", 63) {
		t.Errorf("got %q", got.text)
	}
	h.do("close")
}

func TestEscapeAndCancel(t *testing.T) {
	h := startHost(t)
	for name, act := range map[string]func(v screen.Views){
		"Escape": func(screen.Views) { desk.Keys(t, "Escape") },
		"Cancel": func(v screen.Views) { b, _ := v.With("Cancel"); desk.Click(t, b) },
		"Tab":    func(screen.Views) { desk.Keys(t, "Tab", "space") },
	} {
		v := h.open(asking(question))
		desk.Type(t, "123")
		h.typed("123")
		act(v)
		if got := h.answer(); got != (answer{cancel, ""}) {
			t.Errorf("%s: got %+v", name, got)
		}
		h.do("close")
	}
}

// TestAnEmptyAnswer: CVE-2021-31924, an empty reply is none where the agent wants one.
func TestAnEmptyAnswer(t *testing.T) {
	h := startHost(t)
	h.open(asking(question))
	desk.Keys(t, "Return")
	v := h.untilText("Type the code.")
	h.nothing()
	if f, _ := v.Field(); !f.Focus {
		t.Error("the field has lost the focus")
	}
	desk.Type(t, "1")
	h.typed("1")
	if _, ok := h.see().With("Type the code."); ok {
		t.Error("the hint stays when a code is typed")
	}
	b, _ := v.With("Log In")
	desk.Click(t, b)
	if got := h.answer(); got != (answer{text, "1"}) {
		t.Errorf("got %+v", got)
	}
	h.do("close")

	s := asking("You are enrolled. Press Enter when you have written them down: ")
	s.MayBeEmpty = 1
	h.open(s)
	desk.Keys(t, "Return")
	if got := h.answer(); got != (answer{text, ""}) {
		t.Errorf("got %+v", got)
	}
	h.do("close")
}

func TestDoneIsCalledOnce(t *testing.T) {
	h := startHost(t)
	for _, act := range []func(v screen.Views){
		func(screen.Views) { desk.Keys(t, "Return", "Return", "Return", "Escape") },
		func(v screen.Views) {
			b, _ := v.With("Log In")
			desk.Click(t, b)
			desk.Xdotool(t, "click", "--repeat", "5", "--delay", "5", "1")
		},
	} {
		s := asking(question)
		s.MayBeEmpty = 1
		act(h.open(s))
		h.answer()
		h.untilText("Checking…")
		h.nothing()
		h.do("close")
	}
	if got := h.do("count"); !strings.HasSuffix(got, " 2 0") {
		t.Errorf("done was called that often, and that often after view_close: %s", got)
	}
}

func TestThePhone(t *testing.T) {
	h := startHost(t)
	v := h.open(ringing())
	for _, want := range []string{"zoe", "42", "Type 42 on your phone (Zoë’s phone) to approve", "Or type a code from your authenticator app:"} {
		if _, ok := v.With(want); !ok {
			t.Errorf("not shown: %q in %+v", want, v)
		}
	}
	h.untilText("Time left: 0:57")
	number, _ := v.With("42")
	if sentence, _ := v.With("Type 42 on your phone (Zoë’s phone) to approve"); number.H < 2*sentence.H {
		t.Errorf("the number is %d high, the words beside it %d", number.H, sentence.H)
	}
	if number.Label != "Number 42" {
		t.Errorf("VoiceOver says %q", number.Label)
	}
	for now, want := range map[int]string{start + 1: "Time left: 0:57", start + 1000: "Time left: 0:56", start + 56_999: "Time left: 0:01"} {
		h.do("clock " + itoa(now))
		h.untilText(want)
	}
	h.do("clock " + itoa(start+57_000))
	v = h.untilText("Nobody answered on the phone.")
	for _, gone := range []string{"42", "Type 42 on your phone (Zoë’s phone) to approve"} {
		if _, ok := v.With(gone); ok {
			t.Errorf("still shown: %q", gone)
		}
	}
	h.nothing()
	b, _ := v.With("Ask again")
	desk.Click(t, b)
	if got := h.answer(); got != (answer{text, ""}) {
		t.Errorf("got %+v", got)
	}
	h.do("close")
}

func TestANumberOfOneDigitAndNoName(t *testing.T) {
	h := startHost(t)
	s := ringing()
	s.Number, s.Phone = 7, [65]byte{}
	v := h.open(s)
	for _, want := range []string{"07", "Type 07 on your phone to approve"} {
		if _, ok := v.With(want); !ok {
			t.Errorf("not shown: %q", want)
		}
	}
	h.do("close")
}

func TestACodeWhileThePhoneRings(t *testing.T) {
	h := startHost(t)
	for name, act := range map[string]func(v screen.Views){
		"straight away":      func(screen.Views) {},
		"Use a code instead": func(v screen.Views) { desk.Keys(t, "Tab"); b, _ := v.With("Use a code instead"); desk.Click(t, b) },
		"by keyboard":        func(screen.Views) { desk.Keys(t, "Tab", "Tab", "space") },
	} {
		act(h.open(ringing()))
		h.until("the focus in the field", func(v screen.Views) bool { f, ok := v.Field(); return ok && f.Focus })
		desk.Type(t, "123456")
		h.typed("123456")
		h.do("clock " + itoa(start+3000))
		h.untilText("Time left: 0:54") // goes on
		h.typed("123456")              // and harms nothing
		desk.Keys(t, "Return")
		if got := h.answer(); got != (answer{text, "123456"}) {
			t.Errorf("%s: got %+v", name, got)
		}
		h.do("close")
		h.do("clock " + itoa(start))
	}
}

// TestAskingAgainIsTheAgentsToAllow: else nobody could press what the agent refuses.
func TestAskingAgainIsTheAgentsToAllow(t *testing.T) {
	h := startHost(t)
	s := ringing()
	s.MayBeEmpty = 0
	v := h.open(s)
	if _, ok := v.With("Ask again"); ok {
		t.Error("the phone can be asked again")
	}
	desk.Keys(t, "Return")
	h.untilText("Type the code.")
	h.nothing()
	h.do("close")

	h.open(ringing())
	desk.Keys(t, "Return") // an empty field
	if got := h.answer(); got != (answer{text, ""}) {
		t.Errorf("got %+v", got)
	}
	h.do("close")
	h.open(ringing())
	desk.Keys(t, "Tab", "space")
	if got := h.answer(); got != (answer{text, ""}) {
		t.Errorf("by keyboard: got %+v", got)
	}
	h.do("close")
}

func TestWhyNot(t *testing.T) {
	h := startHost(t)
	const why = "You denied this login on your phone."
	for name, act := range map[string]func(v screen.Views){
		"Return": func(screen.Views) { desk.Keys(t, "Return") },
		"Escape": func(screen.Views) { desk.Keys(t, "Escape") },
		"space":  func(screen.Views) { desk.Keys(t, "space") },
		"Back":   func(v screen.Views) { b, _ := v.With("Back"); desk.Click(t, b) },
	} {
		v := h.open(telling(why))
		if _, ok := v.With(why); !ok {
			t.Errorf("not shown: %q", why)
		}
		if _, ok := v.Field(); ok {
			t.Error("there is something to type into")
		}
		act(v)
		if got := h.answer(); got != (answer{cancel, ""}) {
			t.Errorf("%s: got %+v", name, got)
		}
		h.do("close")
	}
	v := h.open(telling(""))
	if _, ok := v.With("You were not logged in. Please try again."); !ok {
		t.Errorf("a refusal without a word: %+v", v)
	}
	h.do("close")
}

// TestTextsAreShownAsTheyAre: no formats, markup or links, and nothing is cut.
func TestTextsAreShownAsTheyAre(t *testing.T) {
	h := startHost(t)
	hostile := "%s%n %@ <b>bold</b> <a href='x'>https://example.com</a> \\n &amp; “”"
	s := asking(hostile)
	copy(s.Notice[:1024], strings.Repeat("W", 300)+hostile)
	copy(s.User[:255], hostile)
	v := h.open(s)
	n := 0
	for _, e := range v {
		if e.Text == hostile || e.Text == strings.Repeat("W", 300)+hostile {
			n++
			if !e.Selectable {
				t.Errorf("cannot be selected: %+v", e)
			}
		}
	}
	if n != 3 {
		t.Errorf("%d of 3 texts are shown as they are: %+v", n, v)
	}
	h.do("close")

	for what, text := range map[string]string{
		"long":        strings.Repeat("A word and another. ", 51),
		"many lines":  strings.Repeat("x\n", 500),
		"one word":    strings.Repeat("W", 1024),
		"not UTF-8":   "\xff\xfe broken \xc3",
		"cut at 1024": strings.Repeat("ë", 512),
	} {
		s := asking(text)
		copy(s.Notice[:1024], text)
		v := h.open(s)
		b, ok := v.With("Log In")
		if f, _ := v.Field(); !ok || b.Y < 0 || b.Y+b.H > 768 || f.Y < 0 {
			t.Errorf("%s: what is to be pressed is off the screen: %+v, %+v", what, b, f)
		}
		desk.Type(t, "1")
		h.typed("1")
		h.do("close")
	}
}

func TestTheOrderOfTab(t *testing.T) {
	h := startHost(t)
	h.open(ringing())
	var order []string
	for range 6 {
		v := h.see()
		i := slices.IndexFunc(v, func(s screen.Seen) bool { return s.Focus && s.Class != "window" })
		if i < 0 {
			t.Fatalf("nothing has the focus: %+v", v)
		}
		name := v[i].Text
		if v[i].Editable {
			name = v[i].Label
		}
		order = append(order, name)
		desk.Keys(t, "Tab")
		h.until("another focus", func(after screen.Views) bool {
			return slices.ContainsFunc(after, func(s screen.Seen) bool {
				return s.Focus && s.Class != "window" && (s.X != v[i].X || s.Y != v[i].Y)
			})
		})
	}
	if want := []string{"Code", "Ask again", "Use a code instead", "Cancel", "Log In", "Code"}; !slices.Equal(order, want) {
		t.Errorf("Tab goes to %q, want %q", order, want)
	}
	h.do("close")
}

func TestFromTheMainThread(t *testing.T) {
	h := startHost(t)
	if got := h.do("openmain " + asking(question).hex()); got != "ok" {
		t.Fatal(got)
	}
	h.opened()
	desk.Type(t, "99")
	h.typed("99")
	h.do("closemain")
	if v := h.see(); len(v) != 0 {
		t.Errorf("the window stays: %+v", v)
	}
	h.nothing()
}

func TestWhatIsNoScreen(t *testing.T) {
	h := startHost(t)
	for _, kind := range []uint32{0, 3, 1 << 31} {
		s := asking(question)
		s.Kind = kind
		if got := h.do("open " + s.hex()); got != "no" {
			t.Errorf("kind %d: %s", kind, got)
		}
	}
}

// TestAKeyHeldDownAnswersNothing: whoever holds Return since the password would ask
// the phone again without a look.
func TestAKeyHeldDownAnswersNothing(t *testing.T) {
	needScreen(t)
	desk, err := screen.Start("-ardelay", "200", "-arinterval", "40")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(desk.Stop)
	h := startHostOf(t, desk, filepath.Join(dir, "viewhost"))
	for _, key := range []string{"Return", "Escape"} {
		h.open(ringing())
		desk.Xdotool(t, "keydown", key)
		h.answer()
		h.do("close")
		h.open(ringing())
		repeats := atoi(t, h.do("repeats"))
		for end := time.Now().Add(patience); atoi(t, h.do("repeats")) < repeats+10; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s is not repeated: this test sees nothing", key)
			}
		}
		h.nothing()
		desk.Xdotool(t, "keyup", key)
		desk.Keys(t, key)
		h.answer()
		h.do("close")
	}
}
