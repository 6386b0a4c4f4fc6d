package link

import (
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"

	"sallyport/agent/store"
	"sallyport/internal/event"
	"sallyport/internal/factor"
	"sallyport/internal/factor/totp"
	"sallyport/internal/identity"
	"sallyport/internal/organisation"
	"sallyport/internal/secret"
	"sallyport/internal/vault"
	authorityv1 "sallyport/proto/sallyport/authority/v1"
)

func (c *computer) account(name string) (a *factor.Account) {
	c.t.Helper()
	key := string(identity.UID(c.link.o.Names.(names)[name]))
	if err := c.store.View(func(tx *vault.Tx) (err error) { a, err = store.Account(tx, key); return err }); err != nil {
		c.t.Fatal(err)
	}
	return a
}

// change changes a record as the helpdesk would.
func (c *computer) change(name string, fn func(a *factor.Account, tx *vault.Tx)) {
	c.t.Helper()
	key := string(identity.UID(c.link.o.Names.(names)[name]))
	if err := c.store.Update(c.t.Context(), func(tx *vault.Tx) error {
		a, err := store.Account(tx, key)
		if err != nil {
			return err
		}
		if a == nil {
			a = &factor.Account{Key: key, Name: name}
		}
		fn(a, tx)
		return store.Put(tx, a)
	}); err != nil {
		c.t.Fatal(err)
	}
}

// try is what an answer at the prompt is worth.
func (c *computer) try(name, answer string) (o factor.Outcome) {
	c.t.Helper()
	c.change(name, func(a *factor.Account, tx *vault.Tx) {
		key, err := store.CodeKey(tx)
		if err != nil {
			c.t.Error(err)
		}
		o = factor.Check(a, secret.New(answer), tx.Now(), key)
	})
	return o
}

func (c *computer) sealingKey() []byte {
	c.t.Helper()
	k, err := ecdh.X25519().NewPrivateKey(c.authorityKept().SealingKey)
	if err != nil {
		c.t.Fatal(err)
	}
	return k.PublicKey().Bytes()
}

func code(t *testing.T, s *totp.State, at time.Time) string {
	t.Helper()
	text, err := hotp.GenerateCodeCustom(s.SeedText(), uint64(at.Unix()/30), hotp.ValidateOpts{Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func wantRefused(t *testing.T, r *authorityv1.SyncApplied, says string) {
	t.Helper()
	if !strings.Contains(r.GetRefused(), says) || says == "" {
		t.Fatalf("SyncApplied is %v; it should be refused with %q", r, says)
	}
}

func wantApplied(t *testing.T, r *authorityv1.SyncApplied) {
	t.Helper()
	if r.GetRefused() != "" {
		t.Fatalf("refused: %s", r.GetRefused())
	}
}

func manifest(phones ...string) organisation.Manifest {
	m := organisation.Manifest{Approvers: []organisation.Approver{}}
	for i, name := range phones {
		m.Approvers = append(m.Approvers, organisation.Approver{CredentialID: fmt.Appendf(nil, "credential %d", i), PublicKey: phone.PublicKey(), Phone: name})
	}
	return m
}

func TestAManifestIsPutInForce(t *testing.T) {
	c, a, d := connected(t)
	second := a.sign(organisation.Envelope{Kind: organisation.KindApprovers, User: "maya", Version: 2}, manifest("Maya's phone", "tablet"))
	r := d.sync(second)
	wantApplied(t, r)
	if r.GetKind() != "approvers" || r.GetUser() != "maya" || r.GetVersion() != 2 {
		t.Errorf("SyncApplied is %v", r)
	}
	i := c.signed(organisation.KindApprovers, "maya")
	if i.Version != 2 || len(i.Approvers) != 2 || i.Approvers[0].Phone != "Maya's phone" {
		t.Fatalf("in force: %+v", i)
	}
	if e := c.event(event.SyncApplied, "approvers, version 2: 2 phones may approve"); e.User != "maya" {
		t.Errorf("the event is %+v", e)
	}

	t.Log("the same again is fine, and silent")
	wantApplied(t, d.sync(second))
	if n := c.countEvents(event.SyncApplied); n != 1 {
		t.Errorf("%d events", n)
	}
	t.Log("an older one is refused: it may have a phone that was taken away")
	wantRefused(t, d.sync(a.sign(organisation.Envelope{Kind: organisation.KindApprovers, User: "maya", Version: 1}, manifest("stolen"))), "older than version 2")
	wantRefused(t, d.sync(a.sign(organisation.Envelope{Kind: organisation.KindApprovers, User: "maya", Version: 2}, manifest("other"))), "another item of version 2")
	wantRefused(t, d.sync(a.sign(organisation.Envelope{Kind: organisation.KindApprovers, User: "maya"}, manifest("none"))), "no version")
	c.event(event.SyncRefused, "approvers, version 1: it is older")
	if i := c.signed(organisation.KindApprovers, "maya"); len(i.Approvers) != 2 || i.Approvers[1].Phone != "tablet" {
		t.Errorf("in force: %+v", i)
	}
	t.Log("an empty list takes push away; another user has a list of their own")
	wantApplied(t, d.sync(a.sign(organisation.Envelope{Kind: organisation.KindApprovers, User: "otto", Version: 1}, manifest("Otto's"))))
	wantApplied(t, d.sync(a.sign(organisation.Envelope{Kind: organisation.KindApprovers, User: "maya", Version: 3}, manifest())))
	if len(c.signed(organisation.KindApprovers, "maya").Approvers) != 0 || len(c.signed(organisation.KindApprovers, "otto").Approvers) != 1 {
		t.Error("the lists are wrong")
	}
	t.Log("after a reconnection the authority knows what is there, and still nothing older is taken")
	d.end()
	d = a.stream()
	have := map[string]uint64{}
	for _, h := range d.hello.GetHave() {
		have[h.GetKind()+"/"+h.GetUser()] = h.GetVersion()
	}
	if have["approvers/maya"] != 3 || have["approvers/otto"] != 1 || have["settings/"] != 1 || len(have) != 3 {
		t.Errorf("Hello has %v", have)
	}
	wantRefused(t, d.sync(second), "older than version 3")
}

// TestAnAuthorityPlantsNothing: without the organisation key it gets no phone, no
// seed, no bypass, no weaker policy and no other page onto a computer.
func TestAnAuthorityPlantsNothing(t *testing.T) {
	c, a, d := connected(t)
	_, own, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	seed, err := totp.New("", 0)
	if err != nil {
		t.Fatal(err)
	}
	items := map[organisation.Kind]any{
		organisation.KindApprovers: manifest("the attacker's"),
		organisation.KindTOTP:      organisation.TOTP{URI: seed.URI("x", "maya")},
		organisation.KindRecovery:  organisation.Codes{Codes: []string{"ABCDE-FGHJK"}},
		organisation.KindBypass:    organisation.Bypass{Code: "1234-5678-9012", Expires: epoch.Add(time.Hour).Unix(), Reason: "attack"},
		organisation.KindUnlock:    action(0, time.Hour),
		organisation.KindPushClear: action(0, time.Hour),
		organisation.KindPolicy:    map[string]any{"ask": "enrolled", "exempt": map[string]any{"users": []string{"maya"}}},
		organisation.KindSettings:  organisation.Settings{Name: "Evil", RPID: "evil.example", Origin: "https://evil.example", API: "https://evil.example"},
	}
	for kind, content := range items {
		e := organisation.Envelope{Kind: kind, Version: 9, Device: deviceID}
		if kinds[kind].user {
			e.User = "maya"
		}
		if _, plain := content.(organisation.Action); kinds[kind].device && !plain {
			if err := e.Seal(c.sealingKey(), content); err != nil {
				t.Fatal(err)
			}
		} else if e.Payload, err = json.Marshal(content); err != nil {
			t.Fatal(err)
		}
		unsigned, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		other, err := organisation.Sign(own, e)
		if err != nil {
			t.Fatal(err)
		}
		foreign := e
		foreign.Device = strings.Repeat("Z", 26)
		changed := new(organisation.Envelope)
		if err := json.Unmarshal(a.sign(e, nil), changed); err != nil {
			t.Fatal(err)
		}
		changed.User = "otto"
		swapped, _ := json.Marshal(changed)
		for name, b := range map[string][]byte{"unsigned": unsigned, "signed by another key": other, "another user's": swapped, "for another device": a.sign(foreign, nil)} {
			says := "not signed by the organisation"
			if name == "for another device" {
				says = "for the device ZZZ"
			}
			t.Logf("%s, %s", kind, name)
			wantRefused(t, d.sync(b), says)
		}
	}
	if c.account("maya") != nil || c.account("otto") != nil {
		t.Error("there is a record")
	}
	for kind := range items {
		if i := c.signed(kind, "maya"); i.Version != 0 {
			t.Errorf("%s is in force", kind)
		}
	}
	if i := c.signed(organisation.KindSettings, ""); i.Version != 1 || i.Settings.RPID != goodSettings.RPID {
		t.Errorf("the settings are %+v", i)
	}
	if c.countEvents(event.SyncRefused) == 0 || c.countEvents(event.SyncApplied) != 0 {
		t.Errorf("events: %+v", c.events())
	}
}

func TestWhatIsMalformedIsRefused(t *testing.T) {
	c, a, d := connected(t)
	sign := func(kind organisation.Kind, user string, payload any) []byte {
		return a.sign(organisation.Envelope{Kind: kind, User: user, Version: 5}, payload)
	}
	raw := func(kind organisation.Kind, user, payload string) []byte {
		return a.sign(organisation.Envelope{Kind: kind, User: user, Version: 5, Payload: []byte(payload)}, nil)
	}
	sealed := func(kind organisation.Kind, user string, content any) []byte {
		return a.seal(c.sealingKey(), organisation.Envelope{Kind: kind, Device: deviceID, User: user, Version: 5}, content)
	}
	weak := manifest("weak")
	weak.Approvers[0].PublicKey = []byte("no key")
	twice := manifest("one", "two")
	twice.Approvers[1].CredentialID = twice.Approvers[0].CredentialID
	set := func(rp, origin, api string) []byte {
		return sign(organisation.KindSettings, "", organisation.Settings{Name: "x", RPID: rp, Origin: origin, API: api})
	}
	other, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, x := range map[string]struct {
		envelope []byte
		says     string
	}{
		"nothing":              {nil, "malformed"},
		"no JSON":              {[]byte("hello"), "malformed"},
		"too long":             {[]byte(`{"kind":"` + strings.Repeat("x", organisation.MaxEnvelope) + `"}`), "over 65536 bytes"},
		"unknown kind":         {sign("root-shell", "maya", "x"), "knows no such kind"},
		"no kind":              {sign("", "", "x"), "knows no such kind"},
		"no user":              {sign(organisation.KindApprovers, "", manifest("x")), "user's name"},
		"a user too long":      {sign(organisation.KindApprovers, strings.Repeat("m", 321), manifest("x")), "user's name"},
		"a user with a NUL":    {sign(organisation.KindApprovers, "maya\x00root", manifest("x")), "user's name"},
		"a user in settings":   {sign(organisation.KindSettings, "maya", goodSettings), "about no user"},
		"a user in the policy": {sign(organisation.KindPolicy, "maya", map[string]string{"ask": "required"}), "about no user"},
		"17 phones":            {sign(organisation.KindApprovers, "maya", manifest(make([]string, 17)...)), "at most 16"},
		"a weak key":           {sign(organisation.KindApprovers, "maya", weak), `the phone "weak": the public key`},
		"a key twice":          {sign(organisation.KindApprovers, "maya", twice), "twice"},
		"an unknown field":     {raw(organisation.KindApprovers, "maya", `{"approvers":[],"revoke":true}`), "malformed"},
		"more behind it":       {raw(organisation.KindApprovers, "maya", `{"approvers":[]} {"approvers":[]}`), "more behind it"},
		"a policy of nothing":  {raw(organisation.KindPolicy, "", `{}`), "policy.ask"},
		"a policy of patterns": {raw(organisation.KindPolicy, "", `{"ask":"required","exempt":{"users":["*"]}}`), "asterisk"},
		"an unknown rule":      {raw(organisation.KindPolicy, "", `{"ask":"required","allow":{"users":["maya"]}}`), "malformed"},
		"http":                 {set("example.com", "http://approve.example.com", "https://a.example.com"), "neither https nor localhost"},
		"an API by http":       {set("example.com", "https://approve.example.com", "http://a.example.com"), "neither https nor localhost"},
		"no API":               {set("example.com", "https://approve.example.com", ""), "malformed"},
		"a path":               {set("example.com", "https://approve.example.com/x", "https://a.example.com"), "malformed"},
		"a user in the origin": {set("example.com", "https://a@approve.example.com", "https://a.example.com"), "malformed"},
		"another site's page":  {set("example.com", "https://example.com.evil.net", "https://a.example.com"), "not of the relying party"},
		"a look-alike":         {set("example.com", "https://evilexample.com", "https://a.example.com"), "not of the relying party"},
		"an address":           {set("127.0.0.1", "https://127.0.0.1", "https://a.example.com"), "not a host name"},
		"upper case":           {set("Example.com", "https://example.com", "https://a.example.com"), "not a host name"},
		"a seed for every device": {a.seal(c.sealingKey(), organisation.Envelope{Kind: organisation.KindTOTP, User: "maya", Version: 5}, organisation.TOTP{}),
			"for one device, and names none"},
		"a seed sealed to another": {a.seal(other.PublicKey().Bytes(), organisation.Envelope{Kind: organisation.KindTOTP, Device: deviceID, User: "maya", Version: 5}, organisation.TOTP{}),
			"does not open"},
		"a seed that is not sealed": {a.sign(organisation.Envelope{Kind: organisation.KindTOTP, Device: deviceID, User: "maya", Version: 5}, organisation.TOTP{}), "does not open"},
		"no URI":                    {sealed(organisation.KindTOTP, "maya", organisation.TOTP{URI: "https://example.com"}), "not an otpauth"},
		"a stranger's seed":         {sealed(organisation.KindTOTP, "stranger", organisation.TOTP{URI: "x"}), "knows no such user"},
		"a directory that is off":   {sealed(organisation.KindTOTP, "hangs", organisation.TOTP{URI: "x"}), "cannot be looked up"},
		"no codes":                  {sealed(organisation.KindRecovery, "maya", organisation.Codes{}), "recovery codes"},
		"short codes":               {sealed(organisation.KindRecovery, "maya", organisation.Codes{Codes: []string{"123456"}}), "not 10 letters"},
		"21 codes":                  {sealed(organisation.KindRecovery, "maya", organisation.Codes{Codes: make([]string, 21)}), "21 recovery codes"},
		"an old bypass":             {sealed(organisation.KindBypass, "maya", organisation.Bypass{Code: "1234-5678-9012", Expires: epoch.Unix() - 1, Reason: "x"}), "expired"},
		"a bypass for a month":      {sealed(organisation.KindBypass, "maya", organisation.Bypass{Code: "1234-5678-9012", Expires: epoch.AddDate(0, 1, 0).Unix(), Reason: "x"}), "at most"},
		"a short bypass":            {sealed(organisation.KindBypass, "maya", organisation.Bypass{Code: "123456", Expires: epoch.Unix() + 60, Reason: "x"}), "12 digits"},
		"a bypass for no reason":    {sealed(organisation.KindBypass, "maya", organisation.Bypass{Code: "1234-5678-9012", Expires: epoch.Unix() + 60}), "reason"},
		"a reason of two lines":     {sealed(organisation.KindBypass, "maya", organisation.Bypass{Code: "1234-5678-9012", Expires: epoch.Unix() + 60, Reason: "a\nb"}), "reason"},
		"a field beside the code":   {sealed(organisation.KindBypass, "maya", map[string]any{"code": "1234-5678-9012", "expires": epoch.Unix() + 60, "reason": "x", "forever": true}), "malformed"},
	} {
		t.Log(name)
		wantRefused(t, d.sync(x.envelope), x.says)
	}
	if c.account("maya") != nil || c.countEvents(event.SyncApplied) != 0 {
		t.Error("something was applied")
	}
	if n := c.countEvents(event.SyncRefused); n > maxRefusals {
		t.Errorf("%d events: the file can be filled with them", n)
	}
	for _, leak := range []string{"1234-5678-9012", "123456789012"} {
		if strings.Contains(c.log.String()+fmt.Sprint(c.events()), leak) {
			t.Error("a code leaked")
		}
	}
}

// TestWhatRootDoesNotAcceptIsRefused: authority.accept.
func TestWhatRootDoesNotAcceptIsRefused(t *testing.T) {
	c, a, d := connected(t)
	c.mu.Lock()
	c.config.Authority.Accept = []string{"policy"}
	c.mu.Unlock()
	m := a.sign(organisation.Envelope{Kind: organisation.KindApprovers, User: "maya", Version: 1}, manifest("x"))
	wantRefused(t, d.sync(m), "authority.accept")
	wantRefused(t, d.sync(m), "authority.accept")
	wantApplied(t, d.sync(a.sign(organisation.Envelope{Kind: organisation.KindPolicy, Version: 1}, map[string]string{"ask": "required"})))
	if i := c.signed(organisation.KindPolicy, ""); string(i.Policy) != `{"ask":"required"}` {
		t.Errorf("the policy is %s", i.Policy)
	}
	t.Log("where the page is, is always taken")
	moved := goodSettings
	moved.API = "https://other.example.com"
	wantApplied(t, d.sync(a.sign(organisation.Envelope{Kind: organisation.KindSettings, Version: 2}, moved)))
	if n := c.countEvents(event.SyncRefused); n != 1 {
		t.Errorf("%d events; the same item is reported once", n)
	}
}

func TestASeedComesSealed(t *testing.T) {
	c, a, d := connected(t)
	first, err := totp.New("", 0)
	if err != nil {
		t.Fatal(err)
	}
	seal := func(version uint64, s *totp.State) []byte {
		return a.seal(c.sealingKey(), organisation.Envelope{Kind: organisation.KindTOTP, Device: deviceID, User: "maya", Version: version}, organisation.TOTP{URI: s.URI("Example", "maya")})
	}
	one := seal(1, first)
	wantApplied(t, d.sync(one))
	if e := c.event(event.UserEnrolled, ""); e.User != "maya" || e.Key != "uid:1000" || e.By != "authority" {
		t.Errorf("the event is %+v", e)
	}
	if o := c.try("maya", code(t, first, epoch)); !o.OK {
		t.Fatalf("the code is not taken: %+v", o)
	}
	t.Log("the same secret, sent again or signed anew, gives the used code no second life")
	wantApplied(t, d.sync(one))
	wantApplied(t, d.sync(seal(2, first)))
	if o := c.try("maya", code(t, first, epoch)); o.OK || o.Reason != factor.AlreadyUsed {
		t.Errorf("the used code: %+v", o)
	}
	t.Log("a new one replaces what came this way")
	second, err := totp.New("", 0)
	if err != nil {
		t.Fatal(err)
	}
	wantApplied(t, d.sync(seal(3, second)))
	if o := c.try("maya", code(t, second, epoch)); !o.OK {
		t.Errorf("the new code: %+v", o)
	}
	t.Log("and never what root enrolled here")
	here, err := totp.New("", 0)
	if err != nil {
		t.Fatal(err)
	}
	c.change("maya", func(a *factor.Account, tx *vault.Tx) { a.SetSecret(here, tx.Now()) })
	wantRefused(t, d.sync(seal(4, first)), "enrolled at this computer")
	c.event(event.SyncRefused, "sallyport user remove maya")
	if o := c.try("maya", code(t, here, epoch)); !o.OK {
		t.Errorf("root's secret: %+v", o)
	}
	c.change("otto", func(a *factor.Account, tx *vault.Tx) { a.SetSecret(here, tx.Now()) })
	wantRefused(t, d.sync(a.seal(c.sealingKey(), organisation.Envelope{Kind: organisation.KindTOTP, Device: deviceID, User: "otto", Version: 1},
		organisation.TOTP{URI: first.URI("x", "otto")})), "enrolled at this computer")
	for _, s := range []*totp.State{first, second} {
		if strings.Contains(c.log.String()+fmt.Sprint(c.events()), s.SeedText()) {
			t.Error("a secret leaked")
		}
	}
	t.Log("leaving keeps it: without it nobody would ask for anything")
	if err := c.link.Leave(t.Context(), "uid:0"); err != nil {
		t.Fatal(err)
	}
	if !c.account("maya").IsEnrolled() {
		t.Error("the secret is gone")
	}
}

func TestRecoveryCodesAndABypassComeSealed(t *testing.T) {
	c, a, d := connected(t)
	recovery := a.seal(c.sealingKey(), organisation.Envelope{Kind: organisation.KindRecovery, Device: deviceID, User: "maya", Version: 1}, organisation.Codes{Codes: []string{"ABCDE-FGHJK", "KKKKK-MMMMM"}})
	bypass := a.seal(c.sealingKey(), organisation.Envelope{Kind: organisation.KindBypass, Device: deviceID, User: "maya", Version: 1},
		organisation.Bypass{Code: "1234-5678-9012", Expires: epoch.Add(time.Hour).Unix(), Reason: "lost phone, ticket 7"})
	wantApplied(t, d.sync(recovery))
	wantApplied(t, d.sync(bypass))
	if e := c.event(event.BypassIssued, "for 1h0m0s: lost phone, ticket 7"); e.By != "authority" || e.Key != "uid:1000" {
		t.Errorf("the event is %+v", e)
	}
	c.event(event.RecoveryIssued, "")
	for _, code := range []string{"abcde fghjk", "1234 5678 9012"} {
		if o := c.try("maya", code); !o.OK {
			t.Errorf("%s: %+v", code, o)
		}
	}
	t.Log("each is good once, also when it is sent again")
	wantApplied(t, d.sync(recovery))
	wantApplied(t, d.sync(bypass))
	for _, code := range []string{"abcde fghjk", "1234 5678 9012"} {
		if o := c.try("maya", code); o.OK {
			t.Errorf("%s was taken twice", code)
		}
	}
	if o := c.try("maya", "KKKKK-MMMMM"); !o.OK {
		t.Errorf("the other recovery code: %+v", o)
	}
	t.Log("and a bypass expires")
	wantApplied(t, d.sync(a.seal(c.sealingKey(), organisation.Envelope{Kind: organisation.KindBypass, Device: deviceID, User: "maya", Version: 2},
		organisation.Bypass{Code: "2222-2222-2222", Expires: epoch.Add(time.Hour).Unix(), Reason: "x"})))
	c.clock.advance(time.Hour)
	if o := c.try("maya", "2222-2222-2222"); o.OK || o.Reason != factor.Expired {
		t.Errorf("the expired one: %+v", o)
	}
	if s := c.log.String() + fmt.Sprint(c.events()); strings.Contains(s, "FGHJK") || strings.Contains(s, "1234-5678") {
		t.Error("a code leaked")
	}
}

// TestRefusedItemsDoNotFillTheFile: the events of other things must stay.
func TestRefusedItemsDoNotFillTheFile(t *testing.T) {
	c, _, d := connected(t)
	for i := range 200 {
		wantRefused(t, d.sync(fmt.Appendf(nil, `{"kind":"bypass","user":"maya","version":%d}`, i+1)), "not signed")
	}
	if n := c.countEvents(event.SyncRefused); n != maxRefusals {
		t.Errorf("%d events, want %d", n, maxRefusals)
	}
	c.clock.advance(refusalsWithin)
	wantRefused(t, d.sync([]byte(`{"kind":"bypass","user":"maya","version":1000}`)), "not signed")
	if n := c.countEvents(event.SyncRefused); n != maxRefusals+1 {
		t.Errorf("%d events an hour later", n)
	}
}

// TestManyItemsAtOnceAreNoFlood: a computer of many people joins. All of it is in
// force before all of it is answered.
func TestManyItemsAtOnceAreNoFlood(t *testing.T) {
	c := newComputer(t)
	a := newAuthority(t, c.clock)
	c.join(a)
	gap := make(chan time.Time)
	c.link.after = func(d time.Duration) <-chan time.Time {
		if d == ackGap {
			return gap
		}
		return time.After(d)
	}
	c.run()
	d := a.stream()
	const n = 100
	for i := range n {
		d.send(&authorityv1.AuthorityMessage{Message: &authorityv1.AuthorityMessage_Sync{Sync: &authorityv1.Sync{
			Envelope: a.sign(organisation.Envelope{Kind: organisation.KindApprovers, User: fmt.Sprintf("user%d", i), Version: 1}, manifest("x"))}}})
	}
	c.event(event.SyncApplied, "") // the file keeps a hundred
	c.eventually("all in force", func() bool { return c.signed(organisation.KindApprovers, fmt.Sprintf("user%d", n-1)).Version == 1 })
	for i := range n {
		if i >= ackBurst {
			if len(d.in) != 0 {
				t.Fatal("an answer came before its time")
			}
			gap <- time.Time{}
		}
		if r := receive(t, d.in, "an answer").GetSyncApplied(); r.GetUser() != fmt.Sprintf("user%d", i) || r.GetRefused() != "" {
			t.Fatalf("answer %d is %v", i, r)
		}
	}
}

// FuzzPayload: whatever the organisation signs by mistake is refused, or within
// its bounds.
func FuzzPayload(f *testing.F) {
	f.Add("approvers", []byte(`{"approvers":[{"credential_id":"AA==","public_key":"AA==","phone":"x","synced":true}]}`))
	f.Add("policy", []byte(`{"ask":"required","exempt":{"remote":["10.0.0.0/8"]}}`))
	f.Add("settings", []byte(`{"name":"x","rp_id":"example.com","origin":"https://example.com","api":"https://example.com"}`))
	f.Fuzz(func(t *testing.T, kind string, payload []byte) {
		k, known := kinds[organisation.Kind(kind)]
		if !known || k.device {
			return
		}
		apply, err := k.prepare(t.Context(), nil, nil, &organisation.Envelope{Kind: organisation.Kind(kind), Version: 1, Payload: payload})
		if err != nil {
			return
		}
		var item store.Item
		if _, _, err := apply(nil, store.Item{}, &item); err != nil {
			t.Fatal(err)
		}
		for _, a := range item.Approvers {
			if len(a.CredentialID) == 0 || len(a.CredentialID) > 1023 || len(a.Phone) > 64 {
				t.Fatalf("%+v", a)
			}
		}
		if len(item.Approvers) > maxApprovers || !json.Valid(payload) {
			t.Fatalf("%+v of %q", item, payload)
		}
	})
}

// FuzzPage: the fragment's secret goes to the signed origin, or nowhere.
func FuzzPage(f *testing.F) {
	f.Add(page)
	f.Add("https://approve.example.com@evil.example/")
	f.Add("https://approve.example.com\\@evil.example/")
	f.Fuzz(func(t *testing.T, s string) {
		got, err := checkPage(s, goodSettings.Origin)
		if err != nil {
			return
		}
		u, err := url.Parse(got + "#s=secret")
		if err != nil || u.Scheme != "https" || u.Host != "approve.example.com" || u.User != nil || u.Fragment != "s=secret" || !strings.HasPrefix(got, goodSettings.Origin) {
			t.Fatalf("%q gives %q", s, got)
		}
		if rest := strings.TrimPrefix(got, goodSettings.Origin); rest != "" && rest[0] != '/' && rest[0] != '?' {
			t.Fatalf("%q gives %q", s, got)
		}
	})
}

// FuzzSettings: whatever is taken can be the place of a passkey.
func FuzzSettings(f *testing.F) {
	f.Add("example.com", "https://approve.example.com", "https://a.example.com")
	f.Add("localhost", "http://localhost:8443", "http://localhost:8443")
	f.Add("[::1]", "https://[::1]", "https://x")
	f.Fuzz(func(t *testing.T, rp, origin, api string) {
		b, err := json.Marshal(organisation.Settings{Name: "x", RPID: rp, Origin: origin, API: api})
		if err != nil {
			return
		}
		s, err := parseSettings(b)
		if err != nil {
			return
		}
		local := strings.HasPrefix(s.Origin, "http://localhost")
		if !strings.HasPrefix(s.Origin, "https://") && !local || strings.ContainsAny(s.Origin, "@#?\\ \n") || strings.ContainsAny(s.RPID, "/:@ ") {
			t.Fatalf("%+v", s)
		}
		if _, err := checkPage(s.Origin+"/enrol", s.Origin); err != nil {
			t.Fatalf("the page's own URL is refused: %v", err)
		}
	})
}
