//go:build linux

package console

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/authority/enrol"
	"sallyport/authority/store"
	"sallyport/authority/store/storetest"
)

// HAZARD: a list that goes on leads nowhere. The second page is followed as a browser would.
func TestTheNextPageIsTheNextPage(t *testing.T) {
	w := newWorld(t)
	c := w.in("anna", Read)
	for i := range 60 {
		w.joined(fmt.Sprintf("PAGED%021d", i), fmt.Sprintf("paged-%02d", i), "*")
		w.ok(w.enrol.AddUser(t.Context(), "test", fmt.Sprintf("paged.%02d", i)))
	}
	for path, last := range map[string]string{"/people?q=PAGED": ">paged.59<", "/devices?q=Paged": ">paged-59<"} {
		first := c.get(path)
		_, rest, _ := strings.Cut(first.body, `class="pages"`)
		_, rest, _ = strings.Cut(rest, `href="`)
		href, _, ok := strings.Cut(rest, `"`)
		if !ok || strings.Contains(first.body, last) {
			t.Fatalf("%s has no second page", path)
		}
		at, _, _ := strings.Cut(path, "?")
		href = strings.ReplaceAll(href, "&amp;", "&")
		if r := c.get(at + href); !strings.Contains(r.body, last) || strings.Contains(r.body, "paged.01<") {
			t.Errorf("%s: %q is %d %s", path, href, r.status, r.body)
		}
	}
}

// HAZARD: what a database cannot hold is an error of the server's.
func TestTextThatNoDatabaseHolds(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func(string) store.Store) {
		w := newWorldOn(t, open("one"), "bypass")
		c := w.in("anna", Admin)
		for _, bad := range []string{"%00", "%FF", "a%00b", "%ED%A0%80"} {
			for _, path := range []string{"/people?q=%s", "/people?after=%s", "/person?name=%s", "/devices?q=%s", "/devices?after=%s", "/devices?after=a&id=%s", "/device?id=%s",
				"/events?user=%s", "/events?device=%s", "/events?name=%s", "/events?text=%s", "/events?verdict=%s", "/events?cursor=%s", "/events?from=%s", "/events/new?after=%s",
				"/act/phone?user=%s", "/act/revoke?device=%s", "/act/phone_remove?user=alice&phone=%s", "/act/operator_role?operator=%s", "/act/passkey_remove?operator=anna&key=%s"} {
				w.pass(time.Second)
				path = strings.ReplaceAll(path, "%s", bad)
				if r := c.get(path); r.status >= 500 {
					t.Errorf("%s: %d", path, r.status)
				}
			}
			text, _ := url.QueryUnescape(bad)
			if r := c.steps("approve", text); r.status >= 500 {
				t.Errorf("the request %s: %d", bad, r.status)
			}
		}
	})
}

// HAZARD: a letter that is none of ASCII finds nothing, though it is typed as it stands.
func TestSearchFindsEveryLetter(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func(string) store.Store) {
		w := newWorldOn(t, open("one"))
		w.ok(w.enrol.AddUser(t.Context(), "test", "Özgür_1%"))
		w.ok(w.enrol.AddUser(t.Context(), "test", "OZGUR"))
		c := w.in("anna", Read)
		for q, found := range map[string]bool{"Özgür": true, "Öz": true, "R_1%": true, "_": true, `\`: false, "%": true, "ZGX": false} {
			if r := c.get("/people?q=" + url.QueryEscape(q)); strings.Contains(r.body, ">Özgür_1%<") != found {
				t.Errorf("%q: %v", q, !found)
			}
		}
	})
}

// meanwhile is a store in which something happens between the look at who somebody is
// and what they do.
type meanwhile struct {
	store.Store
	happens func()
}

func (m *meanwhile) Update(ctx context.Context, fn func(store.Tx) error) error {
	if f := m.happens; f != nil {
		m.happens = nil
		f()
	}
	return m.Store.Update(ctx, fn)
}

// during makes the console anew so that something happens before its next change.
func (w *world) during(happens func()) {
	w.t.Helper()
	h := Handler(Options{Store: &meanwhile{w.store, happens}, Enrol: w.enrol, Organisation: "Example Works", RelyingParty: w.rp(), Idle: 15 * time.Minute, Life: 12 * time.Hour,
		SecondPerson: w.second, Now: w.now, Log: quiet})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.handler = h
}

// HAZARD: who loses the role while the request is under way still acts, or approves.
func TestLosingARoleWhileARequestIsUnderWay(t *testing.T) {
	w := newWorld(t, "bypass")
	o := w.operators()
	anna, ben, carla := w.in("anna", Helpdesk), w.in("ben", Helpdesk), w.in("carla", Helpdesk)
	// An action.
	form := url.Values{"form": {anna.get("/act/phone?user=alice").token("/act/phone")}, "user": {"alice"}}
	w.during(func() { w.ok(o.Remove(t.Context(), "test", "anna")) })
	if r := anna.post("/act/phone", form); r.status < 400 || r.status > 499 || w.count(enrol.EnrolmentOpened) != 0 {
		t.Errorf("removed: %d, %d phones could enrol", r.status, w.count(enrol.EnrolmentOpened))
	}
	w.restart()
	form = url.Values{"form": {ben.get("/act/phone?user=alice").token("/act/phone")}, "user": {"alice"}}
	w.during(func() { w.ok(o.SetRole(t.Context(), "test", "ben", Read)) })
	if r := ben.post("/act/phone", form); r.status < 400 || r.status > 499 || w.count(enrol.EnrolmentOpened) != 0 {
		t.Errorf("demoted: %d, %d phones could enrol", r.status, w.count(enrol.EnrolmentOpened))
	}
	w.restart()
	// An approval: whatever it says in the database, who approved has to be one who may now.
	dora := w.in("dora", Helpdesk)
	id := w.asks(carla)
	w.during(func() { w.ok(o.SetRole(t.Context(), "test", "dora", Read)) })
	if r := dora.steps("approve", id); r.status < 400 || r.status > 499 {
		t.Errorf("approved by who is demoted: %d", r.status)
	}
	w.restart()
	w.update(func(tx store.Tx) error { return tx.ApproveOperatorRequest(id, "dora", w.now()) })
	if r := carla.steps("carry-out", id); r.status < 400 || r.status > 499 || w.count(enrol.BypassIssued) != 0 {
		t.Errorf("carried out with the approval of who may not: %d", r.status)
	}
}

// HAZARD: a stolen passkey is taken away, and what its thief has prepared still works.
func TestWithThePasskeyEndsWhatItPrepared(t *testing.T) {
	w := newWorld(t, "bypass")
	o := w.operators()
	anna, ben := w.in("anna", Helpdesk), w.in("ben", Helpdesk)
	i, err := o.Invite(t.Context(), "operator:anna", "anna")
	w.ok(err)
	id := w.asks(ben)
	if r := anna.steps("approve", id); r.status != http.StatusSeeOther {
		t.Fatalf("%d", r.status)
	}
	var keys []store.OperatorKey
	w.view(func(tx store.Tx) (err error) { keys, err = tx.OperatorKeys("anna"); return err })
	w.ok(o.RemoveKey(t.Context(), "test", "anna", keys[0].CredentialID))
	if r := anna.accepts(i); r.status != http.StatusForbidden {
		t.Errorf("the invitation: %d %s", r.status, r.body)
	}
	if r := ben.steps("carry-out", id); r.status < 400 || w.count(enrol.BypassIssued) != 0 {
		t.Errorf("the approval: %d", r.status)
	}
}

// HAZARD: a computer is given the name of another, and an operator helps the wrong one.
func TestTwoComputersOfOneName(t *testing.T) {
	w := newWorld(t, "bypass")
	w.joined("TWINLAPTOPAAAAAAAAAAAAAAAA", "laptop-17", "*")
	anna, ben := w.in("anna", Helpdesk), w.in("ben", Helpdesk)
	if r := anna.get("/act/unlock?" + aliceHere.Encode()); !strings.Contains(r.body, laptop) {
		t.Error("the form does not say which of the two it is")
	}
	w.asks(anna)
	if r := ben.get("/requests"); !strings.Contains(r.body, laptop) {
		t.Error("the request does not say which of the two it is")
	}
	if r := anna.get("/person?name=alice"); !strings.Contains(r.body, "SN-laptop-17") {
		t.Error("the person's page does not tell them apart")
	}
}

// HAZARD: what admins ask of each other is shown to whoever may not do it.
func TestRequestsOfAdminsAreTheAdmins(t *testing.T) {
	w := newWorld(t, "bypass")
	anna, ben := w.in("anna", Admin), w.in("ben", Helpdesk)
	if r := anna.submits("operator_add", nil, url.Values{"operator": {"zed"}, "role": {"admin"}, "reason": {"x"}}); r.status != http.StatusSeeOther {
		t.Fatalf("%d", r.status)
	}
	if r := ben.get("/requests"); strings.Contains(r.body, "zed") || strings.Contains(r.body, "/request/refuse") {
		t.Error("the helpdesk sees it")
	}
}

// HAZARD: an approval is used up by what could have been seen when it was asked for.
func TestWhatCannotBeDoneIsNotAskedFor(t *testing.T) {
	w := newWorld(t, "bypass", "offline_bypass", "operator_add")
	c := w.in("anna", Admin)
	for name, r := range map[string]reply{
		"a challenge mistyped": c.submits("offline_bypass", aliceHere, url.Values{"challenge": {"AAAAAAAA"}, "life": {"1h"}, "reason": {"x"}}),
		"a life that is none":  c.submits("bypass", aliceHere, url.Values{"life": {"99h"}, "reason": {"x"}}),
		"not allowed there":    c.submits("bypass", url.Values{"user": {"alice"}, "device": {desk}}, url.Values{"life": {"1h"}, "reason": {"x"}}),
		"an operator who is":   c.submits("operator_add", nil, url.Values{"operator": {"anna"}, "role": {"read"}, "reason": {"x"}}),
		"a name that is none":  c.submits("operator_add", nil, url.Values{"operator": {"An Na"}, "role": {"read"}, "reason": {"x"}}),
		"a role that is none":  c.submits("operator_add", nil, url.Values{"operator": {"zed"}, "role": {"root"}, "reason": {"x"}}),
	} {
		if r.status < 400 || r.status > 499 {
			t.Errorf("%s: %d", name, r.status)
		}
	}
}

// HAZARD: with many computers for everyone, the one that somebody sits at cannot be had.
func TestHelpAtAComputerThatHasSaidNothing(t *testing.T) {
	w := newWorld(t)
	for i := range 30 {
		w.joined(fmt.Sprintf("MANY%022d", i), fmt.Sprintf("a-%02d", i), "*")
	}
	w.joined("ZULUAAAAAAAAAAAAAAAAAAAAAA", "zulu-1", "*")
	c := w.in("anna", Helpdesk)
	if r := c.get("/person?name=alice"); strings.Contains(r.body, "zulu-1") || !strings.Contains(r.body, `name="q"`) {
		t.Error("no search")
	}
	for _, q := range []string{"ZULU", "sn-zulu"} {
		if r := c.get("/person?name=alice&q=" + q); !strings.Contains(r.body, "zulu-1") || strings.Contains(r.body, "a-01") {
			t.Errorf("%s: %d", q, r.status)
		}
	}
}

// TestAServerWithoutItsEscrowKeySaysSo: it is not the computer that has something to do.
func TestAServerWithoutItsEscrowKeySaysSo(t *testing.T) {
	w := newWorld(t)
	anna := w.in("anna", Helpdesk)
	w.ok(os.Remove(filepath.Join(w.keys, "escrow.key")))
	w.opens()
	w.restart()
	r := anna.submits("offline_bypass", aliceHere, url.Values{"challenge": {w.challenge("alice")}, "life": {"1h"}, "reason": {"on a train"}})
	if r.status != http.StatusUnprocessableEntity || !strings.Contains(r.body, "escrow.key is missing") || w.count(enrol.OfflineBypassAnswered) != 0 {
		t.Errorf("%d %s", r.status, r.body)
	}
}
