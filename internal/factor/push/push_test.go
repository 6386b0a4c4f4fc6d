package push_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"sallyport/internal/clock"
	"sallyport/internal/factor/push"
	"sallyport/internal/testkit/passkey"
)

var (
	rp    = push.RelyingParty{ID: "approve.example.com", Origin: "https://approve.example.com"}
	rules = push.Rules{RelyingParty: rp, AllowSynced: true}
	noon  = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
)

// at is an instant so long after noon.
func at(d time.Duration) clock.Instant {
	return clock.Instant{Wall: noon.Add(d), Boot: time.Hour + d, BootID: "boot"}
}

// login is a challenge that waits for its answer, and the person's phone.
type login struct {
	*testing.T
	live     *push.Live
	key      *passkey.Key
	pinned   []push.Approver
	counters map[string]uint32
	rules    push.Rules
	now      clock.Instant
}

func newLogin(t *testing.T, change ...func(*push.Challenge)) *login {
	t.Helper()
	c := push.Challenge{Device: "DEVICE", Name: "mars", User: "maya", Service: "sshd", From: "192.0.2.7"}
	for _, fn := range change {
		fn(&c)
	}
	live, err := push.NewChallenge(c, at(0), time.Minute, 2)
	if err != nil {
		t.Fatal(err)
	}
	k := passkey.New(rp)
	return &login{t, live, k, []push.Approver{k.Approver("Pixel")}, nil, rules, at(0)}
}

func (l *login) verify(a push.Answer) push.Verified {
	return l.live.Verify(a, l.pinned, l.counters, l.rules, l.now)
}

// gets checks what an answer is worth.
func (l *login) gets(a push.Answer, want push.Reason) push.Verified {
	l.Helper()
	v := l.verify(a)
	if v.Reason != want || v.OK != (want == push.Approved) {
		l.Errorf("%+v, want %s", v, want)
	}
	if (v.Detail != "") != (want == push.Forged) {
		l.Errorf("the detail is %q", v.Detail)
	}
	return v
}

// approval is the right answer.
func (l *login) approval() push.Answer {
	return l.key.Answer(l.live.Bytes, push.Approve, l.live.Number)
}

// Ids are typed at commands, too.
func TestAnIDIsNoOption(t *testing.T) {
	for range 2000 { // one in 64 would be
		if id := push.NewID(); id[0] == '-' || len(id) != 22 {
			t.Fatal(id)
		}
	}
}

func TestWhatThePersonDecides(t *testing.T) {
	l := newLogin(t)
	if v := l.gets(l.approval(), push.Approved); v.Phone != "Pixel" || v.Counter != 1 {
		t.Errorf("%+v", v)
	}
	l.gets(l.key.Answer(l.live.Bytes, push.Deny, ""), push.Denied)
	l.gets(l.key.Answer(l.live.Bytes, push.Report, ""), push.Reported)
}

func TestEveryKindOfKey(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []*passkey.Key{passkey.NewWith(rp, rsaKey), passkey.NewWith(rp, edKey)} {
		l := newLogin(t)
		l.key, l.pinned = k, []push.Approver{k.Approver("Pixel")}
		l.gets(l.approval(), push.Approved)
		k.AfterSigning = func(a *push.Assertion) { a.Signature[3] ^= 1 }
		l.gets(l.approval(), push.Forged)
	}
}

// What each line of the threats demands of the endpoint.

func TestBlindApprovalIsRefused(t *testing.T) {
	l := newLogin(t)
	l.gets(l.key.Answer(l.live.Bytes, push.Approve, ""), push.WrongNumber)
	for n := range 100 {
		if number := fmt.Sprint(n); number != l.live.Number {
			l.gets(l.key.Answer(l.live.Bytes, push.Approve, number), push.WrongNumber)
		}
	}
	long, err := push.NewChallenge(push.Challenge{}, at(0), time.Minute, push.MaxDigits)
	if err != nil {
		t.Fatal(err)
	}
	for _, number := range []string{"000000", "999999", "100000", "9999", "0"} {
		if long.Number == number {
			continue
		}
		if v := long.Verify(l.key.Answer(long.Bytes, push.Approve, number), l.pinned, nil, rules, at(0)); v.Reason != push.WrongNumber {
			t.Errorf("%s: %+v", number, v)
		}
	}
	// However the person mistyped, it is no forgery.
	for _, number := range []string{"0", "07", "007", "470", "0047", "9999"} {
		l.gets(l.key.Answer(l.live.Bytes, push.Approve, number), push.WrongNumber)
	}
	// What nobody types is.
	for _, number := range []string{"forty-seven", "+47", " 47", "00000000047"} {
		l.gets(l.key.Answer(l.live.Bytes, push.Approve, number), push.Forged)
	}
}

func TestANumberHasAsManyDigitsAsThePolicySays(t *testing.T) {
	for digits := push.MinDigits; digits <= push.MaxDigits; digits++ {
		seen := map[string]bool{}
		for range 200 {
			l, err := push.NewChallenge(push.Challenge{}, at(0), time.Minute, digits)
			if err != nil {
				t.Fatal(err)
			}
			if len(l.Number) != digits || l.Number[0] == '0' || strings.Trim(l.Number, "0123456789") != "" {
				t.Fatalf("%q", l.Number)
			}
			seen[l.Number] = true
		}
		if len(seen) < 50 {
			t.Errorf("200 numbers of %d digits are %d different ones", digits, len(seen))
		}
	}
	for _, digits := range []int{-1, 0, 1, 7} {
		if _, err := push.NewChallenge(push.Challenge{}, at(0), time.Minute, digits); err == nil {
			t.Errorf("%d digits", digits)
		}
	}
}

func TestOneFlippedBitOfTheAnswerIsRefused(t *testing.T) {
	l := newLogin(t)
	good := l.approval()
	flip := func(name string, field func(*push.Answer) *[]byte) {
		for i := range *field(&good) {
			for bit := range 8 {
				a := good
				b := bytes.Clone(*field(&a))
				b[i] ^= 1 << bit
				*field(&a) = b
				if v := l.verify(a); v.OK || v.Reason != push.Forged {
					t.Fatalf("%s, byte %d, bit %d: %+v", name, i, bit, v)
				}
			}
		}
	}
	flip("credential id", func(a *push.Answer) *[]byte { return &a.CredentialID })
	flip("authenticator data", func(a *push.Answer) *[]byte { return &a.AuthenticatorData })
	flip("client data", func(a *push.Answer) *[]byte { return &a.ClientData })
	flip("signature", func(a *push.Answer) *[]byte { return &a.Signature })
	l.gets(good, push.Approved)
}

func TestAnAnswerWithAPartMissingIsRefused(t *testing.T) {
	l := newLogin(t)
	good := l.approval()
	for name, spoil := range map[string]func(*push.Answer){
		"nothing":                  func(a *push.Answer) { *a = push.Answer{} },
		"only the decision":        func(a *push.Answer) { *a = push.Answer{Decision: push.Approve} },
		"no credential id":         func(a *push.Answer) { a.CredentialID = nil },
		"no authenticator data":    func(a *push.Answer) { a.AuthenticatorData = nil },
		"short authenticator data": func(a *push.Answer) { a.AuthenticatorData = a.AuthenticatorData[:36] },
		"no client data":           func(a *push.Answer) { a.ClientData = nil },
		"no signature":             func(a *push.Answer) { a.Signature = nil },
		"long client data":         func(a *push.Answer) { a.ClientData = append(bytes.Clone(a.ClientData), make([]byte, 2048)...) },
		"long authenticator data": func(a *push.Answer) {
			a.AuthenticatorData = append(bytes.Clone(a.AuthenticatorData), make([]byte, 1024)...)
		},
		"long signature":   func(a *push.Answer) { a.Signature = append(bytes.Clone(a.Signature), make([]byte, 1024)...) },
		"another decision": func(a *push.Answer) { a.Decision = push.Deny },
		"no decision":      func(a *push.Answer) { a.Decision = "" },
		"unknown decision": func(a *push.Answer) { a.Decision = "Approve" },
	} {
		a := good
		spoil(&a)
		if v := l.verify(a); v.OK || v.Reason != push.Forged {
			t.Errorf("%s: %+v", name, v)
		}
	}
}

// The relay cannot turn one decision into another.
func TestADenialIsNoApproval(t *testing.T) {
	l := newLogin(t)
	for _, from := range []push.Decision{push.Deny, push.Report, ""} {
		a := l.key.Answer(l.live.Bytes, from, "")
		a.Decision = push.Approve
		l.gets(a, push.Forged)
	}
	a := l.approval()
	a.Decision = push.Report // nor lock a person out
	l.gets(a, push.Forged)
	l.gets(l.key.Answer(l.live.Bytes, push.Deny, l.live.Number), push.Forged)
}

// The authority shows the phone one login and has it sign: what it signs is not
// what waits here.
func TestSwappedContextIsRefused(t *testing.T) {
	l := newLogin(t)
	for name, swap := range map[string]func(*push.Challenge){
		"type":     func(c *push.Challenge) { c.Type = "sallyport.login.v2" },
		"id":       func(c *push.Challenge) { c.ID = push.NewID() },
		"nonce":    func(c *push.Challenge) { c.Nonce = push.NewID() },
		"device":   func(c *push.Challenge) { c.Device = "ANOTHER" },
		"name":     func(c *push.Challenge) { c.Name = "venus" },
		"user":     func(c *push.Challenge) { c.User = "root" },
		"service":  func(c *push.Challenge) { c.Service = "sudo" },
		"from":     func(c *push.Challenge) { c.From = "" },
		"issued":   func(c *push.Challenge) { c.Issued-- },
		"expires":  func(c *push.Challenge) { c.Expires += 60 },
		"nothing!": func(*push.Challenge) {},
	} {
		c := l.live.Challenge
		swap(&c)
		b, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		want := push.Forged
		if name == "nothing!" {
			want = push.Approved
		}
		l.gets(l.key.Answer(b, push.Approve, l.live.Number), want)
	}
	// The same content in other bytes is another challenge.
	l.gets(l.key.Answer(append(bytes.Clone(l.live.Bytes), ' '), push.Approve, l.live.Number), push.Forged)
}

func TestAnotherEndpointsAnswerIsRefused(t *testing.T) {
	here := newLogin(t)
	there := newLogin(t, func(c *push.Challenge) { c.Device = "ANOTHER" })
	there.key = here.key
	here.live.Number, there.live.Number = "47", "47"
	here.gets(there.approval(), push.Forged)
	// Of the very same login, asked for twice.
	twin := newLogin(t)
	twin.key = here.key
	twin.live.Number = "47"
	here.gets(twin.approval(), push.Forged)
	here.gets(here.approval(), push.Approved)
}

func TestALateAnswerIsRefused(t *testing.T) {
	l := newLogin(t)
	a := l.approval()
	l.now = at(time.Minute - 1)
	l.gets(a, push.Approved)
	l.now = at(time.Minute)
	l.gets(a, push.Late)
	// The clock on the wall does not lengthen it, nor does a reboot with the clock
	// set back.
	l.now.Wall = noon.Add(-time.Hour)
	l.gets(a, push.Late)
	l.now = clock.Instant{Wall: noon.Add(-time.Hour), Boot: time.Second, BootID: "another", Highest: noon.Add(time.Minute)}
	l.gets(a, push.Late)
}

func TestOnlyAPinnedPasskeyApproves(t *testing.T) {
	l := newLogin(t)
	stranger := passkey.New(rp)
	l.gets(stranger.Answer(l.live.Bytes, push.Approve, l.live.Number), push.Forged)
	// With the id of the pinned one.
	stranger.ID = l.key.ID
	l.gets(stranger.Answer(l.live.Bytes, push.Approve, l.live.Number), push.Forged)
	l.pinned = nil
	l.gets(l.approval(), push.Forged)
	// An empty id matches no empty one.
	l.key.ID = nil
	l.pinned = []push.Approver{{PublicKey: l.key.PublicKey()}}
	l.gets(l.approval(), push.Forged)
}

func TestSyncedPasskeysCountOnlyWhereTheyAreAllowed(t *testing.T) {
	l := newLogin(t)
	l.key = passkey.NewSynced(rp)
	l.pinned = []push.Approver{l.key.Approver("iPhone")}
	l.gets(l.approval(), push.Approved)
	l.rules.AllowSynced = false
	l.gets(l.approval(), push.Forged)
	// One that was not synced when it was enrolled, and is now.
	for _, flag := range []byte{passkey.BackupEligible, passkey.BackedUp} {
		l = newLogin(t)
		l.key.Flags |= flag
		l.gets(l.approval(), push.Forged)
		if !l.key.Approver("iPhone").Synced {
			t.Error("not pinned as synced")
		}
	}
}

func TestACopyOfThePasskeyIsNoticedByItsCounter(t *testing.T) {
	l := newLogin(t)
	l.counters = map[string]uint32{push.CounterKey(l.key.ID): 7}
	l.key.Counter = 7
	if v := l.gets(l.approval(), push.Approved); v.Counter != 8 {
		t.Errorf("%+v", v)
	}
	for _, counter := range []uint32{6, 5, 0, ^uint32(0)} { // +1: 7, 6, 1, and 0 again
		l.key.Counter = counter
		l.gets(l.approval(), push.Forged)
	}
	// A passkey that has none never had one.
	l.counters, l.key.Counts, l.key.Counter = nil, false, 0
	l.gets(l.approval(), push.Approved)
	l.gets(l.approval(), push.Approved)
	// Somebody else's counter is not compared.
	l.counters = map[string]uint32{push.CounterKey([]byte("another")): 7}
	l.gets(l.approval(), push.Approved)
}

// A hostile service worker cannot call navigator.credentials; what it could do
// without is not taken.
func TestAHostileServiceWorkerCannotSign(t *testing.T) {
	l := newLogin(t)
	for name, flags := range map[string]byte{"nobody there": passkey.UserVerified, "nobody verified": passkey.UserPresent, "neither": 0} {
		l.key.Flags = flags
		if v := l.gets(l.approval(), push.Forged); name == "" {
			t.Error(v)
		}
	}
}

func TestAnotherPageCannotAskThePasskey(t *testing.T) {
	for name, forge := range map[string]func(*passkey.Key){
		"another origin":       func(k *passkey.Key) { k.Origin = "https://evil.example.com" },
		"a longer origin":      func(k *passkey.Key) { k.Origin += ".evil.example.com" },
		"another port":         func(k *passkey.Key) { k.Origin += ":8443" },
		"http":                 func(k *passkey.Key) { k.Origin = "http://approve.example.com" },
		"no origin":            func(k *passkey.Key) { k.Origin = "" },
		"another type":         func(k *passkey.Key) { k.Type = "webauthn.create" },
		"a payment":            func(k *passkey.Key) { k.Type = "payment.get" },
		"in a frame":           func(k *passkey.Key) { k.CrossOrigin = true },
		"in a frame, by name":  func(k *passkey.Key) { k.TopOrigin = "https://evil.example.com" },
		"another rp":           func(k *passkey.Key) { k.RP.ID = "example.com" },
		"no rp":                func(k *passkey.Key) { k.RP.ID = "" },
		"member in other case": replaced(`"origin"`, `"Origin"`),
		"type in other case":   replaced(`"type"`, `"TYPE"`),
		"challenge twice":      replaced(`"challenge":`, `"challenge":"AAAA","challenge":`),
		"type twice":           replaced(`{`, `{"typ\u0065":"webauthn.create",`),
		"origin twice":         replaced(`{`, `{"origin":"https://approve.example.com",`),
		"not UTF-8":            replaced(`{`, "{\"x\":\"\xff\","),
		"two objects":          replaced(`}`, `}{}`),
		"an array":             replaced(`{"type"`, `[{"type"`),
		"a number for origin":  replaced(`"https://approve.example.com"`, `7`),
		"crossOrigin null":     replaced(`false`, `null`),
		"crossOrigin a word":   replaced(`false`, `"false"`),
		"topOrigin null":       replaced(`false`, `false,"topOrigin":null`),
		"a line break in it":   replaced(`"challenge":"`, `"challenge":"\n`),
		"padded base64":        replaced(`","origin"`, `=","origin"`),
		"half a challenge": func(k *passkey.Key) {
			k.BeforeSigning = func(a *push.Assertion) {
				a.ClientData = bytes.Replace(a.ClientData, challengeOf(a), challengeOf(a)[:22], 1)
			}
		},
	} {
		l := newLogin(t)
		forge(l.key)
		if v := l.verify(l.approval()); v.OK || v.Reason != push.Forged || len(v.Detail) > 400 {
			t.Errorf("%s: %+v", name, v)
		}
	}
	// What the standard lets a browser add is no reason to refuse.
	l := newLogin(t)
	replaced(`false`, `false,"other_keys_can_be_added_here":{"origin":["x"]}`)(l.key)
	l.gets(l.approval(), push.Approved)
	replaced(`,"crossOrigin":false`, ``)(l.key) // older ones leave it out
	l.gets(l.approval(), push.Approved)
	// No relying party takes nothing.
	l.rules.RelyingParty = push.RelyingParty{}
	l.key.RP, l.key.Origin, l.key.BeforeSigning = push.RelyingParty{}, "", nil
	l.gets(l.approval(), push.Forged)
}

func replaced(old, with string) func(*passkey.Key) {
	return func(k *passkey.Key) {
		k.BeforeSigning = func(a *push.Assertion) { a.ClientData = bytes.Replace(a.ClientData, []byte(old), []byte(with), 1) }
	}
}

func challengeOf(a *push.Assertion) []byte {
	var c struct{ Challenge string }
	_ = json.Unmarshal(a.ClientData, &c)
	return []byte(c.Challenge)
}

// A base64 text whose spare bits are set says the same to a lax decoder.
func TestTheChallengeHasOneSpelling(t *testing.T) {
	l := newLogin(t)
	l.key.BeforeSigning = func(a *push.Assertion) {
		was := challengeOf(a)
		now := bytes.Clone(was)
		const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
		now[42] = alphabet[strings.IndexByte(alphabet, now[42])|1]
		a.ClientData = bytes.Replace(a.ClientData, was, now, 1)
	}
	l.gets(l.approval(), push.Forged)
}

// A signature for one purpose is none for another.
func TestASignatureForAnotherPurposeIsRefused(t *testing.T) {
	l := newLogin(t)
	nonce := bytes.Repeat([]byte{7}, 32)
	session := l.key.Assert(push.SessionDigest(nonce))
	l.gets(push.Answer{Decision: push.Approve, Assertion: session}, push.Forged)
	if _, err := push.VerifyAssertion(session, l.pinned[0], rp, push.SessionDigest(nonce)); err != nil {
		t.Error(err)
	}
	if _, err := push.VerifyAssertion(l.approval().Assertion, l.pinned[0], rp, push.SessionDigest(nonce)); err == nil {
		t.Error("an approval opens the page")
	}
	if push.SessionDigest(l.live.Bytes) == push.Digest(l.live.Bytes, "", "") {
		t.Error("the domains do not keep them apart")
	}
}

// TestTheDigestIsStable: the page computes it too, in another language.
func TestTheDigestIsStable(t *testing.T) {
	d := push.Digest([]byte(`{"type":"sallyport.login.v1"}`), push.Approve, "47")
	inner := sha256.Sum256([]byte(`{"type":"sallyport.login.v1"}`))
	want := sha256.Sum256([]byte("sallyport.push.login.v1\x00" + string(inner[:]) + "approve\x0047"))
	if d != want || hex.EncodeToString(d[:4]) != "ff788a97" {
		t.Errorf("%x", d)
	}
}

func TestAChallengeIsReadInOneWayOnly(t *testing.T) {
	l := newLogin(t, func(c *push.Challenge) { c.Name = "<mars> & \u00fc" })
	if c, err := push.ParseChallenge(l.live.Bytes); err != nil || c != l.live.Challenge {
		t.Fatalf("%+v, %v", c, err)
	}
	if !bytes.Contains(l.live.Bytes, []byte("<mars> & \u00fc")) {
		t.Errorf("%s", l.live.Bytes)
	}
	text := string(l.live.Bytes)
	for name, b := range map[string]string{
		"nothing":        "",
		"null":           "null",
		"another type":   strings.Replace(text, "sallyport.login.v1", "sallyport.login.v2", 1),
		"user twice":     strings.Replace(text, `"user":`, `"user":"root","user":`, 1),
		"other case":     strings.Replace(text, `"user":`, `"User":`, 1),
		"a member more":  strings.Replace(text, `{`, `{"note":"",`, 1),
		"a member less":  strings.Replace(text, `"service":"sshd",`, ``, 1),
		"a space":        text + " ",
		"escaped":        strings.Replace(text, "maya", `may\u0061`, 1),
		"not UTF-8":      strings.Replace(text, "maya", "may\xff", 1),
		"short id":       strings.Replace(text, l.live.Challenge.ID, l.live.Challenge.ID[:20], 1),
		"no nonce":       strings.Replace(text, l.live.Challenge.Nonce, "", 1),
		"expired before": strings.Replace(text, fmt.Sprintf(`"expires":%d`, l.live.Challenge.Expires), `"expires":1`, 1),
		"too long":       strings.Replace(text, "maya", strings.Repeat("maya", 600), 1),
	} {
		if c, err := push.ParseChallenge([]byte(b)); err == nil || c != (push.Challenge{}) {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
	if _, err := push.NewChallenge(push.Challenge{User: strings.Repeat("x", push.MaxChallenge)}, at(0), time.Minute, 2); err == nil {
		t.Error("a challenge over its bound")
	}
}

func TestChallengesAreNeverTheSame(t *testing.T) {
	ids, nonces := map[string]bool{}, map[string]bool{}
	for range 1000 {
		c := newLogin(t).live.Challenge
		ids[c.ID], nonces[c.Nonce] = true, true
	}
	if len(ids) != 1000 || len(nonces) != 1000 {
		t.Errorf("%d ids, %d nonces", len(ids), len(nonces))
	}
}

func TestARegistrationIsCheckedBeforeItIsPinned(t *testing.T) {
	k := passkey.New(rp)
	good := k.Registration("Pixel")
	a, err := good.Approver(rp)
	if err != nil || a.Phone != "Pixel" || a.Synced || !bytes.Equal(a.CredentialID, k.ID) {
		t.Fatalf("%+v, %v", a, err)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	weak, err := x509.MarshalPKIXPublicKey(&p224.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*push.Registration){
		"no id":              func(r *push.Registration) { r.CredentialID = nil },
		"another id":         func(r *push.Registration) { r.CredentialID = bytes.Repeat([]byte{1}, 32) },
		"a part of the id":   func(r *push.Registration) { r.CredentialID = r.CredentialID[:16] },
		"a long id":          func(r *push.Registration) { r.CredentialID = make([]byte, push.MaxCredentialID+1) },
		"no key":             func(r *push.Registration) { r.PublicKey = nil },
		"a weak key":         func(r *push.Registration) { r.PublicKey = weak },
		"a long key":         func(r *push.Registration) { r.PublicKey = make([]byte, 1025) },
		"no data":            func(r *push.Registration) { r.AuthenticatorData = nil },
		"data cut off":       func(r *push.Registration) { r.AuthenticatorData = r.AuthenticatorData[:54] },
		"data of a login":    func(r *push.Registration) { r.AuthenticatorData = k.Assert([32]byte{}).AuthenticatorData },
		"another rp":         func(r *push.Registration) { r.AuthenticatorData[0] ^= 1 },
		"nobody verified":    func(r *push.Registration) { r.AuthenticatorData[32] &^= passkey.UserVerified },
		"nobody there":       func(r *push.Registration) { r.AuthenticatorData[32] &^= passkey.UserPresent },
		"no credential data": func(r *push.Registration) { r.AuthenticatorData[32] &^= passkey.Attested },
		"another length":     func(r *push.Registration) { binary.BigEndian.PutUint16(r.AuthenticatorData[53:], 31) },
	} {
		r := k.Registration("Pixel")
		spoil(&r)
		if a, err := r.Approver(rp); err == nil {
			t.Errorf("%s: %+v", name, a)
		}
	}
	for given, want := range map[string]string{"": "phone", "Pixel\x1b[2J\nof maya": "Pixel?[2J?of maya", strings.Repeat("x", 100): strings.Repeat("x", 64), "Ger\u00e4t": "Ger?t"} {
		good.Phone = given
		if a, err := good.Approver(rp); err != nil || a.Phone != want {
			t.Errorf("%q is shown as %q, %v", given, a.Phone, err)
		}
	}
}

// The authority does not have the secret of the QR code: it cannot enrol a phone
// of its own.
func TestAuthorityEnrolsItsOwnPhone(t *testing.T) {
	secret := bytes.Repeat([]byte{1}, 32)
	r := passkey.New(rp).Registration("Pixel")
	good := push.EnrolmentMAC(secret, "id", "device", "maya", r)
	if len(good) != 32 || !bytes.Equal(good, push.EnrolmentMAC(secret, "id", "device", "maya", r)) {
		t.Fatal("the MAC is not one")
	}
	other := passkey.New(rp).Registration("Pixel")
	for name, mac := range map[string][]byte{
		"another secret":    push.EnrolmentMAC(bytes.Repeat([]byte{2}, 32), "id", "device", "maya", r),
		"no secret":         push.EnrolmentMAC(nil, "id", "device", "maya", r),
		"another enrolment": push.EnrolmentMAC(secret, "ie", "device", "maya", r),
		"another device":    push.EnrolmentMAC(secret, "id", "devicf", "maya", r),
		"another user":      push.EnrolmentMAC(secret, "id", "device", "mayb", r),
		"moved boundaries":  push.EnrolmentMAC(secret, "idd", "evice", "maya", r),
		"another id":        push.EnrolmentMAC(secret, "id", "device", "maya", push.Registration{CredentialID: other.CredentialID, PublicKey: r.PublicKey, AuthenticatorData: r.AuthenticatorData}),
		"another key":       push.EnrolmentMAC(secret, "id", "device", "maya", push.Registration{CredentialID: r.CredentialID, PublicKey: other.PublicKey, AuthenticatorData: r.AuthenticatorData}),
		"another data":      push.EnrolmentMAC(secret, "id", "device", "maya", push.Registration{CredentialID: r.CredentialID, PublicKey: r.PublicKey, AuthenticatorData: other.AuthenticatorData}),
	} {
		if bytes.Equal(mac, good) {
			t.Errorf("%s: the same MAC", name)
		}
	}
}

func FuzzVerify(f *testing.F) {
	live, err := push.NewChallenge(push.Challenge{User: "maya"}, at(0), time.Minute, 2)
	if err != nil {
		f.Fatal(err)
	}
	k := passkey.New(rp)
	pinned := []push.Approver{k.Approver("Pixel")}
	good := k.Answer(live.Bytes, push.Approve, live.Number)
	f.Add("approve", good.AuthenticatorData, good.ClientData, good.Signature)
	f.Add("deny", good.AuthenticatorData[:37], []byte(`{"type":"webauthn.get","challenge":"","origin":"https://approve.example.com"}`), []byte{0x30, 6, 2, 1, 1, 2, 1, 1})
	f.Fuzz(func(t *testing.T, decision string, auth, client, signature []byte) {
		a := push.Answer{Decision: push.Decision(decision), Assertion: push.Assertion{CredentialID: k.ID, AuthenticatorData: auth, ClientData: client, Signature: signature}}
		v := live.Verify(a, pinned, nil, rules, at(0))
		same := decision == string(push.Approve) && bytes.Equal(auth, good.AuthenticatorData) && bytes.Equal(client, good.ClientData)
		if v.OK && !same {
			t.Errorf("approved: %q %x %s %x", decision, auth, client, signature)
		}
		// Signed by the page itself, so that what is parsed behind the signature is
		// reached: only the right content counts.
		k.BeforeSigning = func(a *push.Assertion) { a.AuthenticatorData, a.ClientData = auth, client }
		signed := push.Answer{Decision: push.Decision(decision), Assertion: k.Assert([32]byte{})}
		v = live.Verify(signed, pinned, nil, rules, at(0))
		digest := push.Digest(live.Bytes, push.Approve, live.Number)
		if v.OK && (decision != "approve" || !bytes.Contains(client, []byte(base64.RawURLEncoding.EncodeToString(digest[:]))) && !bytes.Contains(client, []byte(`\u`))) {
			t.Errorf("approved: %q %x %s", decision, auth, client)
		}
	})
}

func FuzzRegistration(f *testing.F) {
	r := passkey.New(rp).Registration("Pixel")
	f.Add(r.CredentialID, r.PublicKey, r.AuthenticatorData, r.Phone)
	f.Add([]byte{1}, r.PublicKey, r.AuthenticatorData[:55], "\x1b")
	f.Fuzz(func(t *testing.T, id, key, data []byte, phone string) {
		a, err := push.Registration{CredentialID: id, PublicKey: key, AuthenticatorData: data, Phone: phone}.Approver(rp)
		if err != nil {
			return
		}
		if len(a.CredentialID) == 0 || len(a.CredentialID) > push.MaxCredentialID || a.Phone == "" || len(a.Phone) > 64 || strings.ContainsFunc(a.Phone, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("%+v", a)
		}
	})
}

func FuzzParseChallenge(f *testing.F) {
	live, err := push.NewChallenge(push.Challenge{Device: "D", Name: "mars", User: "maya", Service: "sshd", From: "192.0.2.7"}, at(0), time.Minute, 2)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(live.Bytes)
	f.Add([]byte(`{"type":"sallyport.login.v1","id":"AAAAAAAAAAAAAAAAAAAAAA"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := push.ParseChallenge(b)
		if err != nil {
			return
		}
		// Whoever reads it, in whatever way, reads the same.
		var loose map[string]any
		if err := json.Unmarshal(b, &loose); err != nil || len(loose) != 10 || loose["user"] != c.User || loose["service"] != c.Service || loose["from"] != c.From || loose["device"] != c.Device {
			t.Errorf("%s: %+v, %v", b, c, err)
		}
	})
}
