package link

import (
	"context"
	"encoding/base64"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"sallyport/agent/store"
	"sallyport/internal/event"
	"sallyport/internal/factor/push"
	"sallyport/internal/organisation"
	"sallyport/internal/testkit/passkey"
	"sallyport/internal/vault"
	authorityv1 "sallyport/proto/sallyport/authority/v1"
)

// enrolling is an enrolment that runs.
type enrolling struct {
	t      *testing.T
	cancel context.CancelFunc
	urls   chan string
	pinned chan push.Approver
	err    chan error
}

func (c *computer) enrol(pin error) *enrolling {
	ctx, cancel := context.WithCancel(c.t.Context())
	e := &enrolling{t: c.t, cancel: cancel, urls: make(chan string, 1), pinned: make(chan push.Approver, 10), err: make(chan error, 1)}
	go func() {
		e.err <- c.link.EnrolPhone(ctx, "maya", func(u string, _ time.Time) error { e.urls <- u; return nil },
			func(a push.Approver) error { e.pinned <- a; return pin })
	}()
	return e
}

// scan is what the phone gets to know: the page, and what is behind the #.
func (e *enrolling) scan() (page string, v url.Values, secret []byte) {
	e.t.Helper()
	page, fragment, _ := strings.Cut(receive(e.t, e.urls, "the link"), "#")
	v, err := url.ParseQuery(fragment)
	if err != nil {
		e.t.Fatal(err)
	}
	secret, err = base64.RawURLEncoding.DecodeString(v.Get("s"))
	if err != nil || len(secret) != 32 {
		e.t.Fatalf("the secret has %d bytes: %v", len(secret), err)
	}
	return page, v, secret
}

func (d *devStream) enrolmentBegin(page string) *authorityv1.EnrolmentBegin {
	d.t.Helper()
	b := receive(d.t, d.in, "EnrolmentBegin").GetEnrolmentBegin()
	if b == nil {
		d.t.Fatal("another message came")
	}
	d.send(&authorityv1.AuthorityMessage{Message: &authorityv1.AuthorityMessage_EnrolmentStarted{EnrolmentStarted: &authorityv1.EnrolmentStarted{Id: b.GetId(), Url: page}}})
	return b
}

func (d *devStream) enrolmentEnd() *authorityv1.EnrolmentEnd {
	d.t.Helper()
	e := receive(d.t, d.in, "EnrolmentEnd").GetEnrolmentEnd()
	if e == nil {
		d.t.Fatal("another message came")
	}
	return e
}

func keyMessage(id string, r push.Registration, mac []byte) *authorityv1.AuthorityMessage {
	return &authorityv1.AuthorityMessage{Message: &authorityv1.AuthorityMessage_EnrolmentKey{EnrolmentKey: &authorityv1.EnrolmentKey{Id: id, CredentialId: r.CredentialID,
		PublicKey: r.PublicKey, AuthenticatorData: r.AuthenticatorData, Phone: r.Phone, Mac: mac}}}
}

const page = "https://approve.example.com/enrol"

func TestAPhoneEnrolsAtTheComputer(t *testing.T) {
	c, _, d := connected(t)
	e := c.enrol(nil)
	b := d.enrolmentBegin(page)
	shown, v, secret := e.scan()
	if shown != page || v.Get("e") != b.GetId() || v.Get("d") != deviceID || v.Get("n") != "laptop" || v.Get("u") != "maya" || b.GetUser() != "maya" {
		t.Errorf("the link has %s and %v", shown, v)
	}
	if strings.Contains(b.String(), v.Get("s")) || strings.Contains(c.log.String(), v.Get("s")) {
		t.Error("the secret went where it must not")
	}
	key := passkey.New(rp)
	r := key.Registration("Maya's phone")
	d.send(keyMessage(push.NewID(), r, nil)) // somebody else's enrolment
	d.send(keyMessage(b.GetId(), r, push.EnrolmentMAC(secret, b.GetId(), deviceID, "maya", r)))
	if p := receive(t, e.pinned, "the key to pin"); string(p.CredentialID) != string(r.CredentialID) || p.Phone != "Maya's phone" || p.Synced {
		t.Errorf("pinned: %+v", p)
	}
	if err := receive(t, e.err, "the end"); err != nil {
		t.Fatal(err)
	}
	if m := d.enrolmentEnd(); m.GetId() != b.GetId() || !m.GetAccepted() || string(m.GetCredentialId()) != string(r.CredentialID) {
		t.Errorf("EnrolmentEnd is %v", m)
	}
	t.Log("a second key for the same link is not taken; the authority hears again how it ended")
	other := passkey.New(rp).Registration("another")
	d.send(keyMessage(b.GetId(), other, push.EnrolmentMAC(secret, b.GetId(), deviceID, "maya", other)))
	if m := d.enrolmentEnd(); !m.GetAccepted() || string(m.GetCredentialId()) != string(r.CredentialID) {
		t.Errorf("EnrolmentEnd is %v", m)
	}
	if len(e.pinned) != 0 {
		t.Error("the second key was pinned")
	}
}

// TestAnAuthorityEnrolsNoPhoneOfItsOwn: it does not know the secret behind the #.
func TestAnAuthorityEnrolsNoPhoneOfItsOwn(t *testing.T) {
	own := passkey.New(rp).Registration("the attacker's")
	for name, mac := range map[string]func(secret []byte, id string, r push.Registration) []byte{
		"no proof":        func([]byte, string, push.Registration) []byte { return nil },
		"a guessed proof": func([]byte, string, push.Registration) []byte { return make([]byte, 32) },
		"an empty secret": func(_ []byte, id string, r push.Registration) []byte {
			return push.EnrolmentMAC(nil, id, deviceID, "maya", r)
		},
		"of another user": func(s []byte, id string, r push.Registration) []byte {
			return push.EnrolmentMAC(s, id, deviceID, "otto", r)
		},
		"of another device": func(s []byte, id string, r push.Registration) []byte {
			return push.EnrolmentMAC(s, id, "other", "maya", r)
		},
		"of another key": func(s []byte, id string, _ push.Registration) []byte {
			return push.EnrolmentMAC(s, id, deviceID, "maya", passkey.New(rp).Registration("x"))
		},
		"cut short": func(s []byte, id string, r push.Registration) []byte {
			return push.EnrolmentMAC(s, id, deviceID, "maya", r)[:16]
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, _, d := connected(t)
			e := c.enrol(nil)
			b := d.enrolmentBegin(page)
			_, _, secret := e.scan()
			d.send(keyMessage(b.GetId(), own, mac(secret, b.GetId(), own)))
			wantError(t, receive(t, e.err, "the end"), "whose proof is wrong")
			if m := d.enrolmentEnd(); m.GetAccepted() || m.GetReason() == "" {
				t.Errorf("EnrolmentEnd is %v", m)
			}
			if ev := c.event(event.PushFailed, "a key with a wrong proof came"); ev.User != "maya" {
				t.Errorf("the event is %+v", ev)
			}
			t.Log("one key each: a right one after it is too late")
			good := passkey.New(rp).Registration("phone")
			d.send(keyMessage(b.GetId(), good, push.EnrolmentMAC(secret, b.GetId(), deviceID, "maya", good)))
			if m := d.enrolmentEnd(); m.GetAccepted() || len(e.pinned) != 0 {
				t.Error("it was taken")
			}
		})
	}
}

// TestTheSecretGoesToTheSignedPageOnly: the authority names the page, and the
// organisation signed whose it may be.
func TestTheSecretGoesToTheSignedPageOnly(t *testing.T) {
	for _, bad := range []string{"https://evil.example/enrol", "http://approve.example.com/enrol", "https://approve.example.com.evil.example/", "https://approve.example.com:444/",
		"https://approve.example.com@evil.example/", "//approve.example.com/", "", "javascript:alert(1)", page + "#x", "https://approve.example.com\\@evil.example/",
		"https://evil.example/#https://approve.example.com/"} {
		c, _, d := connected(t)
		e := c.enrol(nil)
		d.enrolmentBegin(bad)
		wantError(t, receive(t, e.err, "the end"), "nothing was shown")
		if len(e.urls) != 0 {
			t.Errorf("%q: the link was shown", bad)
		}
		if m := d.enrolmentEnd(); m.GetAccepted() {
			t.Error("it was accepted")
		}
	}
}

func TestAKeyThatIsNotTaken(t *testing.T) {
	for name, x := range map[string]struct {
		key  *passkey.Key
		pin  error
		says string
	}{
		"of another page":        {key: passkey.New(push.RelyingParty{ID: "evil.example", Origin: "https://evil.example"}), says: "not one of"},
		"synced, and not wanted": {key: passkey.NewSynced(rp), says: "push.allow_synced = false"},
		"the vault is full":      {key: passkey.New(rp), pin: errors.New("the disk is full"), says: "the disk is full"},
	} {
		t.Run(name, func(t *testing.T) {
			c, _, d := connected(t)
			c.mu.Lock()
			c.config.Push.AllowSynced = false
			c.mu.Unlock()
			e := c.enrol(x.pin)
			b := d.enrolmentBegin(page)
			_, _, secret := e.scan()
			r := x.key.Registration("phone")
			d.send(keyMessage(b.GetId(), r, push.EnrolmentMAC(secret, b.GetId(), deviceID, "maya", r)))
			wantError(t, receive(t, e.err, "the end"), x.says)
			if m := d.enrolmentEnd(); m.GetAccepted() || !strings.Contains(m.GetReason(), x.says) {
				t.Errorf("EnrolmentEnd is %v", m)
			}
		})
	}
}

func TestAnEnrolmentIsWithdrawn(t *testing.T) {
	c, _, d := connected(t)
	e := c.enrol(nil)
	b := d.enrolmentBegin(page)
	e.scan()
	e.cancel()
	if err := receive(t, e.err, "the end"); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if m := d.enrolmentEnd(); m.GetId() != b.GetId() || m.GetAccepted() || !strings.Contains(m.GetReason(), "withdrawn") {
		t.Errorf("EnrolmentEnd is %v", m)
	}
}

func TestAnEnrolmentThatTheAuthorityRefuses(t *testing.T) {
	for refused, want := range map[string]string{
		"too many enrolments": "the authority refuses: too many enrolments",
		// When nobody is listed any more, the computer knows it only from this.
		"user_not_allowed": "does not list maya for this computer; there: sallyport-authority device allow ",
	} {
		c, _, d := connected(t)
		e := c.enrol(nil)
		b := receive(t, d.in, "EnrolmentBegin").GetEnrolmentBegin()
		d.send(&authorityv1.AuthorityMessage{Message: &authorityv1.AuthorityMessage_EnrolmentStarted{EnrolmentStarted: &authorityv1.EnrolmentStarted{Id: b.GetId(), Refused: refused}}})
		wantError(t, receive(t, e.err, "the end"), want)
	}
}

// TestAKeyComesAfterTheStreamBroke: the person took their time, and the laptop
// another network.
func TestAKeyComesAfterTheStreamBroke(t *testing.T) {
	c, a, d := connected(t)
	e := c.enrol(nil)
	b := d.enrolmentBegin(page)
	_, _, secret := e.scan()
	d.end()
	d = a.stream()
	r := passkey.New(rp).Registration("phone")
	d.send(keyMessage(b.GetId(), r, push.EnrolmentMAC(secret, b.GetId(), deviceID, "maya", r)))
	if err := receive(t, e.err, "the end"); err != nil {
		t.Fatal(err)
	}
	if !d.enrolmentEnd().GetAccepted() {
		t.Error("the authority is not told")
	}
}

func TestThePagesSpaceIsNoPlus(t *testing.T) {
	a := &store.Authority{DeviceID: deviceID, DeviceName: "Maya's laptop & more=+#%"}
	f := fragment("id", []byte("s"), a, "DOMAIN\\maya smith")
	if strings.Contains(f, "+") || strings.Count(f, "#") != 1 {
		t.Errorf("the fragment is %s", f)
	}
	v, err := url.ParseQuery(f[1:])
	if err != nil || v.Get("n") != a.DeviceName || v.Get("u") != "DOMAIN\\maya smith" {
		t.Errorf("%v, %v", v, err)
	}
}

func TestAnUnjoinedComputerEnrolsNoPhone(t *testing.T) {
	c := newComputer(t)
	wantError(t, c.link.EnrolPhone(t.Context(), "maya", nil, nil), "has joined no authority")
	wantError(t, c.link.EnrolPhone(t.Context(), "ma\x00ya", nil, nil), "malformed")
	a := newAuthority(t, c.clock)
	c.join(a)
	if err := c.store.Update(t.Context(), func(tx *vault.Tx) error {
		return tx.Delete(vault.Settings, "signed/"+string(organisation.KindSettings)+"/")
	}); err != nil {
		t.Fatal(err)
	}
	wantError(t, c.link.EnrolPhone(t.Context(), "maya", nil, nil), "has not said where its page is")
}
