package link

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/big"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"
	"google.golang.org/protobuf/types/known/timestamppb"

	"sallyport/authority/enrol"
	"sallyport/authority/store"
	"sallyport/authority/store/storetest"
	"sallyport/internal/event"
	factor "sallyport/internal/factor/push"
	"sallyport/internal/organisation"
	"sallyport/internal/testkit/passkey"
	authorityv1 "sallyport/proto/sallyport/authority/v1"
)

// call calls any method with an empty request.
func call(ctx context.Context, c authorityv1.AuthorityServiceClient, method string) error {
	var err error
	switch method {
	case "Register":
		_, err = c.Register(ctx, &authorityv1.RegisterRequest{})
	case "Renew":
		_, err = c.Renew(ctx, &authorityv1.RenewRequest{})
	case "UploadEvents":
		_, err = c.UploadEvents(ctx, &authorityv1.UploadEventsRequest{})
	case "Connect":
		var wire grpc.BidiStreamingClient[authorityv1.DeviceMessage, authorityv1.AuthorityMessage]
		if wire, err = c.Connect(ctx); err == nil {
			_, err = wire.Recv()
		}
	default:
		err = fmt.Errorf("this test does not know %s", method)
	}
	return err
}

// methods are all that the service has.
func methods() (names []string) {
	for _, m := range authorityv1.AuthorityService_ServiceDesc.Methods {
		names = append(names, m.MethodName)
	}
	for _, m := range authorityv1.AuthorityService_ServiceDesc.Streams {
		names = append(names, m.StreamName)
	}
	return names
}

func TestEveryMethodIsInTheTableAndNoOther(t *testing.T) {
	for _, m := range methods() {
		if table["/"+authorityv1.AuthorityService_ServiceDesc.ServiceName+"/"+m] == refused {
			t.Errorf("%s is not in the table", m)
		}
	}
	if len(table) != len(methods()) {
		t.Errorf("%d entries for %d methods", len(table), len(methods()))
	}
}

func TestWhatIsNotInTheTableIsRefused(t *testing.T) {
	w := one(t)
	_, conn := w.dial(nil)
	err := conn.Invoke(w.ctx(), "/sallyport.authority.v1.AuthorityService/Other", &authorityv1.Probe{}, &authorityv1.Probe{})
	refusedWith(t, err, codes.PermissionDenied)
	// A caller that nobody saw is an error, not nobody's.
	if _, err := callerOf(context.Background()); status.Code(err) != codes.PermissionDenied {
		t.Error(err)
	}
	for _, ctx := range []context.Context{context.Background(), peer.NewContext(context.Background(), &peer.Peer{})} {
		if _, err := w.link.admit(ctx, &tap.Info{FullMethodName: authorityv1.AuthorityService_Connect_FullMethodName}); status.Code(err) != codes.PermissionDenied {
			t.Error(err)
		}
	}
}

func TestNoCertificateOnEachMethod(t *testing.T) {
	w := one(t)
	client, _ := w.dial(nil)
	for _, m := range methods() {
		want := codes.Unauthenticated
		if m == "Register" {
			want = codes.InvalidArgument // it is read, and has nothing in it
		}
		refusedWith(t, call(w.ctx(), client, m), want)
	}
}

func TestCertificatesThatAreNotADevicesOnEachMethod(t *testing.T) {
	w := one(t)
	d := w.join(enrol.Everyone)
	own := newKey(t)
	sign := func(template *x509.Certificate) *tls.Certificate {
		der, err := x509.CreateCertificate(rand.Reader, template, template, own.Public(), own)
		w.must(err)
		return &tls.Certificate{Certificate: [][]byte{der, w.keys.CA.Raw}, PrivateKey: own}
	}
	server, err := w.keys.ServerCertificate([]string{"x"}, w.now)(nil)
	w.must(err)
	other := newNode(t, storetest.Open(t, store.Options{SQLite: filepath.Join(t.TempDir(), "b.db"), Node: "b"}), makeKeys(t), w.clockwork).join(enrol.Everyone)
	for name, c := range map[string]*tls.Certificate{
		"another CA's device": {Certificate: other.chain, PrivateKey: other.key},
		"self-signed with the device's name": sign(&x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: w.now().Add(-time.Hour), NotAfter: w.now().Add(time.Hour),
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, URIs: []*url.URL{{Scheme: "sallyport", Host: "device", Path: "/" + d.id}}}),
		"the server's own": server,
	} {
		client, _ := w.dial(c)
		for _, m := range methods() {
			if m == "Register" {
				continue
			}
			err := call(w.ctx(), client, m)
			if status.Code(err) != codes.Unauthenticated {
				t.Errorf("%s, %s: %v", name, m, err)
			}
		}
	}
}

func TestExpiredCertificateRenewsAndDoesNothingElse(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		d := w.join(enrol.Everyone)
		s := d.open()
		s.synced(organisation.KindSettings, "")
		w.advance(enrol.DeviceLife + time.Hour)
		s.probe(1) // the stream that was open ends at the next word
		s.endsWith("certificate_expired")
		for _, m := range []string{"Connect", "UploadEvents"} {
			refusedWith(t, call(w.ctx(), d.client, m), codes.Unauthenticated)
		}
		r, err := d.client.Renew(w.ctx(), &authorityv1.RenewRequest{Csr: csrOf(t, d.key)})
		w.must(err)
		d.chain = r.GetChain()
		d.redial()
		d.open()
		// 180 days later, and not one more.
		w.advance(enrol.DeviceLife + enrol.RenewLate - time.Hour)
		d.redial()
		if _, err := d.client.Renew(w.ctx(), &authorityv1.RenewRequest{Csr: csrOf(t, d.key)}); err != nil {
			t.Error(err)
		}
		w.advance(2 * time.Hour)
		_, err = d.client.Renew(w.ctx(), &authorityv1.RenewRequest{Csr: csrOf(t, d.key)})
		refusedWith(t, err, codes.Unauthenticated)
	})
}

func TestOldTLSIsRefused(t *testing.T) {
	w := one(t)
	c, err := tls.Dial("tcp", w.at, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, NextProtos: []string{"h2"}})
	if err == nil {
		_ = c.Close()
		t.Error("TLS 1.2 is taken")
	}
	plain, err := net.Dial("tcp", w.at)
	w.must(err)
	defer func() { _ = plain.Close() }()
	_, _ = io.WriteString(plain, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	_ = plain.SetReadDeadline(time.Now().Add(patience))
	if b, _ := io.ReadAll(plain); strings.Contains(string(b), "HTTP/2") {
		t.Error("it talks without TLS")
	}
}

func TestStolenEnrolmentTokenOverTheWire(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.freeze()
		client, _ := w.dial(nil)
		token := w.token([]string{enrol.Everyone}, "S1")
		stolen := w.registration(token, newKey(t))
		stolen.Serial = "S2"
		_, err := client.Register(w.ctx(), stolen)
		refusedWith(t, err, codes.Unauthenticated)
		if _, err := client.Register(w.ctx(), w.registration(token, newKey(t))); err != nil {
			t.Fatal(err)
		}
		_, err = client.Register(w.ctx(), w.registration(token, newKey(t)))
		refusedWith(t, err, codes.Unauthenticated)
		if n := w.events("token_refused"); n != 2 {
			t.Errorf("%d events", n)
		}
		// Whoever goes on is not listened to any more, until later.
		for range 20 {
			_, err = client.Register(w.ctx(), w.registration(organisation.Token{}, newKey(t)))
		}
		refusedWith(t, err, codes.ResourceExhausted)
		if n := w.events("token_refused"); n > 15 {
			t.Errorf("%d events", n)
		}
		w.advance(time.Minute)
		_, err = client.Register(w.ctx(), w.registration(w.token([]string{enrol.Everyone}, ""), newKey(t)))
		w.must(err)
	})
}

func TestALoginFromBeginToEnd(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.users("maya")
		k := w.phone("maya")
		s := w.join("maya").open()
		s.synced(organisation.KindSettings, "")
		b := s.begins("maya", k)
		w.must(w.answer(k, b, factor.Approve))
		a := s.answered()
		want := k // the last assertion is what came
		if a.GetId() != b.GetId() || a.GetDecision() != "approve" || string(a.GetCredentialId()) != string(want.ID) {
			t.Errorf("%v", a)
		}
		got := factor.Answer{Decision: factor.Decision(a.GetDecision()), Assertion: factor.Assertion{CredentialID: a.GetCredentialId(),
			AuthenticatorData: a.GetAuthenticatorData(), ClientData: a.GetClientData(), Signature: a.GetSignature()}}
		if _, err := factor.VerifyAssertion(got.Assertion, k.Approver("Pixel"), rp, factor.Digest(b.GetChallenge(), factor.Approve, "42")); err != nil {
			t.Error("what came does not verify:", err)
		}
		s.end(b.GetId(), "approved")
		// The next may begin at once, and nothing comes twice.
		s.begins("maya", k)
		s.alive()
	})
}

func TestAnAnswerIsSentAgainAfterAReconnect(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.users("maya")
		k := w.phone("maya")
		d := w.join("maya")
		s := d.open()
		have := s.synced(organisation.KindSettings, "")
		b := s.begins("maya", k)
		s.stop() // the link breaks, and then the phone answers
		w.must(w.answer(k, b, factor.Approve))
		s = d.open()
		if a := s.answered(); a.GetId() != b.GetId() {
			t.Errorf("%v", a)
		}
		// Until PushEnd.
		s.end(b.GetId(), "approved")
		w.eventually("the end is on disk", func() bool {
			var c store.Challenge
			w.must(w.store.View(w.Context(), func(tx store.Tx) (err error) {
				c, err = tx.Challenge(b.GetId())
				return err
			}))
			return c.Outcome == "approved"
		})
		s.stop()
		s = d.open(&authorityv1.Have{Kind: "settings", Version: have})
		s.alive()
	})
}

func TestPushBombingOverTheWire(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.users("maya")
		k := w.phone("maya")
		d := w.join("maya")
		s := d.open()
		for range 3 {
			b := s.begins("maya", k)
			w.must(w.answer(k, b, factor.Approve))
			s.answered()
			s.end(b.GetId(), "approved")
		}
		s.begin(s.request("maya", k))
		if got := s.started(); got.GetRefused() != string(factor.TooMany) {
			t.Errorf("the fourth: %v", got)
		}
		if w.events("push_mfa_attempt_failed") != 1 {
			t.Error("no event")
		}
		// A new stream is no way around it.
		s.stop()
		s = d.open()
		s.begin(s.request("maya", k))
		if got := s.started(); got.GetRefused() != string(factor.TooMany) {
			t.Errorf("%v", got)
		}
		w.push.Wait()
		if w.rings.n["maya"] != 3 {
			t.Errorf("it rang %d times", w.rings.n["maya"])
		}
	})
}

func TestAFloodOfPushRequestsDoesNotReachTheDatabase(t *testing.T) {
	w := one(t)
	w.freeze()
	w.users("maya")
	k := w.phone("maya")
	s := w.join("maya").open()
	for range 30 {
		s.begin(s.request("maya", k))
	}
	started := 0
	for range 30 {
		if s.started().GetRefused() == "" {
			started++
		}
	}
	if started != 1 {
		t.Errorf("%d started", started)
	}
	if n := w.events("push_mfa_attempt_failed"); n >= 15 {
		t.Errorf("%d events were written", n)
	}
}

func TestDeviceACannotSpeakForDeviceBOverTheWire(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.users("maya", "jo")
		k := w.phone("maya")
		a, b := w.join("maya"), w.join("jo")
		sa, sb := a.open(), b.open()
		login := sa.begins("maya", k)
		// B sends A's challenge, A's enrolment, A's end.
		sb.begin(login)
		if got := sb.started(); got.GetRefused() != "malformed" {
			t.Errorf("%v", got)
		}
		other := b.request("maya", k)
		sb.begin(other)
		if got := sb.started(); got.GetRefused() != "user_not_allowed" {
			t.Errorf("%v", got)
		}
		sb.end(login.GetId(), "denied")
		sb.send(&authorityv1.DeviceMessage{Message: &authorityv1.DeviceMessage_EnrolmentBegin{EnrolmentBegin: &authorityv1.EnrolmentBegin{
			Id: factor.NewID(), User: "maya", Expires: timestamppb.New(w.now().Add(time.Minute))}}})
		if got := wait(sb, (*authorityv1.AuthorityMessage).GetEnrolmentStarted); got.GetRefused() != "user_not_allowed" || got.GetUrl() != "" {
			t.Errorf("%v", got)
		}
		// A's login is untouched, and its answer goes to A alone.
		w.must(w.answer(k, login, factor.Approve))
		if got := sa.answered(); got.GetId() != login.GetId() {
			t.Errorf("%v", got)
		}
		sb.probe(3)
		for {
			m := sb.next()
			if m.GetPushAnswer() != nil {
				t.Fatal("the other device got the answer")
			}
			if m.GetProbeReply() != nil {
				break
			}
		}
	})
}

func TestRevokedOnALiveStream(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.users("maya")
		k := w.phone("maya")
		d := w.join("maya")
		s := d.open()
		s.begins("maya", k)
		w.must(w.enrol.RevokeDevice(w.Context(), "root", d.id, "stolen"))
		s.endsWith("revoked")
		for _, m := range []string{"Connect", "UploadEvents", "Renew"} {
			refusedWith(t, call(w.ctx(), d.client, m), codes.PermissionDenied)
		}
	})
}

func TestASecondStreamReplacesTheFirst(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.users("maya")
		k := w.phone("maya")
		d := w.join("maya")
		first := d.open()
		second := d.on(w).open()
		first.endsWith("replaced")
		b := second.begins("maya", k)
		w.must(w.answer(k, b, factor.Deny))
		if got := second.answered(); got.GetDecision() != "deny" {
			t.Errorf("%v", got)
		}
		second.stop()
		w.eventually("the device is gone", func() bool { return w.link.Streams() == 0 && len(w.online()) == 0 })
	})
}

func (w *world) online() (m map[string]string) {
	w.Helper()
	w.must(w.store.View(w.Context(), func(tx store.Tx) (err error) {
		m, err = tx.Online(time.Now())
		return err
	}))
	return m
}

func TestVaultRolledBackOrCloned(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		d := w.join(enrol.Everyone)
		d.generation = 10
		d.open().stop()
		d.open().stop() // the same is no step back
		d.generation = 9
		d.connect(d.hello()).endsWith("vault_rolled_back")
		d.vault = "vault-2"
		d.connect(d.hello()).endsWith("vault_rolled_back")
		if n := w.events("vault_rolled_back"); n != 1 {
			t.Errorf("%d events", n)
		}
		d.generation = 11
		d.open()
	})
}

func TestItemsAreSentOnceAndOnlyNewerOnes(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.users("maya", "jo")
		d := w.join("maya")
		s := d.open()
		settings := s.synced(organisation.KindSettings, "")
		_, err := w.enrol.IssueBypass(w.Context(), "root", "maya", d.id, time.Hour, "lost phone")
		w.must(err)
		bypass := s.synced(organisation.KindBypass, "maya")
		_, err = w.enrol.SetPolicy(w.Context(), "root", []byte("ask = 'required'"))
		w.must(err)
		policy := s.synced(organisation.KindPolicy, "")
		s.send(&authorityv1.DeviceMessage{Message: &authorityv1.DeviceMessage_SyncApplied{SyncApplied: &authorityv1.SyncApplied{Kind: "policy", Version: policy, Refused: "not\x00accepted"}}})
		w.eventually("the refusal is kept", func() bool {
			var i store.Item
			w.must(w.store.View(w.Context(), func(tx store.Tx) (err error) {
				i, err = tx.Item(organisation.KindPolicy, "", "")
				return err
			}))
			return i.Refused == d.id+": not?accepted"
		})
		s.alive()
		// Allowed users change: it is told, and gets what it needs for them.
		w.must(w.enrol.AllowUser(w.Context(), "root", d.id, "jo"))
		if users := wait(s, (*authorityv1.AuthorityMessage).GetWelcome).GetUsers(); !slices.Equal(users, []string{"maya", "jo"}) {
			t.Errorf("%q", users)
		}
		s.stop()
		s = d.open(&authorityv1.Have{Kind: "settings", Version: settings}, &authorityv1.Have{Kind: "bypass", User: "maya", Version: bypass}, &authorityv1.Have{Kind: "policy", Version: policy})
		s.alive()
	})
}

func TestARemovedUsersEmptyManifestReachesTheDevice(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.users("maya")
		d := w.join("maya")
		w.manifest("maya")
		s := d.open()
		before := s.synced(organisation.KindApprovers, "maya")
		_, err := w.enrol.RemoveUser(w.Context(), "root", "maya")
		w.must(err)
		if v := s.synced(organisation.KindApprovers, "maya"); v <= before {
			t.Errorf("version %d after %d", v, before)
		}
		s.stop()
		s = d.open(&authorityv1.Have{Kind: "approvers", User: "maya", Version: before}) // it was asleep meanwhile
		if v := s.synced(organisation.KindApprovers, "maya"); v <= before {
			t.Errorf("version %d after %d", v, before)
		}
	})
}

// manifest enrols a phone by the authority, so that a manifest is signed.
func (w *world) manifest(user string) {
	w.Helper()
	i, err := w.enrol.BeginEnrolment(w.Context(), "root", user, 0)
	w.must(err)
	fragment := i.URL[strings.Index(i.URL, "#")+1:]
	q, err := url.ParseQuery(fragment)
	w.must(err)
	secret, err := b64(q.Get("s"))
	w.must(err)
	r := passkey.New(rp).Registration("Pixel")
	w.update(func(tx store.Tx) error {
		return tx.PostKey(i.ID, r, factor.EnrolmentMAC(secret, i.ID, "", user, r), nil, w.now())
	})
	w.must(w.enrol.CompleteEnrolment(w.Context(), i.ID))
}

func TestEnrolmentAtTheEndpointIsRelayed(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.users("maya")
		d := w.join("maya")
		s := d.open()
		id := factor.NewID()
		begin := &authorityv1.DeviceMessage{Message: &authorityv1.DeviceMessage_EnrolmentBegin{EnrolmentBegin: &authorityv1.EnrolmentBegin{
			Id: id, User: "maya", Expires: timestamppb.New(w.now().Add(10 * time.Minute))}}}
		s.send(begin)
		if got := wait(s, (*authorityv1.AuthorityMessage).GetEnrolmentStarted); got.GetRefused() != "" || got.GetUrl() != settings.Origin+"/" {
			t.Errorf("%v", got)
		}
		r := passkey.New(rp).Registration("Pixel")
		mac := factor.EnrolmentMAC([]byte("secret"), id, d.id, "maya", r)
		w.update(func(tx store.Tx) error {
			return joinErrors(tx.PostKey(id, r, mac, []byte("session"), w.now()), tx.Notify(store.Notice{Topic: store.TopicEnrolment, Device: d.id, ID: id}))
		})
		got := wait(s, (*authorityv1.AuthorityMessage).GetEnrolmentKey)
		if got.GetId() != id || string(got.GetMac()) != string(mac) || string(got.GetPublicKey()) != string(r.PublicKey) || got.GetPhone() != "Pixel" {
			t.Errorf("%v", got)
		}
		// The link breaks before the device has answered: it comes again.
		s.stop()
		s = d.open()
		s.send(begin)
		got = wait(s, (*authorityv1.AuthorityMessage).GetEnrolmentKey)
		s.send(&authorityv1.DeviceMessage{Message: &authorityv1.DeviceMessage_EnrolmentEnd{EnrolmentEnd: &authorityv1.EnrolmentEnd{Id: id, Accepted: true, CredentialId: got.GetCredentialId()}}})
		w.eventually("the phone is one", func() bool {
			n := 0
			w.must(w.store.View(w.Context(), func(tx store.Tx) error {
				list, err := tx.Approvers("maya")
				n = len(list)
				return err
			}))
			return n == 1
		})
		w.freeze() // one more is allowed every half a minute
		for i := range enrolBurst + 1 {
			id := factor.NewID()
			s.send(&authorityv1.DeviceMessage{Message: &authorityv1.DeviceMessage_EnrolmentBegin{EnrolmentBegin: &authorityv1.EnrolmentBegin{
				Id: id, User: "maya", Expires: timestamppb.New(w.now().Add(time.Minute))}}})
			got := wait(s, (*authorityv1.AuthorityMessage).GetEnrolmentStarted)
			for got.GetId() != id { // of the one before, in its own time
				got = wait(s, (*authorityv1.AuthorityMessage).GetEnrolmentStarted)
			}
			if i == enrolBurst && got.GetRefused() != tooManyEnrolments {
				t.Errorf("%v", got)
			}
		}
	})
}

func TestMalformedFirstMessages(t *testing.T) {
	w := one(t)
	d := w.join(enrol.Everyone)
	spoilt := func(fn func(h *authorityv1.Hello)) *authorityv1.DeviceMessage {
		m := d.hello()
		fn(m.GetHello())
		return m
	}
	for name, m := range map[string]*authorityv1.DeviceMessage{
		"empty":           {},
		"a probe":         {Message: &authorityv1.DeviceMessage_Probe{Probe: &authorityv1.Probe{}}},
		"a push":          {Message: &authorityv1.DeviceMessage_PushBegin{PushBegin: d.request("maya")}},
		"no vault":        spoilt(func(h *authorityv1.Hello) { h.VaultId = "" }),
		"a long vault id": spoilt(func(h *authorityv1.Hello) { h.VaultId = strings.Repeat("a", 65) }),
		"NUL in it":       spoilt(func(h *authorityv1.Hello) { h.VaultId = "a\x00" }),
		"generation":      spoilt(func(h *authorityv1.Hello) { h.VaultGeneration = 1 << 63 }),
		"long version":    spoilt(func(h *authorityv1.Hello) { h.Version = strings.Repeat("1", 65) }),
		"NUL in platform": spoilt(func(h *authorityv1.Hello) { h.Platform = "\x00" }),
		"much to have":    spoilt(func(h *authorityv1.Hello) { h.Have = slices.Repeat([]*authorityv1.Have{{}}, maxHave+1) }),
		"a long user":     spoilt(func(h *authorityv1.Hello) { h.Have = []*authorityv1.Have{{User: strings.Repeat("u", 321)}} }),
		"a huge version":  spoilt(func(h *authorityv1.Hello) { h.Have = []*authorityv1.Have{{Version: 1 << 63}} }),
	} {
		s := d.connect(m)
		if reason, code := s.ends(); code != codes.InvalidArgument || reason != "" {
			t.Errorf("%s: %v", name, s.err)
		}
		w.advance(time.Second) // not the limit of calls is tried out here
	}
	if w.link.Streams() != 0 {
		t.Error("a stream is left")
	}
}

func TestMalformedMessagesEndTheStreamAndNothingElse(t *testing.T) {
	w := one(t)
	w.users("maya")
	d := w.join("maya")
	for _, m := range map[string]*authorityv1.DeviceMessage{
		"empty":        {},
		"second hello": d.hello(),
		"push id":      {Message: &authorityv1.DeviceMessage_PushBegin{PushBegin: &authorityv1.PushBegin{Id: strings.Repeat("x", 10000)}}},
		"enrolment id": {Message: &authorityv1.DeviceMessage_EnrolmentBegin{EnrolmentBegin: &authorityv1.EnrolmentBegin{Id: "../../x"}}},
	} {
		s := d.open()
		s.send(m)
		s.endsWith("malformed")
	}
	// What only names nothing is passed over, and keeps nobody.
	s := d.open()
	s.synced(organisation.KindSettings, "")
	for _, m := range []*authorityv1.DeviceMessage{
		{Message: &authorityv1.DeviceMessage_PushEnd{PushEnd: &authorityv1.PushEnd{Id: "\x00", Outcome: "x"}}},
		{Message: &authorityv1.DeviceMessage_PushEnd{PushEnd: &authorityv1.PushEnd{Id: factor.NewID(), Outcome: "denied"}}},
		{Message: &authorityv1.DeviceMessage_EnrolmentEnd{EnrolmentEnd: &authorityv1.EnrolmentEnd{Id: factor.NewID(), Accepted: true}}},
		{Message: &authorityv1.DeviceMessage_EnrolmentEnd{EnrolmentEnd: &authorityv1.EnrolmentEnd{Id: "\x00", Reason: "\x00"}}},
		{Message: &authorityv1.DeviceMessage_SyncApplied{SyncApplied: &authorityv1.SyncApplied{Kind: "x\x00", User: "\x00", Version: 1 << 63, Refused: "\x00"}}},
		{Message: &authorityv1.DeviceMessage_EnrolmentBegin{EnrolmentBegin: &authorityv1.EnrolmentBegin{Id: factor.NewID(), User: "maya\x00", Expires: timestamppb.New(w.now().Add(time.Minute))}}},
		{Message: &authorityv1.DeviceMessage_EnrolmentBegin{EnrolmentBegin: &authorityv1.EnrolmentBegin{Id: factor.NewID(), User: "maya"}}},
	} {
		s.send(m)
	}
	for range 2 {
		if got := wait(s, (*authorityv1.AuthorityMessage).GetEnrolmentStarted); got.GetRefused() != "malformed" {
			t.Errorf("%v", got)
		}
	}
	s.alive()
}

func TestADeviceThatFloodsIsCutOff(t *testing.T) {
	w := one(t)
	w.freeze()
	d := w.join(enrol.Everyone)
	s := d.open()
	for i := range uint64(ratesOf(pushesPerSecond).messages.burst * 3) {
		s.probe(i)
	}
	s.endsWith("flooding")
	// Another is not concerned.
	w.join(enrol.Everyone).open()
	// And a message that is too long does not get far.
	s = d.open()
	s.begin(&authorityv1.PushBegin{Id: factor.NewID(), Challenge: make([]byte, maxMessage)})
	if _, code := s.ends(); code != codes.ResourceExhausted {
		t.Error(s.err)
	}
}

func TestADeviceThatCallsTooOften(t *testing.T) {
	w := one(t)
	w.freeze()
	d := w.join(enrol.Everyone)
	var err error
	for range 40 {
		_, err = d.client.Renew(w.ctx(), &authorityv1.RenewRequest{})
	}
	refusedWith(t, err, codes.ResourceExhausted)
	w.advance(time.Minute)
	d.open()
}

// TestAFullFileIsTakenAtOnce: what a computer has to say after an outage, and its
// stream as well.
func TestAFullFileIsTakenAtOnce(t *testing.T) {
	w := one(t)
	w.freeze()
	d := w.join(enrol.Everyone)
	var err error
	calls := 0
	for ; err == nil && calls < 1000; calls++ {
		_, err = d.client.UploadEvents(w.ctx(), &authorityv1.UploadEventsRequest{VaultId: "v", Events: [][]byte{fmt.Appendf(nil, `{"seq":%d,"event":"login_attempt"}`, calls+1)}})
	}
	refusedWith(t, err, codes.ResourceExhausted)
	if calls != uploadCalls+1 {
		t.Errorf("%d calls were taken", calls-1)
	}
	d.open()
}

func TestADeviceThatDoesNotReadIsCutOff(t *testing.T) {
	w := one(t)
	w.users("maya")
	d := w.join("maya")
	// A stream whose receiving side stands still: the window fills, then the queue.
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	wire, err := d.client.Connect(ctx)
	w.must(err)
	w.must(wire.Send(d.hello()))
	if m, err := wire.Recv(); err != nil || m.GetWelcome() == nil {
		t.Fatal(m, err)
	}
	w.eventually("the stream is there", func() bool { return w.link.stream(d.id) != nil })
	st := w.link.stream(d.id)
	big := &authorityv1.AuthorityMessage{Message: &authorityv1.AuthorityMessage_Sync{Sync: &authorityv1.Sync{Envelope: make([]byte, 60<<10)}}}
	w.eventually("it is cut off", func() bool {
		st.send(big)
		return w.link.Streams() == 0
	})
	for {
		if _, err = wire.Recv(); err != nil {
			break
		}
	}
	refusedWith(t, err, codes.Canceled)
}

func TestNoHelloNoStream(t *testing.T) {
	w := one(t)
	d := w.join(enrol.Everyone)
	w.link.hurry = 50 * time.Millisecond
	if _, code := d.connect(nil).ends(); code != codes.Canceled {
		t.Error(code)
	}
}

func TestEventsAreKeptOnceEach(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		d := w.join(enrol.Everyone)
		event := func(seq uint64) []byte {
			return fmt.Appendf(nil, `{"seq":%d,"time":"2026-11-22T12:00:00Z","event":"login_attempt","user":"maya\u0000","verdict":"deny"}`, seq)
		}
		r := &authorityv1.UploadEventsRequest{VaultId: "v", Events: [][]byte{event(4), event(5), event(7)}, Dropped: 3}
		for range 2 {
			got, err := d.client.UploadEvents(w.ctx(), r)
			w.must(err)
			if got.GetLastSeq() != 7 {
				t.Errorf("%v", got)
			}
		}
		if n := w.events("login_attempt"); n != 3 {
			t.Errorf("%d events", n)
		}
		if n := w.events("events_dropped"); n != 1 {
			t.Errorf("the gap was reported %d times", n)
		}
		w.must(w.store.View(w.Context(), func(tx store.Tx) error {
			list, _, err := tx.Events(0, d.id, "", 10)
			if len(list) != 3 || list[2].Seq != 7 || list[2].User != "maya?" || string(list[2].JSON) != string(event(7)) {
				t.Errorf("%+v", list)
			}
			return err
		}))
		for name, bad := range map[string]*authorityv1.UploadEventsRequest{
			"none":        {VaultId: "v"},
			"no vault":    {Events: [][]byte{event(8)}},
			"backwards":   {VaultId: "v", Events: [][]byte{event(9), event(8)}},
			"twice":       {VaultId: "v", Events: [][]byte{event(9), event(9)}},
			"zero":        {VaultId: "v", Events: [][]byte{event(0)}},
			"huge number": {VaultId: "v", Events: [][]byte{event(1 << 63)}},
			"many":        {VaultId: "v", Events: slices.Repeat([][]byte{event(1)}, 501)},
			"long":        {VaultId: "v", Events: [][]byte{append(event(8), strings.Repeat(" ", maxEvent)...)}},
			"no JSON":     {VaultId: "v", Events: [][]byte{[]byte("x")}},
			"no name":     {VaultId: "v", Events: [][]byte{[]byte(`{"seq":8}`)}},
			"odd name":    {VaultId: "v", Events: [][]byte{[]byte(`{"seq":8,"event":"a b"}`)}},
			// HAZARD: what a receiver of events refuses holds up everybody's behind it.
			"half a character": {VaultId: "v", Events: [][]byte{[]byte(`{"seq":8,"event":"a","text":"\\\uD83d"}`)}},
			"deep":             {VaultId: "v", Events: [][]byte{[]byte(`{"seq":8,"event":"a","x":[[[[1]]]]}`)}},
			"no float64":       {VaultId: "v", Events: [][]byte{[]byte(`{"seq":8,"event":"a","x":1e999}`)}},
			"many digits":      {VaultId: "v", Events: [][]byte{[]byte(`{"seq":8,"event":"a","x":[123456789012345678901]}`)}},
			"no UTF-8":         {VaultId: "v", Events: [][]byte{[]byte("{\"seq\":8,\"event\":\"a\",\"user\":\"\xff\"}")}},
		} {
			if _, err := d.client.UploadEvents(w.ctx(), bad); status.Code(err) != codes.InvalidArgument {
				t.Errorf("%s: %v", name, err)
			}
			w.advance(time.Second)
		}
	})
}

func TestRenewingOverTheWire(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		d := w.join(enrol.Everyone)
		old := d.on(w)
		fresh := newKey(t)
		r, err := d.client.Renew(w.ctx(), &authorityv1.RenewRequest{Csr: csrOf(t, fresh)})
		w.must(err)
		old.open().stop() // the answer might have been lost
		d.key, d.chain = fresh, r.GetChain()
		d.redial()
		d.open()
		refusedWith(t, call(w.ctx(), old.client, "Connect"), codes.NotFound)
		_, err = d.client.Renew(w.ctx(), &authorityv1.RenewRequest{Csr: []byte("x")})
		refusedWith(t, err, codes.InvalidArgument)
	})
}

// TestADeviceThatTheRestoredAuthorityDoesNotKnow: it is told so, in each call, and
// not that its certificate is bad, which it would try to renew.
func TestADeviceThatTheRestoredAuthorityDoesNotKnow(t *testing.T) {
	w := one(t)
	d := w.join(enrol.Everyone)
	restored := newNode(t, storetest.Open(t, store.Options{SQLite: filepath.Join(t.TempDir(), "restored.db"), Node: "a"}), w.keys, w.clockwork)
	d = d.on(restored)
	for _, m := range methods() {
		if m != "Register" {
			refusedWith(t, call(w.ctx(), d.client, m), codes.NotFound)
		}
	}
}

func TestStopSaysGoodbye(t *testing.T) {
	w := one(t)
	s := w.join(enrol.Everyone).open()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	w.link.Stop(ctx)
	s.endsWith("stopping")
	if ctx.Err() != nil || w.link.Streams() != 0 {
		t.Error("it did not stop")
	}
}

func isTimeout(err error) bool {
	e, ok := err.(net.Error)
	return ok && e.Timeout()
}

// TestARootedLaptopDoesNotFillTheDisk with events; others' are taken, and its own
// again later.
func TestARootedLaptopDoesNotFillTheDisk(t *testing.T) {
	w := one(t)
	w.freeze()
	d, other := w.join(enrol.Everyone), w.join(enrol.Everyone)
	w.link.uploads.burst = 4 << 10
	seq, taken := uint64(0), 0
	batch := func() *authorityv1.UploadEventsRequest {
		r := &authorityv1.UploadEventsRequest{VaultId: "v"}
		for range 100 {
			seq++
			r.Events = append(r.Events, fmt.Appendf(nil, `{"seq":%d,"event":"login_attempt","text":"%s"}`, seq, strings.Repeat("x", 8000)))
		}
		return r
	}
	var err error
	for err == nil && taken < 20<<20 {
		_, err = d.client.UploadEvents(w.ctx(), batch())
		taken += 800 << 10
		w.advance(500 * time.Millisecond) // as often as it may call
	}
	refusedWith(t, err, codes.ResourceExhausted)
	if taken < 2<<20 || taken > 8<<20 {
		t.Errorf("%d bytes are taken", taken)
	}
	_, err = other.client.UploadEvents(w.ctx(), batch())
	w.must(err)
	w.advance(time.Minute)
	_, err = d.client.UploadEvents(w.ctx(), batch())
	w.must(err)
}

func TestBuckets(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	l := newBuckets(3, time.Second)
	for range 3 {
		if !l.take("a", now) {
			t.Error("refused within the burst")
		}
	}
	if l.take("a", now) || !l.empty("a", now) || l.empty("b", now) || !l.take("b", now) {
		t.Error("the burst is no bound, or another's")
	}
	if now = now.Add(time.Second); l.empty("a", now) || !l.take("a", now) || l.take("a", now) {
		t.Error("not one more a second")
	}
	for i := range 5000 {
		l.take(fmt.Sprint(i), now)
		now = now.Add(time.Second)
	}
	if len(l.by) > 2500 {
		t.Errorf("%d are remembered", len(l.by))
	}
}

func TestEventsOfAgentsAreOrdinary(t *testing.T) {
	at := time.Date(2026, 11, 22, 12, 0, 0, 123456789, time.FixedZone("", -3600))
	for _, text := range []string{"", `C:\udata \ud83d`, "\x00\u2028<&>\xff\xf0\x9f\x98\x80", strings.Repeat("[{1e99", 20), strings.Repeat("9", 50), `"\"`} {
		b, err := json.Marshal(event.Event{Seq: math.MaxUint64, Time: at, Name: event.LoginAttempt, User: text, Text: text})
		if err != nil || !ordinary(b) {
			t.Errorf("%s: %v", b, err)
		}
	}
}

func FuzzUploadEvents(f *testing.F) {
	f.Add("v", []byte(`{"seq":1,"time":"2026-11-22T12:00:00Z","event":"login_attempt","user":"maya"}`))
	f.Add("v\x00", []byte(`{"seq":18446744073709551615,"event":"x"}`))
	f.Add("v", []byte(`{"seq":1,"time":"9999-12-31T23:59:59Z","event":"x","user":"\u0000\ud800"}`))
	s := storetest.Open(f, store.Options{SQLite: filepath.Join(f.TempDir(), "a.db"), Node: "a"})
	now := time.Unix(1_800_000_000, 0)
	f.Fuzz(func(t *testing.T, vault string, event []byte) {
		list, err := parseEvents("D", &authorityv1.UploadEventsRequest{VaultId: vault, Events: [][]byte{event}}, now)
		if err != nil {
			return
		}
		if err := s.Update(context.Background(), func(tx store.Tx) error {
			_, err := tx.AddEvents(list)
			return err
		}); err != nil {
			t.Errorf("the database does not take %q: %v", event, err)
		}
		if !json.Valid(list[0].JSON) {
			t.Errorf("kept %q", event)
		}
	})
}

func FuzzDeviceMessage(f *testing.F) {
	w := one(f)
	w.users("maya")
	d := w.join("maya")
	for _, m := range []*authorityv1.DeviceMessage{
		d.hello(),
		{Message: &authorityv1.DeviceMessage_PushBegin{PushBegin: d.request("maya")}},
		{Message: &authorityv1.DeviceMessage_EnrolmentBegin{EnrolmentBegin: &authorityv1.EnrolmentBegin{Id: factor.NewID(), User: "maya", Expires: timestamppb.New(w.now())}}},
		{Message: &authorityv1.DeviceMessage_EnrolmentEnd{EnrolmentEnd: &authorityv1.EnrolmentEnd{Id: factor.NewID(), Accepted: true, CredentialId: []byte("x")}}},
		{Message: &authorityv1.DeviceMessage_SyncApplied{SyncApplied: &authorityv1.SyncApplied{Kind: "settings", Version: 1, Refused: "no"}}},
		{Message: &authorityv1.DeviceMessage_PushEnd{PushEnd: &authorityv1.PushEnd{Id: factor.NewID(), Outcome: "denied"}}},
	} {
		f.Add(marshal(f, m))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m := new(authorityv1.DeviceMessage)
		if unmarshal(b, m) != nil {
			return
		}
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		st := &stream{s: w.link, device: d.id, who: &caller{Identity: enrol.Identity{Device: d.id, Expires: w.now().Add(time.Hour)}, cancel: cancel}, ctx: ctx, wire: &sink{ctx: ctx}}
		st.receive(m)
		st.tasks.Wait()
		st.mu.Lock()
		defer st.mu.Unlock()
		if len(st.retries) != 0 || st.postponed != 0 {
			t.Errorf("the database did not take %v", m)
		}
	})
}

// sink is a stream that takes everything.
type sink struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *sink) Send(*authorityv1.AuthorityMessage) error  { return nil }
func (s *sink) Recv() (*authorityv1.DeviceMessage, error) { return nil, io.EOF }
func (s *sink) Context() context.Context                  { return s.ctx }
