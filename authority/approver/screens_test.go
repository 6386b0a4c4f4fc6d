package approver

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/authority/store"
	"sallyport/internal/factor/push"
	"sallyport/internal/testkit/chromium"
)

// documented are the screens that docs/img has.
var documented = []string{"enrol-phone", "enrolled-phone", "pending-phone", "pending-phone-dark", "pending-tiny", "approved-phone", "wrong-number-phone", "sure-phone"}

func smaller(t *testing.T, shot []byte) []byte {
	t.Helper()
	small, err := chromium.Smaller(shot)
	if err != nil {
		t.Fatal(err)
	}
	return small
}

// TestScreens walks a person through every state of the page, on every screen,
// and looks that nothing is cut off. With -update or SCREENS=dir it keeps what it saw.
func TestScreens(t *testing.T) {
	dir := os.Getenv("SCREENS")
	screens := map[string]chromium.Screen{
		"phone": chromium.Phone, "phone-dark": chromium.Phone.InTheDark(), "tiny": chromium.Tiny, "tiny-dark": chromium.Tiny.InTheDark(), "desktop": chromium.Desktop,
	}
	w := newWorld(t)
	p := w.holds(t, chromium.Phone, true)
	look := func(state string) {
		t.Helper()
		for name, s := range screens {
			p.ok(p.On(s))
			var fits struct{ Wide, Window int }
			p.ok(p.Eval(`(document.activeElement?.blur?.(), scrollTo(0, 0), {Wide: document.documentElement.scrollWidth, Window: innerWidth})`, &fits))
			if fits.Wide > fits.Window {
				t.Errorf("%s on %s is %d wide, of %d", state, name, fits.Wide, fits.Window)
			}
			var small []string
			p.ok(p.Eval(`[...document.querySelectorAll('button, input')].filter(e => e.checkVisibility() && e.getBoundingClientRect().height < 44).map(e => e.outerHTML)`, &small))
			if len(small) > 0 {
				t.Errorf("%s on %s: too small for a finger: %q", state, name, small)
			}
			kept := slices.Contains(documented, state+"-"+name)
			if dir == "" && (!kept || !*update) {
				continue
			}
			shot, err := p.Screenshot(false)
			p.ok(err)
			if dir != "" {
				p.ok(os.WriteFile(filepath.Join(dir, state+"-"+name+".png"), shot, 0o600))
			}
			if kept && *update {
				p.ok(os.WriteFile("../../docs/img/approver-"+strings.Replace(state+"-"+name, "-phone", "", 1)+".png", smaller(t, shot), 0o644))
			}
		}
		p.ok(p.On(chromium.Phone))
	}

	p.opens("")
	look("signin")
	_, _, fragment := w.code("LAPTOP", "alice")
	p.opens(fragment)
	p.sees("Enrol this phone")
	look("enrol")
	p.clicks("#enrol-button")
	p.sees("This phone is enrolled")
	look("enrolled")
	p.leaves()
	p.sees("Nothing to approve")
	look("empty")

	live := p.asked(sshLogin, "LAPTOP")
	look("pending")
	p.clicks(".approve")
	p.sees("Type the number")
	look("no-number")
	p.clicks(".report")
	p.sees("Report this login?")
	look("sure")
	p.clicks(".report-no")
	p.ok(p.phone.Recognise(false))
	p.ok(p.Type(".number", live.Number))
	p.clicks(".approve")
	p.sees("did not recognise you")
	look("not-recognised")
	p.ok(p.phone.Recognise(true))
	p.clicks(".approve")
	p.sees("put the phone away")
	look("approved")
	p.clicks(".close")

	live = p.asked(push.Challenge{Name: "build-server", User: "alice", Service: "sudo"}, "LAPTOP")
	p.ok(p.Type(".number", other(live.Number)))
	p.clicks(".approve")
	p.sees("not the number")
	look("wrong-number")
	p.clicks(".close")
	p.asked(sshLogin, "LAPTOP")
	p.clicks(".deny")
	p.sees("Nobody was let in")
	look("denied")
	p.clicks(".close")
	p.asked(sshLogin, "LAPTOP")
	p.clicks(".report")
	p.clicks(".report-yes")
	p.sees("Reported")
	look("reported")
	p.clicks(".close")
	look("history")

	// A minute passes, for the server and for the page.
	live = p.asked(sshLogin, "LAPTOP")
	w.mu.Lock()
	w.clock = time.Now().Add(61 * time.Second)
	w.mu.Unlock()
	p.sees("Too late")
	look("expired")
	w.mu.Lock()
	w.clock = time.Time{}
	w.mu.Unlock()
	w.update(func(tx store.Tx) error { return tx.EndChallenge(live.Challenge.ID, "timed_out", time.Now()) })
	p.clicks(".close")

	p.asked(push.Challenge{Name: "a-computer-with-a-name-that-is-quite-long.example.internal", User: "CORP\\maria-magdalena.oberhuber@subsidiary.example.com", Service: "some-unusual-service", From: "2001:db8:85a3:8d3:1319:8a2e:370:7348"}, "LAPTOP")
	look("long")
	p.server.CloseClientConnections()
	p.server.Config.SetKeepAlivesEnabled(false)
	p.ok(p.server.Listener.Close())
	p.sees("cannot be reached")
	look("no-server")
	p.ok(p.Reload())
	p.ok(p.Wait("document.documentElement.dataset.ready"))
	p.sees("No connection")
	look("offline")
}

// other is a number that is not this one.
func other(number string) string {
	if number == "11" {
		return "12"
	}
	return "11"
}
