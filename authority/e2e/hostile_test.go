//go:build linux

package e2e

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/authority/enrol"
	"sallyport/authority/store"
	"sallyport/internal/event"
	"sallyport/internal/factor/push"
	"sallyport/internal/organisation"
	"sallyport/internal/testkit/phone"
	"sallyport/internal/testkit/sandbox"
)

// taken is an authority that somebody has taken over: they write its database at
// will, beside the server or while it does not run. The organisation key is not on it.
type taken struct {
	*site
	db  store.Store
	key ed25519.PrivateKey // of the organisation, for what an honest owner signs
}

// takeOver makes a site whose organisation key lies elsewhere, and takes its
// authority over.
func takeOver(t *testing.T) *taken {
	t.Helper()
	sandbox.Need(t)
	file := filepath.Join(t.TempDir(), "organisation.key")
	// What a forged answer ended counts as pending there.
	s := newSite(t, allowAtOnce, "--organisation-key", file)
	key, err := enrol.LoadOrganisationKey(file)
	ok(t, err)
	// The settings are signed by init, which had the key.
	db, err := store.Open(t.Context(), store.Options{SQLite: filepath.Join(s.authority.StateDir, "authority.db"), Node: "hostile"})
	ok(t, err)
	t.Cleanup(func() { ok(t, db.Close()) })
	return &taken{s, db, key}
}

func (h *taken) update(change func(tx store.Tx) error) {
	h.t.Helper()
	ok(h.t, h.db.Update(h.t.Context(), change))
}

// plant puts an item into the database as if it had been signed, and has the
// computers told.
func (h *taken) plant(e organisation.Envelope, envelope []byte) {
	h.t.Helper()
	h.update(func(tx store.Tx) error {
		if err := tx.PutItem(store.Item{Kind: e.Kind, Device: e.Device, User: e.User, Version: e.Version, Envelope: envelope}); err != nil {
			return err
		}
		return tx.Notify(store.Notice{Topic: store.TopicSync, Device: e.Device, ID: e.User})
	})
}

// unsigned is an envelope without a signature, signedBy one with somebody's.
func (h *taken) unsigned(e organisation.Envelope) []byte {
	h.t.Helper()
	b, err := json.Marshal(e)
	ok(h.t, err)
	return b
}

func (h *taken) signedBy(key ed25519.PrivateKey, e organisation.Envelope) []byte {
	h.t.Helper()
	b, err := organisation.Sign(key, e)
	ok(h.t, err)
	return b
}

// another is a key that is not the organisation's.
func another(t *testing.T) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	ok(t, err)
	return key
}

// manifest names phones.
func manifest(t *testing.T, version uint64, phones ...*phone.Phone) organisation.Envelope {
	t.Helper()
	m := organisation.Manifest{Approvers: []organisation.Approver{}}
	for _, p := range phones {
		a := p.Key.Approver(p.Name)
		m.Approvers = append(m.Approvers, organisation.Approver{CredentialID: a.CredentialID, PublicKey: a.PublicKey, Phone: a.Phone, Synced: a.Synced})
	}
	b, err := json.Marshal(m)
	ok(t, err)
	return organisation.Envelope{Kind: organisation.KindApprovers, User: maya, Version: version, Payload: b}
}

// own puts a phone into the database as maya's, with a page that is open, good on
// every computer as far as the authority is concerned.
func (h *taken) own(p *phone.Phone) store.Approver {
	h.t.Helper()
	now := time.Now()
	a := store.Approver{ID: push.NewID(), Approver: p.Key.Approver(p.Name), User: maya, Created: now}
	token := sha256.Sum256(p.Token)
	h.update(func(tx store.Tx) error {
		if err := tx.PutApprover(a); err != nil {
			return err
		}
		return tx.PutSession(store.Session{Hash: token[:], Approver: a.ID, Created: now, Seen: now})
	})
	return a
}

// challenge is the one that waits.
func (h *taken) challenge() (c store.Challenge) {
	h.t.Helper()
	eventually(h.t, "a challenge", func() bool {
		var open []store.Challenge
		ok(h.t, h.db.View(h.t.Context(), func(tx store.Tx) (err error) { open, err = tx.OpenChallenges(maya, time.Now()); return err }))
		if len(open) > 0 {
			c = open[len(open)-1]
		}
		return len(open) > 0
	})
	return c
}

// answer writes an answer into the database, past everything that checks it.
func (h *taken) answer(c store.Challenge, a push.Answer) {
	h.t.Helper()
	h.update(func(tx store.Tx) error {
		if err := tx.Answer(c.ID, a, time.Now()); err != nil {
			return err
		}
		return tx.Notify(store.Notice{Topic: store.TopicAnswer, Device: c.Device, ID: c.ID})
	})
}

// swap replaces the bytes of a challenge that waits.
func (h *taken) swap(id string, b []byte) {
	h.t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(h.authority.StateDir, "authority.db"))
	ok(h.t, err)
	r, err := db.Exec(`UPDATE challenges SET bytes = ? WHERE id = ?`, b, id)
	ok(h.t, err)
	if n, err := r.RowsAffected(); err != nil || n != 1 {
		h.t.Fatalf("%d challenges were swapped: %v", n, err)
	}
	ok(h.t, db.Close())
}

// forged wants an answer that waits to be found out, and the login to be open for a
// code only.
func (h *taken) forged(c *computer, l *login, seq uint64) {
	h.t.Helper()
	c.event(seq, event.PushFailed, "push_answer_forged")
	if v, err := l.Verdict(300 * time.Millisecond); err == nil {
		h.t.Fatalf("a forged answer ended the login: %+v", v)
	}
	// Enter, as if it were approved: it is not.
	ok(h.t, l.Type(""))
	asked, err := l.Prompt(patience)
	ok(h.t, err)
	if strings.Contains(asked.Text, "Approved") {
		h.t.Errorf("the person is told %q", asked.Text)
	}
	l.types(c.codes[maya].Next(), true, "code_accepted")
	if n := c.count(event.LoginAttempt, "push_approved"); n != 0 {
		h.t.Errorf("%d logins count as approved", n)
	}
}

// TestAuthorityEnrolsItsOwnPhone: manifests that the organisation did not sign.
func TestAuthorityEnrolsItsOwnPhone(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	h := takeOver(t)
	laptop := h.computer("laptop", pushOften...)
	evil := h.phone("Evil")
	h.own(evil)
	for i, plant := range []func(e organisation.Envelope) []byte{
		h.unsigned,
		func(e organisation.Envelope) []byte { return h.signedBy(another(t), e) },
		func(e organisation.Envelope) []byte { // signed for another version
			signed := e
			signed.Version++
			b := h.signedBy(h.key, signed)
			ok(t, json.Unmarshal(b, &signed))
			e.Signature = signed.Signature
			return h.unsigned(e)
		},
	} {
		seq := laptop.last()
		e := manifest(t, uint64(i+1), evil)
		h.plant(e, plant(e))
		laptop.event(seq, event.SyncRefused, "not signed by the organisation's key")
	}
	if p := laptop.person(maya); len(p.Phones) != 0 || p.PushState != "no_phone" {
		t.Fatalf("the computer knows %+v", p)
	}
	laptop.byCode(maya)

	t.Log("and after restarts of both")
	ok(t, h.authority.Kill())
	ok(t, laptop.Kill())
	h.restart()
	seq := laptop.seqAfterRestart()
	laptop.connected()
	laptop.event(seq, event.SyncRefused, "not signed")
	laptop.byCode(maya)
}

// seqAfterRestart starts the agent again.
func (c *computer) seqAfterRestart() uint64 {
	c.t.Helper()
	c.restart()
	list, err := c.Events(0)
	ok(c.t, err)
	for i := len(list) - 1; i >= 0; i-- {
		if list[i].Name == event.AgentStarted {
			return list[i].Seq
		}
	}
	c.t.Fatal("the agent did not say that it started")
	return 0
}

// TestOlderManifestIsRefused: a phone was removed, and the authority puts back the
// manifest that had it, which is signed right.
func TestOlderManifestIsRefused(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	h := takeOver(t)
	laptop := h.computer("laptop", pushOften...)
	lost := h.phone("Lost")
	h.own(lost)
	seq := laptop.last()
	with := manifest(t, 1, lost)
	h.plant(with, h.signedBy(h.key, with))
	laptop.event(seq, event.SyncApplied, "1 phones may approve")
	laptop.byPhone(lost, maya) // the phone was good once
	seq = laptop.last()
	without := manifest(t, 2)
	h.plant(without, h.signedBy(h.key, without))
	laptop.event(seq, event.SyncApplied, "0 phones may approve")
	laptop.byCode(maya)
	seq = laptop.last()
	// As another version 3, by the number beside it: the one inside is what counts.
	h.update(func(tx store.Tx) error {
		return tx.PutItem(store.Item{Kind: with.Kind, User: maya, Version: 3, Envelope: h.signedBy(h.key, with)})
	})
	h.update(func(tx store.Tx) error { return tx.Notify(store.Notice{Topic: store.TopicSync, ID: maya}) })
	laptop.event(seq, event.SyncRefused, "older than version 2")
	laptop.byCode(maya)
}

// TestUnsignedSeedBypassRecoveryAndPolicyAreRefused, and so are those of another
// key, and those that were signed for another computer.
func TestUnsignedSeedBypassRecoveryAndPolicyAreRefused(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	h := takeOver(t)
	laptop := h.computer("laptop", append([]string{"[policy.required]", `users = ["zoe"]`}, pushOften...)...)
	var device store.Device
	ok(t, h.db.View(t.Context(), func(tx store.Tx) (err error) { device, err = tx.Device(laptop.id); return err }))
	const seed, bypass, recovery = "otpauth://totp/x:maya?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=x", "ABCDEFGHJKMN", "AAAAA-BBBBB"
	sealed := func(kind organisation.Kind, version uint64, content any) organisation.Envelope {
		e := organisation.Envelope{Kind: kind, Device: laptop.id, User: maya, Version: version}
		ok(t, e.Seal(device.SealingKey, content)) // anybody can seal: HPKE does not say who did
		return e
	}
	makers := []func(version uint64) organisation.Envelope{
		func(v uint64) organisation.Envelope {
			return sealed(organisation.KindTOTP, v, organisation.TOTP{URI: seed})
		},
		func(v uint64) organisation.Envelope {
			return sealed(organisation.KindBypass, v, organisation.Bypass{Code: bypass, Expires: time.Now().Add(time.Hour).Unix(), Reason: "evil"})
		},
		func(v uint64) organisation.Envelope {
			return sealed(organisation.KindRecovery, v, organisation.Codes{Codes: []string{recovery}})
		},
		func(v uint64) organisation.Envelope {
			return organisation.Envelope{Kind: organisation.KindPolicy, Version: v, Payload: []byte(`{"exempt":{"users":["maya","zoe"]}}`)}
		},
	}
	for _, make := range makers {
		seq := laptop.last()
		e := make(1)
		h.plant(e, h.unsigned(e))
		laptop.event(seq, event.SyncRefused, "^ "+string(e.Kind)+", version 1: .*not signed")
		seq = laptop.last()
		e = make(2)
		h.plant(e, h.signedBy(another(t), e))
		laptop.event(seq, event.SyncRefused, "^ "+string(e.Kind)+", version 2: .*not signed")
	}
	seq := laptop.last()
	e := makers[1](3)
	e.Device = "AAAAAAAAAAAAAAAAAAAAAAAAAA" // signed right, for another computer
	b := h.signedBy(h.key, e)
	e.Device = laptop.id
	h.plant(e, b)
	laptop.event(seq, event.SyncRefused, "for the device AAAA")

	for _, planted := range []string{bypass, recovery} {
		l := laptop.codeOnly(maya)
		ok(t, l.Type(planted))
		if v, err := l.Verdict(patience); err != nil || v.In {
			t.Errorf("a planted code: %+v, %v", v, err)
		}
	}
	laptop.byCode(maya) // her own seed is the one that counts
	laptop.codeOnly(maya).types(laptop.paper[maya][0], true, "code_accepted")
	if asked := laptop.person(zoe).Asked; !strings.Contains(asked, "required") {
		t.Errorf("zoe is asked because of %q: the floor is gone", asked)
	}
}

// TestAuthorityAnswersWithItsOwnPhone: an assertion that is right in every way, of a
// phone that this computer has not pinned.
func TestAuthorityAnswersWithItsOwnPhone(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	h := takeOver(t)
	laptop := h.computer("laptop", pushOften...)
	laptop.pin(h.phone("Pixel"), maya)
	evil := h.phone("Evil")
	h.own(evil)
	seq := laptop.last()
	l := laptop.rings(maya)
	c := h.challenge()
	// The page's API does not take it; whoever has the database needs no API.
	if status := refused(t, evil.Post(soon(t), c.ID, evil.Key.Answer(c.Bytes, push.Approve, l.Number))); status != 404 {
		t.Errorf("the API said %d", status)
	}
	h.answer(c, evil.Key.Answer(c.Bytes, push.Approve, l.Number)) // it even guessed the number
	h.forged(laptop, l, seq)
}

// TestAuthoritySwapsContext: the phone is shown, and signs, another login than the
// one that waits.
func TestAuthoritySwapsContext(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	h := takeOver(t)
	laptop := h.computer("laptop", pushOften...)
	p := laptop.pin(h.phone("Pixel"), maya)
	seq := laptop.last()
	l := laptop.rings(maya)
	c := h.challenge()
	swapped := c
	swapped.Bytes = []byte(strings.Replace(string(c.Bytes), "192.0.2.7", "10.20.3.4", 1))
	if string(swapped.Bytes) == string(c.Bytes) {
		t.Fatalf("the challenge does not name the address: %s", c.Bytes)
	}
	ok(t, h.authority.Stop())
	h.swap(c.ID, swapped.Bytes)
	h.restart()
	w, err := p.Rings(soon(t))
	ok(t, err)
	if string(w.Challenge) != string(swapped.Bytes) {
		t.Fatalf("the phone shows %s", w.Challenge)
	}
	ok(t, p.Post(soon(t), w.ID, p.Key.Answer(w.Challenge, push.Approve, l.Number))) // taken in
	h.forged(laptop, l, seq)
}

// TestAnswerOfAnotherComputersLogin: maya approves a login at the desk; the
// authority uses that for the laptop's.
func TestAnswerOfAnotherComputersLogin(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	h := takeOver(t)
	laptop, desk := h.computer("laptop", pushOften...), h.computer("desk", pushOften...)
	p := h.phone("Pixel")
	h.own(p)
	with := manifest(t, 1, p)
	s1, s2 := laptop.last(), desk.last()
	h.plant(with, h.signedBy(h.key, with))
	laptop.event(s1, event.SyncApplied, "1 phones may approve")
	desk.event(s2, event.SyncApplied, "1 phones may approve")

	for _, number := range []string{"right", "wrong"} {
		at := desk.rings(maya)
		w, err := p.Rings(soon(t))
		ok(t, err)
		seq := laptop.last()
		attacked := laptop.rings(maya)
		var c store.Challenge
		ok(t, h.db.View(t.Context(), func(tx store.Tx) error {
			open, err := tx.OpenChallenges(maya, time.Now())
			for _, o := range open {
				if o.Device == laptop.id {
					c = o
				}
			}
			return err
		}))
		approved := p.Key.Answer(w.Challenge, push.Approve, map[string]string{"right": at.Number, "wrong": attacked.Number}[number])
		h.answer(c, approved)
		laptop.event(seq, event.PushFailed, "push_answer_forged")
		attacked.types(laptop.codes[maya].Next(), true, "code_accepted")
		at.types(desk.codes[maya].Next(), true, "code_accepted")
	}
	if n := laptop.count(event.LoginAttempt, "push_approved"); n != 0 {
		t.Errorf("%d logins count as approved", n)
	}
}

// TestFlippedByteInAnAnswer: each part of it, altered on the way.
func TestFlippedByteInAnAnswer(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	h := takeOver(t)
	laptop := h.computer("laptop", pushOften...)
	p := laptop.pin(h.phone("Pixel"), maya)
	flip := func(b []byte, at int) []byte {
		b = append([]byte(nil), b...)
		b[at] ^= 1
		return b
	}
	for name, alter := range map[string]func(a *push.Answer){
		"signature":          func(a *push.Answer) { a.Signature = flip(a.Signature, len(a.Signature)-1) },
		"client data":        func(a *push.Answer) { a.ClientData = flip(a.ClientData, 60) },
		"authenticator data": func(a *push.Answer) { a.AuthenticatorData = flip(a.AuthenticatorData, 36) },
		"credential id":      func(a *push.Answer) { a.CredentialID = flip(a.CredentialID, 0) },
		"decision":           func(a *push.Answer) { a.Decision = push.Approve }, // of one who denied
	} {
		t.Log(name)
		seq := laptop.last()
		l := laptop.rings(maya)
		c := h.challenge()
		a := p.Key.Answer(c.Bytes, push.Approve, l.Number)
		if name == "decision" {
			a = p.Key.Answer(c.Bytes, push.Deny, "")
		}
		alter(&a)
		h.answer(c, a)
		laptop.event(seq, event.PushFailed, "push_answer_forged")
		l.types(laptop.codes[maya].Next(), true, "code_accepted")
	}
	if n := laptop.count(event.LoginAttempt, "push_approved"); n != 0 {
		t.Errorf("%d logins count as approved", n)
	}
}

// TestReplayedAnswer: the approval of one login, for the next.
func TestReplayedAnswer(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	h := takeOver(t)
	laptop := h.computer("laptop", pushOften...)
	p := laptop.pin(h.phone("Pixel"), maya)
	l := laptop.rings(maya)
	c := h.challenge()
	approval := p.Key.Answer(c.Bytes, push.Approve, l.Number)
	ok(t, p.Post(soon(t), c.ID, approval))
	l.ends(true, "push_approved")
	seq := laptop.last()
	next := laptop.rings(maya)
	h.answer(h.challenge(), approval)
	laptop.event(seq, event.PushFailed, "push_answer_forged")
	next.types("000000", false, "wrong_code")
	if n := laptop.count(event.LoginAttempt, "push_approved"); n != 1 {
		t.Errorf("%d logins count as approved", n)
	}
}

// TestWrongNumber: blind approval. One number is tried, and that login is over.
func TestWrongNumber(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	s := newSite(t, allowOften)
	laptop := s.computer("laptop", pushOften...)
	p := laptop.pin(s.phone("Pixel"), maya)
	l := laptop.rings(maya)
	other := "10"
	if l.Number == other {
		other = "11"
	}
	w := answers(t, p, push.Approve, other)
	l.ends(false, "wrong_number")
	if err := p.Post(soon(t), w.ID, p.Key.Answer(w.Challenge, push.Approve, l.Number)); refused(t, err) < 400 {
		t.Error("a second number was taken")
	}
}

// TestEnrolmentTokenIsGoodOnce: and not for another computer than it was made for.
func TestEnrolmentTokenIsGoodOnce(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	s := newSite(t, nil)
	token, err := s.authority.Token([]string{maya, zoe})
	ok(t, err)
	ok(t, s.stranger("laptop").Join(s.authority.Devices, token))
	thief := s.stranger("thief")
	if err := thief.Join(s.authority.Devices, token); err == nil || !strings.Contains(err.Error(), "token is not good") {
		t.Errorf("the token was used twice: %v", err)
	}
	s.event(enrol.TokenRefused, "that is used")
	bound, err := s.authority.Token([]string{maya}, "--serial", "5CD1234XYZ")
	ok(t, err)
	if err := thief.Join(s.authority.Devices, bound); err == nil || !strings.Contains(err.Error(), "token is not good") {
		t.Errorf("a token of another computer was taken: %v", err)
	}
	s.event(enrol.TokenRefused, "bound to the serial number 5CD1234XYZ")
	if st := thief.status(); st.Authority.DeviceID != "" {
		t.Errorf("the thief's status says %+v", st.Authority)
	}
	// One whose authority is another, or was exchanged on the way, is worth nothing.
	other := newSite(t, nil)
	fresh, err := s.authority.Token([]string{maya})
	ok(t, err)
	if err := thief.Join(other.authority.Devices, fresh); err == nil {
		t.Error("the thief joined an authority that the token is not of")
	}
	if thief.status().Authority.DeviceID != "" {
		t.Error("it has joined")
	}
	ok(t, thief.Join(s.authority.Devices, fresh)) // the token was told to nobody else
}
