package console

import (
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"sallyport/authority/store"
	"sallyport/internal/event"
	"sallyport/internal/testkit/chromium"
)

var update = flag.Bool("update", false, "write the screenshots of docs/img")

// documented are the screens that docs/img has.
var documented = []string{"login-desktop", "people-desktop", "people-phone", "person-desktop", "person-phone", "person-dark", "devices-desktop", "device-phone", "events-desktop",
	"events-phone", "bypass-form-phone", "bypass-desktop", "bypass-phone", "recovery-phone", "totp-desktop", "requests-desktop", "requests-phone", "operators-desktop"}

// filled is a world in which something has happened.
func (w *world) filled() {
	w.t.Helper()
	now := w.now()
	w.phone("alice", "Pixel 9")
	w.phone("alice", "iPhone of Alice")
	for _, name := range []string{"carla.jimenez", "dmitri", "erin", "fatima.al-zahra", "george"} {
		w.ok(w.enrol.AddUser(w.t.Context(), "test", name))
	}
	w.joined("BUILD1AAAAAAAAAAAAAAAAAAAA", "build-server-with-a-long-name.example.internal", "*")
	three := 3
	w.update(func(tx store.Tx) error {
		_, err := tx.PutReport(store.Report{Device: laptop, At: now.Add(-3 * time.Minute), OS: "Debian GNU/Linux 12", State: "ok", People: []store.Person{
			{User: "alice", Key: "uid:1000", TOTP: true, RecoveryLeft: 8, Phones: 2, PushState: "reported", LockedUntil: now.Add(12 * time.Minute), LastSuccess: now.Add(-26 * time.Hour),
				LastFactor: "push", OfflineReady: true, Failures: 10, OfflineLeft: &three},
			{User: "bob", Key: "uid:1001", TOTP: true, OfflineReady: true},
		}})
		if err != nil {
			return err
		}
		_, err = tx.PutReport(store.Report{Device: desk, At: now.Add(-time.Hour), OS: "Windows 11 24H2", State: "clock_behind",
			Problems: []store.Problem{{Code: "clock_behind", Text: "The clock lies 40 minutes behind a time seen before.", Remedy: "Set the clock, then: sallyport clock reset"}}})
		if err != nil {
			return err
		}
		var list []store.Event
		for i, e := range []event.Event{
			{Name: event.LoginAttempt, User: "bob", Hook: "pam", Service: "sshd", Remote: "203.0.113.7", Verdict: "allow", Factor: "totp"},
			{Name: event.LoginAttempt, User: "alice", Hook: "pam", Service: "gdm-password", Verdict: "allow", Factor: "push"},
			{Name: event.LoginAttempt, User: "alice", Hook: "pam", Service: "sshd", Remote: "2001:db8:85a3:8d3:1319:8a2e:370:7348", Verdict: "deny", Reason: "wrong_code"},
			{Name: event.PushReported, User: "alice", Text: `"Not me" on Pixel 9`},
			{Name: event.UserLocked, User: "alice", Text: "10 wrong codes in a row; for 15m0s"},
		} {
			e.Time = now.Add(time.Duration(i-30) * time.Minute)
			b, err := json.Marshal(e)
			if err != nil {
				return err
			}
			list = append(list, store.Event{Device: laptop, VaultID: "v", Seq: uint64(i + 1), Time: e.Time, Kept: e.Time, Name: string(e.Name), User: e.User, JSON: b})
		}
		_, err = tx.AddEvents(list)
		return err
	})
}

// faults looks for what keeps people off a page: those who hear it, those who have no
// mouse, those who see little. It stands for what axe-core's rules of the same names do.
const faults = `(() => {
	const out = [], seen = (e) => e.checkVisibility({visibilityProperty: true, opacityProperty: true});
	const all = (s) => [...document.querySelectorAll(s)];
	const name = (e) => (e.getAttribute('aria-label') || (e.getAttribute('aria-labelledby') || '').split(' ').map((id) => document.getElementById(id)?.textContent ?? '').join(' ') ||
		[...(e.labels ?? [])].map((l) => l.textContent).join(' ') || e.textContent || e.alt || '').trim();
	if (!document.documentElement.lang) out.push('html-has-lang');
	if (!document.title) out.push('document-title');
	if (all('h1').length !== 1) out.push('one h1: ' + all('h1').length);
	if (all('main').length !== 1) out.push('landmark-one-main');
	let level = 0;
	for (const h of all('h1, h2, h3, h4').filter(seen)) {
		const n = Number(h.tagName[1]);
		if (n > level + 1) out.push('heading-order: ' + h.textContent);
		level = n;
		if (!h.textContent.trim()) out.push('empty-heading');
	}
	for (const e of all('a[href], button, input:not([type=hidden]), select, summary')) if (!name(e)) out.push('name: ' + e.outerHTML);
	for (const e of all('input:not([type=hidden]):not([type=radio]), select')) if (!e.labels.length && !e.getAttribute('aria-label')) out.push('label: ' + e.outerHTML);
	for (const e of all('[aria-describedby], [aria-labelledby]')) for (const a of ['aria-describedby', 'aria-labelledby'])
		for (const id of (e.getAttribute(a) ?? '').split(' ').filter(Boolean)) if (!document.getElementById(id)) out.push('aria-valid-attr-value: ' + id);
	const ids = all('[id]').map((e) => e.id);
	for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) out.push('duplicate-id: ' + id);
	for (const e of all('img, svg[role=img]')) if (!e.hasAttribute('alt') && !e.getAttribute('aria-label')) out.push('image-alt');
	for (const t of all('table')) if (!t.querySelector('th[scope]') || !t.caption) out.push('table: no headers or caption');
	for (const e of all('[tabindex]')) if (e.tabIndex > 0) out.push('tabindex: ' + e.outerHTML);
	const small = innerWidth < 600 ? 36 : 32;
	for (const e of all('button, .button, nav a, input:not([type=hidden]):not([type=radio]), select').filter(seen)) if (e.getBoundingClientRect().height < small) out.push('target-size: ' + e.outerHTML);
	const rgb = (s) => (s.match(/[\d.]+/g) ?? []).map(Number);
	const light = (c) => { const [r, g, b] = c.map((v) => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b; };
	const ground = (e) => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c.length === 3 || c[3] > 0) return c; } return [255, 255, 255]; };
	for (const e of all('body *')) {
		if (!seen(e) || e.closest('svg, .unseen') || ![...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim())) continue;
		const a = light(rgb(getComputedStyle(e).color).slice(0, 3)), b = light(ground(e).slice(0, 3));
		const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
		if (ratio < 4.5) out.push('color-contrast: ' + ratio.toFixed(1) + ' ' + e.outerHTML.slice(0, 120));
	}
	const wide = document.documentElement.scrollWidth;
	if (wide > innerWidth) out.push('wide: ' + wide + ' of ' + innerWidth);
	return out;
})()`

// TestScreens looks at every page, at the size of a laptop and of a phone, by day and
// by night. With -update or SCREENS=dir it keeps what it saw.
func TestScreens(t *testing.T) {
	dir := os.Getenv("SCREENS")
	screens := []struct {
		name string
		chromium.Screen
	}{{"desktop", chromium.Desktop}, {"phone", chromium.Phone}, {"dark", chromium.Desktop.InTheDark()}, {"tiny", chromium.Tiny}}
	w := newWorld(t, "offline_bypass")
	p := w.sits(t, chromium.Desktop)
	w.filled()
	look := func(state string) {
		t.Helper()
		p.ok(p.Wait("document.readyState === 'complete'")) // with its style sheet
		for _, s := range screens {
			p.ok(p.On(s.Screen))
			var found []string
			p.ok(p.Eval(faults, &found))
			for _, f := range found {
				t.Errorf("%s on %s: %s", state, s.name, f)
			}
			kept := *update && slices.Contains(documented, state+"-"+s.name)
			if dir == "" && !kept {
				continue
			}
			p.ok(p.Eval(`scrollTo(0, 0)`, nil))
			shot, err := p.Screenshot(state == "person" || state == "events" && s.name != "desktop")
			p.ok(err)
			if dir != "" {
				p.ok(os.WriteFile(filepath.Join(dir, state+"-"+s.name+".png"), shot, 0o600))
			}
			if kept {
				small, err := chromium.Smaller(shot)
				p.ok(err)
				p.ok(os.WriteFile("../../docs/img/console-"+state+"-"+s.name+".png", small, 0o644))
			}
		}
		p.ok(p.On(chromium.Desktop))
	}
	at := func(path, state string) {
		t.Helper()
		p.opens(path)
		look(state)
	}
	at("/login", "login")
	i, err := w.operators().Add(t.Context(), "test", "anna", Admin)
	p.ok(err)
	p.ok(p.Go(i.URL.Reveal()))
	p.sees("lets anna")
	look("invite")
	p.clicks("#invite button")
	p.ok(p.WaitText("h1", "Log in"))
	p.logsIn()
	at("/people", "people")
	at("/people?q=nobody-of-this-name", "people-none")
	at("/person?name=alice", "person")
	at("/person?name="+url.QueryEscape(`corp\zoë`), "person-bare")
	at("/devices", "devices")
	at("/device?id="+laptop, "device")
	at("/device?id="+desk, "device-problem")
	at("/events", "events")
	at("/events?user=alice&verdict=deny", "events-found")
	at("/nothing", "problem")
	at("/operators", "operators")
	at("/act/operator_add", "operator-form")
	at("/act/revoke?device="+laptop, "revoke-form")

	does := func(action string, given url.Values, state string, fill func()) {
		t.Helper()
		p.form(action, given)
		look(state + "-form")
		if fill != nil {
			fill()
		}
		p.clicks("form[action^='/act/'] button")
		p.ok(p.WaitFor("[data-once], .notice"))
		look(state)
	}
	does("bypass", aliceHere, "bypass", func() { p.types("#f-reason", "lost phone, called back, ticket 4711") })
	does("recovery", aliceHere, "recovery", nil)
	does("totp", aliceHere, "totp", nil)
	does("phone", url.Values{"user": {"alice"}}, "phone", nil)
	does("unlock", aliceHere, "unlock", nil)
	c := w.in("ben", Helpdesk)
	for n := range 2 {
		c.submits("offline_bypass", aliceHere, url.Values{"challenge": {w.challenge("alice")}, "life": {"1h"}, "reason": {fmt.Sprintf("on a train, ticket %d", n)}})
	}
	does("offline_bypass", aliceHere, "requests", func() {
		p.types("#f-challenge", w.challenge("alice"))
		p.types("#f-reason", "in a tunnel, called back, ticket 4712")
	})
	w.pass(16 * time.Minute)
	at("/people", cmp.Or("", "login-again"))
}
