package cli

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"sallyport/internal/clock"
	"sallyport/internal/factor/push"
	"sallyport/internal/organisation"
	"sallyport/internal/testkit/firefox"
	authorityv1 "sallyport/proto/sallyport/authority/v1"
)

// A login approved on a phone, with nothing made up: the real program, page and
// browser; the browser's own subscription, a push service between, the passkey of
// an authenticator. Only the computer is this test.
func TestALoginIsApprovedInARealFirefox(t *testing.T) {
	if err := firefox.Installed(); err != nil {
		t.Skip(err)
	}
	service, err := firefox.NewPushService()
	ok(t, err)
	defer service.Close()

	s := newShell(t)
	origin := s.init("--unsafe-push", service.Host())
	authority := s.serve()
	if !strings.Contains(authority.log.String(), "UNSAFE") {
		t.Error("the log does not say that a local push service is unsafe")
	}
	s.ok("user", "add", "maya")
	var token struct{ Token string }
	s.json(&token, "token", "create", "--user", "maya")
	laptop, err := join(t, authority.Devices, token.Token)
	ok(t, err)
	if w := laptop.connect(); len(w.Users) != 1 || w.Users[0] != "maya" || !w.HoldsOrganisationKey {
		t.Errorf("welcome: %v", w)
	}

	// The phone enrols.
	browser, err := firefox.Start(t.Context(), service)
	ok(t, err)
	defer func() { ok(t, browser.Close()) }()
	ok(t, browser.Authenticator(true))
	var invitation struct{ URL string }
	s.json(&invitation, "user", "enrol", "maya")
	phone, err := browser.Open(invitation.URL)
	ok(t, err)
	defer func() {
		if t.Failed() {
			text, _ := phone.Text("body")
			t.Logf("the page shows:\n%s\nconsole:\n%s", text, strings.Join(phone.Console(), "\n"))
		}
	}()
	ok(t, phone.Click("#enrol-button"))
	ok(t, phone.WaitText("body", "This phone is enrolled"))
	ok(t, phone.Click("#enrolled .toggle"))
	ok(t, phone.WaitText("#enrolled .state", "This phone rings"))
	ok(t, phone.Click("#enrolled-done"))
	ok(t, phone.WaitText("body", "Nothing to approve"))
	var list struct {
		Phones []struct {
			ID    string
			Rings bool
		}
	}
	s.json(&list, "user", "phones", "maya")
	if len(list.Phones) != 1 || !list.Phones[0].Rings {
		t.Fatalf("phones: %+v", list)
	}

	// The computer has the key, signed.
	var m organisation.Manifest
	signed := laptop.item(organisation.KindApprovers, "maya", 1)
	ok(t, json.Unmarshal(signed.Payload, &m))
	approver := push.Approver(m.Approvers[0])
	var settings organisation.Settings
	ok(t, json.Unmarshal(laptop.item(organisation.KindSettings, "", 1).Payload, &settings))
	rules := push.Rules{RelyingParty: push.RelyingParty{ID: settings.RPID, Origin: settings.Origin}, AllowSynced: true}
	if settings.Origin != origin {
		t.Errorf("settings: %+v", settings)
	}

	// A login: the phone rings.
	login := func() *push.Live {
		t.Helper()
		live, err := push.NewChallenge(push.Challenge{Device: laptop.id, Name: "laptop-17", User: "maya", Service: "sshd", From: "203.0.113.7"},
			clock.Instant{Wall: time.Now()}, time.Minute, 2)
		ok(t, err)
		laptop.send(&authorityv1.DeviceMessage{Message: &authorityv1.DeviceMessage_PushBegin{PushBegin: &authorityv1.PushBegin{Id: live.Challenge.ID, User: "maya",
			Challenge: live.Bytes, CredentialIds: [][]byte{approver.CredentialID}, Resource: "sshd", Expires: timestamppb.New(time.Unix(live.Challenge.Expires, 0))}}})
		started := laptop.await("push started", func(m *authorityv1.AuthorityMessage) bool { return m.GetPushStarted() != nil }).GetPushStarted()
		if started.Id != live.Challenge.ID || started.Refused != "" || started.Phone != approver.Phone {
			t.Fatalf("started: %v", started)
		}
		return live
	}
	live := login()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	acks, err := service.Acked(ctx, 1)
	ok(t, err)
	if acks[0].Code != firefox.Delivered {
		t.Errorf("Firefox acknowledged with %d", acks[0].Code)
	}
	// What lies on the lock screen.
	ok(t, phone.Wait(`(await (await navigator.serviceWorker.ready).getNotifications()).length == 1`))
	var shown []string
	ok(t, phone.Eval(`navigator.serviceWorker.ready.then(r => r.getNotifications()).then(l => l.map(n => n.title + " | " + n.body))`, &shown))
	if want := "Log in to laptop-17? | maya, Remote login (SSH), from 203.0.113.7"; len(shown) != 1 || shown[0] != want {
		t.Errorf("the lock screen shows %q", shown)
	}
	// The worker told the page, which shows the login.
	ok(t, phone.WaitText(".card h2", "Are you logging in?"))
	ok(t, phone.WaitText(".card", "203.0.113.7"))
	ok(t, phone.Type(".card .number", live.Number))
	ok(t, phone.Click(".card .approve"))
	answer := laptop.await("the answer", func(m *authorityv1.AuthorityMessage) bool { return m.GetPushAnswer() != nil }).GetPushAnswer()
	verified := live.Verify(push.Answer{Decision: push.Decision(answer.Decision), Assertion: push.Assertion{CredentialID: answer.CredentialId,
		AuthenticatorData: answer.AuthenticatorData, ClientData: answer.ClientData, Signature: answer.Signature}},
		[]push.Approver{approver}, nil, rules, clock.Instant{Wall: time.Now()})
	if !verified.OK || answer.Id != live.Challenge.ID {
		t.Fatalf("the computer: %+v", verified)
	}
	laptop.send(&authorityv1.DeviceMessage{Message: &authorityv1.DeviceMessage_PushEnd{PushEnd: &authorityv1.PushEnd{Id: live.Challenge.ID, Outcome: "approved"}}})
	ok(t, phone.WaitText("body", "Approved"))
	if acks, err := service.Acked(ctx, 1); err != nil || len(acks) != 1 {
		t.Errorf("the worker failed afterwards: %v %v", acks, err)
	}

	// Monitoring has seen it, and so has status.
	for _, want := range []string{"sallyport_streams 1", "sallyport_pushes_begun_total 1", `sallyport_pushes_answered_total{decision="approve"} 1`,
		`sallyport_pushes_ended_total{outcome="approved"} 1`, `sallyport_phone_messages_total{result="ok"} 1`, "sallyport_certificates_issued_total 1",
		`sallyport_authority_events_total{event="device_joined"} 1`} {
		authority.awaitMetric(t, want)
	}
	var status statusView
	exit, out, _ := s.run("status", "--json")
	ok(t, json.Unmarshal([]byte(out), &status))
	if exit != ExitFailed || !status.Running || status.Online != 1 || status.Phones != 1 || len(status.Problems) != 1 || status.Problems[0].Code != "unsafe_push_services" {
		t.Errorf("status: exit %d, %+v", exit, status)
	}

	// The phone is removed: the computer gets a manifest without it.
	s.ok("phone", "remove", list.Phones[0].ID)
	ok(t, json.Unmarshal(laptop.item(organisation.KindApprovers, "maya", signed.Version+1).Payload, &m))
	if len(m.Approvers) != 0 {
		t.Errorf("manifest: %+v", m)
	}

	// The computer is revoked: its stream ends.
	s.ok("device", "revoke", "laptop-17", "--reason", "stolen")
	bye := laptop.await("goodbye", func(m *authorityv1.AuthorityMessage) bool { return m.GetGoodbye() != nil }).GetGoodbye()
	if bye.Reason != "revoked" {
		t.Errorf("goodbye: %v", bye)
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// awaitMetric waits until monitoring shows a line: what a message sets off is
// counted when it is on disk.
func (r *running) awaitMetric(t *testing.T, line string) {
	t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		_, text := r.get(t, "/metrics")
		if strings.Contains(text, "\n"+line+"\n") {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Errorf("monitoring never showed %s:\n%s", line, text)
			return
		}
	}
}
