//go:build linux

package viewtest

import (
	"slices"
	"strings"
	"testing"
	"time"
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
		f, ok := v.field()
		if want := map[uint32]string{0: "NSSecureTextField", 1: "NSTextField"}[c.visible]; !ok || f.Class != want {
			t.Errorf("%s: the field is %q, want %q", name, f.Class, want)
		}
		if !f.Focus {
			t.Error("the field has not the focus")
		}
		typing(t, c.typed)
		h.typed(c.typed)
		keys(t, "Return")
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
	typing(t, "424242")
	h.typed("424242")
	keys(t, "Return")
	h.answer()
	v := h.untilText("Checking…")
	f, _ := v.field()
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
	typing(t, strings.Repeat("12345678", 25))
	h.typed(strings.Repeat("12345678", 16))
	keys(t, "Return")
	if got := h.answer(); got.text != strings.Repeat("12345678", 16) {
		t.Errorf("200 characters became %q", got.text)
	}
	h.do("close")

	h.open(asking(question))
	typing(t, "1"+strings.Repeat("ë", 70))
	h.typed("1" + strings.Repeat("ë", 63))
	keys(t, "Return")
	if got := h.answer(); got.text != "1"+strings.Repeat("ë", 63) {
		t.Errorf("got %q", got.text)
	}
	h.do("close")
}

func TestEscapeAndCancel(t *testing.T) {
	h := startHost(t)
	for name, act := range map[string]func(v views){
		"Escape": func(views) { keys(t, "Escape") },
		"Cancel": func(v views) { b, _ := v.with("Cancel"); click(t, b) },
		"Tab":    func(views) { keys(t, "Tab", "space") },
	} {
		v := h.open(asking(question))
		typing(t, "123")
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
	keys(t, "Return")
	v := h.untilText("Type the code.")
	h.nothing()
	if f, _ := v.field(); !f.Focus {
		t.Error("the field has lost the focus")
	}
	typing(t, "1")
	h.typed("1")
	if _, ok := h.see().with("Type the code."); ok {
		t.Error("the hint stays when a code is typed")
	}
	b, _ := v.with("Log In")
	click(t, b)
	if got := h.answer(); got != (answer{text, "1"}) {
		t.Errorf("got %+v", got)
	}
	h.do("close")

	s := asking("You are enrolled. Press Enter when you have written them down: ")
	s.MayBeEmpty = 1
	h.open(s)
	keys(t, "Return")
	if got := h.answer(); got != (answer{text, ""}) {
		t.Errorf("got %+v", got)
	}
	h.do("close")
}

func TestDoneIsCalledOnce(t *testing.T) {
	h := startHost(t)
	for _, act := range []func(v views){
		func(views) { keys(t, "Return", "Return", "Return", "Escape") },
		func(v views) {
			b, _ := v.with("Log In")
			click(t, b)
			xdotool(t, "click", "--repeat", "5", "--delay", "5", "1")
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
		if _, ok := v.with(want); !ok {
			t.Errorf("not shown: %q in %+v", want, v)
		}
	}
	h.untilText("Time left: 0:57")
	number, _ := v.with("42")
	if sentence, _ := v.with("Type 42 on your phone (Zoë’s phone) to approve"); number.H < 2*sentence.H {
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
		if _, ok := v.with(gone); ok {
			t.Errorf("still shown: %q", gone)
		}
	}
	h.nothing()
	b, _ := v.with("Ask again")
	click(t, b)
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
		if _, ok := v.with(want); !ok {
			t.Errorf("not shown: %q", want)
		}
	}
	h.do("close")
}

func TestACodeWhileThePhoneRings(t *testing.T) {
	h := startHost(t)
	for name, act := range map[string]func(v views){
		"straight away":      func(views) {},
		"Use a code instead": func(v views) { keys(t, "Tab"); b, _ := v.with("Use a code instead"); click(t, b) },
		"by keyboard":        func(views) { keys(t, "Tab", "Tab", "space") },
	} {
		act(h.open(ringing()))
		h.until("the focus in the field", func(v views) bool { f, ok := v.field(); return ok && f.Focus })
		typing(t, "123456")
		h.typed("123456")
		h.do("clock " + itoa(start+3000))
		h.untilText("Time left: 0:54") // goes on
		h.typed("123456")              // and harms nothing
		keys(t, "Return")
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
	if _, ok := v.with("Ask again"); ok {
		t.Error("the phone can be asked again")
	}
	keys(t, "Return")
	h.untilText("Type the code.")
	h.nothing()
	h.do("close")

	h.open(ringing())
	keys(t, "Return") // an empty field
	if got := h.answer(); got != (answer{text, ""}) {
		t.Errorf("got %+v", got)
	}
	h.do("close")
	h.open(ringing())
	keys(t, "Tab", "space")
	if got := h.answer(); got != (answer{text, ""}) {
		t.Errorf("by keyboard: got %+v", got)
	}
	h.do("close")
}

func TestWhyNot(t *testing.T) {
	h := startHost(t)
	const why = "You denied this login on your phone."
	for name, act := range map[string]func(v views){
		"Return": func(views) { keys(t, "Return") },
		"Escape": func(views) { keys(t, "Escape") },
		"space":  func(views) { keys(t, "space") },
		"Back":   func(v views) { b, _ := v.with("Back"); click(t, b) },
	} {
		v := h.open(telling(why))
		if _, ok := v.with(why); !ok {
			t.Errorf("not shown: %q", why)
		}
		if _, ok := v.field(); ok {
			t.Error("there is something to type into")
		}
		act(v)
		if got := h.answer(); got != (answer{cancel, ""}) {
			t.Errorf("%s: got %+v", name, got)
		}
		h.do("close")
	}
	v := h.open(telling(""))
	if _, ok := v.with("You were not logged in. Please try again."); !ok {
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
		b, ok := v.with("Log In")
		if f, _ := v.field(); !ok || b.Y < 0 || b.Y+b.H > 768 || f.Y < 0 {
			t.Errorf("%s: what is to be pressed is off the screen: %+v, %+v", what, b, f)
		}
		typing(t, "1")
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
		i := slices.IndexFunc(v, func(s seen) bool { return s.Focus && s.Class != "window" })
		if i < 0 {
			t.Fatalf("nothing has the focus: %+v", v)
		}
		name := v[i].Text
		if v[i].Editable {
			name = v[i].Label
		}
		order = append(order, name)
		keys(t, "Tab")
		h.until("another focus", func(after views) bool {
			return slices.ContainsFunc(after, func(s seen) bool {
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
	typing(t, "99")
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
	h := startHost(t)
	for _, key := range []string{"Return", "Escape"} {
		h.open(asking(question))
		typing(t, "1")
		h.typed("1")
		xdotool(t, "keydown", key)
		h.answer()
		h.do("close")
		h.open(ringing())
		// X repeats a key every 40 ms, after 660 ms (Xvfb(1), -ardelay, -arinterval).
		repeats := atoi(t, h.do("repeats"))
		for end := time.Now().Add(patience); atoi(t, h.do("repeats")) < repeats+10; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s is not repeated: this test sees nothing", key)
			}
		}
		h.nothing()
		xdotool(t, "keyup", key)
		keys(t, key)
		h.answer()
		h.do("close")
	}
}
