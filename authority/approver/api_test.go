package approver

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/authority/store"
	"sallyport/internal/factor/push"
	"sallyport/internal/organisation"
	"sallyport/internal/testkit/passkey"
)

// says wants a reply's status and error code; "" is none.
func (r reply) says(t *testing.T, status int, code string) {
	t.Helper()
	if r.status != status || r.field("error") != code {
		t.Errorf("got %d %q, want %d %q", r.status, r.body, status, code)
	}
	if code != "" && r.field("text") == "" {
		t.Errorf("nothing is said to the person: %q", r.body)
	}
}

func TestEnrolmentAtADevice(t *testing.T) {
	w := newWorld(t)
	p := phone{key: passkey.New(w.rp())}
	id, secret, _ := w.code("LAPTOP", "alice")
	w.ask("GET", "enrolment/"+id, "", nil).says(t, 200, "")
	body, token := p.posts(id, secret, "LAPTOP", "alice")
	w.ask("POST", "enrolment/"+id, "", body).says(t, 202, "")
	w.ask("POST", "enrolment/"+id, "", body).says(t, 202, "") // again: the first answer was lost

	// Until the computer has decided, the token opens nothing.
	w.ask("GET", "challenges", token, nil).says(t, 401, "signed_out")
	if r := w.ask("GET", "enrolment/"+id+"/result", token, nil); r.field("state") != "waiting" {
		t.Errorf("%+v", r)
	}
	w.ask("GET", "enrolment/"+id+"/result", "", nil).says(t, 404, "not_found")
	w.ask("GET", "enrolment/"+id+"/result", base64.StdEncoding.EncodeToString(make([]byte, 32)), nil).says(t, 404, "not_found")
	w.ask("GET", "enrolment/"+id, "", nil).says(t, 404, "not_found") // one key

	another := phone{key: passkey.New(w.rp())}
	theirs, _ := another.posts(id, secret, "LAPTOP", "alice")
	w.ask("POST", "enrolment/"+id, "", theirs).says(t, 409, "used")

	w.update(func(tx store.Tx) error { return w.judge(tx, id) })
	r := w.ask("GET", "enrolment/"+id+"/result", token, nil)
	if r.field("state") != "accepted" || !strings.Contains(r.body, `"computer":"laptop-17"`) {
		t.Errorf("%+v", r)
	}
	w.ask("GET", "challenges", token, nil).says(t, 200, "")
	if strings.Contains(w.log.String(), token) || strings.Contains(w.log.String(), id) {
		t.Error("the log holds a token or an id")
	}
}

func TestTheComputerRefusesAWrongMAC(t *testing.T) {
	w := newWorld(t)
	p := phone{key: passkey.New(w.rp())}
	id, _, _ := w.code("LAPTOP", "alice")
	body, token := p.posts(id, []byte("a secret that is not in this code"), "LAPTOP", "alice")
	w.ask("POST", "enrolment/"+id, "", body).says(t, 202, "")
	w.update(func(tx store.Tx) error { return w.judge(tx, id) })
	if r := w.ask("GET", "enrolment/"+id+"/result", token, nil); r.field("state") != "refused" || r.field("text") == "" {
		t.Errorf("%+v", r)
	}
	w.ask("GET", "session", token, nil).says(t, 401, "signed_out")
}

func TestTheAuthoritysOwnEnrolment(t *testing.T) {
	w := newWorld(t)
	p := phone{key: passkey.New(w.rp())}
	id, secret, _ := w.code("", "alice")
	body, token := p.posts(id, secret, "", "alice")
	w.ask("POST", "enrolment/"+id, "", body).says(t, 202, "")
	if r := w.ask("GET", "enrolment/"+id+"/result", token, nil); w.completed != 1 || r.field("state") != "accepted" || !strings.Contains(r.body, `"computer":""`) {
		t.Errorf("completed %d times: %+v", w.completed, r)
	}
}

func TestAComputerThatDoesNotAnswerInTime(t *testing.T) {
	w := newWorld(t)
	p := phone{key: passkey.New(w.rp())}
	id, secret, _ := w.code("LAPTOP", "alice")
	body, token := p.posts(id, secret, "LAPTOP", "alice")
	w.ask("POST", "enrolment/"+id, "", body).says(t, 202, "")
	w.pass(11 * time.Minute)
	if r := w.ask("GET", "enrolment/"+id+"/result", token, nil); r.field("state") != "refused" {
		t.Errorf("%+v", r)
	}
	id, secret, _ = w.code("LAPTOP", "alice")
	w.pass(11 * time.Minute)
	body, _ = p.posts(id, secret, "LAPTOP", "alice")
	w.ask("GET", "enrolment/"+id, "", nil).says(t, 404, "not_found")
	w.ask("POST", "enrolment/"+id, "", body).says(t, 409, "used")
}

func TestEnrolmentTakesNoBadKeys(t *testing.T) {
	w := newWorld(t)
	good := phone{key: passkey.New(w.rp())}
	id, secret, _ := w.code("LAPTOP", "alice")
	for name, c := range map[string]struct {
		code   string
		change func(m map[string]any)
	}{
		"a MAC of 31 bytes":       {"bad_request", func(m map[string]any) { m["mac"] = make([]byte, 31) }},
		"a token of 16 bytes":     {"bad_request", func(m map[string]any) { m["token"] = make([]byte, 16) }},
		"no name":                 {"bad_request", func(m map[string]any) { m["phone"] = "" }},
		"a long name":             {"bad_request", func(m map[string]any) { m["phone"] = strings.Repeat("x", 65) }},
		"an unknown field":        {"bad_request", func(m map[string]any) { m["user"] = "bob" }},
		"another passkey's id":    {"bad_passkey", func(m map[string]any) { m["credential_id"] = []byte("another") }},
		"a key that is none":      {"bad_passkey", func(m map[string]any) { m["public_key"] = []byte("key") }},
		"nobody verified":         {"bad_passkey", func(m map[string]any) { m["authenticator_data"].([]byte)[32] &^= passkey.UserVerified }},
		"another site's":          {"bad_passkey", func(m map[string]any) { m["authenticator_data"].([]byte)[0] ^= 1 }},
		"nothing but a passkey":   {"bad_request", func(m map[string]any) { delete(m, "mac") }},
		"base64 that is not":      {"bad_request", func(m map[string]any) { m["mac"] = "%%%" }},
		"a token of somebody's":   {"bad_request", func(m map[string]any) { m["token"] = w.enrolled("LAPTOP", "bob").token }},
		"an enrolment of nowhere": {"not_found", nil},
	} {
		body, _ := good.posts(id, secret, "LAPTOP", "alice")
		at, status := id, 400
		if c.change == nil {
			at, status = push.NewID(), 404
		} else {
			c.change(body)
		}
		t.Run(name, func(t *testing.T) { w.ask("POST", "enrolment/"+at, "", body).says(t, status, c.code) })
	}
	body, _ := good.posts(id, secret, "LAPTOP", "alice")
	w.ask("POST", "enrolment/"+id, "", body).says(t, 202, "") // nothing of it was kept
}

// opens opens the page with the passkey.
func (p phone) opens(w *world, change func(m map[string]any)) reply {
	r := w.ask("POST", "session/begin", "", struct{}{})
	var begun struct{ Nonce []byte }
	_ = json.Unmarshal([]byte(r.body), &begun)
	body := wire(p.key.Assert(push.SessionDigest(begun.Nonce)))
	body["nonce"] = begun.Nonce
	if change != nil {
		change(body)
	}
	return w.ask("POST", "session", "", body)
}

func TestOpenWithThePasskey(t *testing.T) {
	w := newWorld(t)
	p := w.enrolled("LAPTOP", "alice")
	r := p.opens(w, nil)
	r.says(t, 200, "")
	second := r.field("token")
	r = w.ask("GET", "session", second, nil)
	r.says(t, 200, "")
	if !strings.Contains(r.body, `"user":"alice","computer":"laptop-17","phone":"Pixel 9"`) {
		t.Error(r.body)
	}
	// Signing out ends one session, not the other.
	w.ask("DELETE", "session", second, nil).says(t, 204, "")
	w.ask("GET", "session", second, nil).says(t, 401, "signed_out")
	w.ask("GET", "session", p.token, nil).says(t, 200, "")
}

func TestAReplayedSessionNonceIsRefused(t *testing.T) {
	w := newWorld(t)
	p := phone{key: passkey.NewSynced(w.rp())} // without a counter, which would refuse it too
	id, secret, _ := w.code("LAPTOP", "alice")
	body, _ := p.posts(id, secret, "LAPTOP", "alice")
	w.ask("POST", "enrolment/"+id, "", body).says(t, 202, "")
	w.update(func(tx store.Tx) error { return w.judge(tx, id) })

	var posted map[string]any
	p.opens(w, func(m map[string]any) { posted = m }).says(t, 200, "")
	w.ask("POST", "session", "", posted).says(t, 409, "used")
	p.opens(w, nil).says(t, 200, "") // a fresh one

	p.opens(w, func(m map[string]any) { w.pass(nonceLife) }).says(t, 409, "used")
	p.opens(w, func(m map[string]any) { m["nonce"].([]byte)[3] ^= 1 }).says(t, 409, "used")
	p.opens(w, func(m map[string]any) { m["nonce"] = make([]byte, nonceSize) }).says(t, 409, "used")
	p.opens(w, func(m map[string]any) { m["nonce"] = []byte{} }).says(t, 409, "used")

	// How often one phone may do this is bounded, and what is kept of it goes.
	for range maxNonces {
		p.opens(w, nil)
	}
	p.opens(w, nil).says(t, 429, "rate_limited")
	w.pass(nonceLife)
	p.opens(w, nil).says(t, 200, "")
}

func TestNoSessionWithoutThePasskey(t *testing.T) {
	w := newWorld(t)
	p := w.enrolled("LAPTOP", "alice")
	stranger := phone{key: passkey.New(w.rp())}
	unknown := stranger.opens(w, nil)
	unknown.says(t, 403, "bad_passkey")

	forged := stranger.opens(w, func(m map[string]any) { m["credential_id"] = p.key.ID })
	forged.says(t, 403, "bad_passkey")
	if unknown.body != forged.body {
		t.Error("an id that is known can be told from one that is not")
	}
	p.opens(w, func(m map[string]any) { m["signature"].([]byte)[9] ^= 1 }).says(t, 403, "bad_passkey")
	p.opens(w, func(m map[string]any) {
		for k, v := range wire(p.key.Assert(push.Digest([]byte("a login"), push.Approve, "42"))) {
			m[k] = v
		}
	}).says(t, 403, "bad_passkey")
	p.key.Origin = "https://evil.example.com"
	p.opens(w, nil).says(t, 403, "bad_passkey")
	p.key.Origin = w.rp().Origin
	p.key.Flags &^= passkey.UserVerified
	p.opens(w, nil).says(t, 403, "bad_passkey")
	p.key.Flags |= passkey.UserVerified
	p.opens(w, nil).says(t, 200, "")
	// A copy of the key is behind.
	p.key.Counter--
	p.opens(w, nil).says(t, 403, "bad_passkey")
}

func TestASessionEnds(t *testing.T) {
	w := newWorld(t)
	p := w.enrolled("LAPTOP", "alice")
	for range 3 {
		w.pass(maxIdle - time.Hour)
		w.ask("GET", "session", p.token, nil).says(t, 200, "") // using it keeps it
	}
	w.pass(maxIdle + time.Minute)
	w.ask("GET", "session", p.token, nil).says(t, 401, "signed_out")

	// With the phone that was removed.
	p = w.enrolled("LAPTOP", "alice")
	w.update(func(tx store.Tx) error {
		a, err := tx.ApproverByCredential(p.key.ID)
		if err != nil {
			return err
		}
		return tx.RemoveApprover(a.ID)
	})
	w.ask("GET", "session", p.token, nil).says(t, 401, "signed_out")
}

func TestThereAreNoMoreSessionsThanAPhoneNeeds(t *testing.T) {
	w := newWorld(t)
	p := w.enrolled("LAPTOP", "alice")
	for range maxSessions {
		w.pass(time.Minute)
		p.opens(w, nil).says(t, 200, "")
	}
	w.ask("GET", "session", p.token, nil).says(t, 401, "signed_out") // the oldest made room
	w.view(func(tx store.Tx) error {
		a, err := tx.ApproverByCredential(p.key.ID)
		if err != nil {
			return err
		}
		if list, err := tx.Sessions(a.ID); err != nil || len(list) != maxSessions {
			t.Errorf("%d sessions, %v", len(list), err)
		}
		return nil
	})
}

func TestAnswer(t *testing.T) {
	for _, d := range []push.Decision{push.Approve, push.Deny, push.Report} {
		t.Run(string(d), func(t *testing.T) {
			w := newWorld(t)
			p := w.enrolled("LAPTOP", "alice")
			live := w.login(sshLogin, "LAPTOP", p.key.ID)
			id := live.Challenge.ID
			r := w.ask("GET", "challenges", p.token, nil)
			var list struct {
				Now        int64
				Challenges []waiting
			}
			if err := json.Unmarshal([]byte(r.body), &list); err != nil || len(list.Challenges) != 1 || !bytes.Equal(list.Challenges[0].Challenge, live.Bytes) || list.Now != w.now().Unix() {
				t.Fatalf("%+v, %v", r, err)
			}
			number := ""
			if d == push.Approve {
				number = live.Number
			}
			body := p.answers(live, d, number)
			w.ask("POST", "challenges/"+id+"/answer", p.token, body).says(t, 202, "")
			w.ask("POST", "challenges/"+id+"/answer", p.token, body).says(t, 409, "used")
			if r := w.ask("GET", "challenges/"+id, p.token, nil); r.field("state") != "answered" {
				t.Errorf("%+v", r)
			}
			w.update(func(tx store.Tx) error { return w.verify(tx, id) })
			want := map[push.Decision]string{push.Approve: "approved", push.Deny: "denied", push.Report: "reported"}[d]
			if r := w.ask("GET", "challenges/"+id, p.token, nil); r.field("state") != "ended" || r.field("outcome") != want {
				t.Errorf("%+v, want %s", r, want)
			}
			r = w.ask("GET", "history", p.token, nil)
			if !strings.Contains(r.body, `"outcome":"`+want+`"`) {
				t.Errorf("the history: %+v", r)
			}
			if r = w.ask("GET", "challenges", p.token, nil); strings.Contains(r.body, `"last":null`) == (d == push.Approve) {
				t.Errorf("the last approval after %s: %+v", d, r)
			}
		})
	}
}

func TestBadAnswersLeaveTheLoginOpen(t *testing.T) {
	w := newWorld(t)
	p := w.enrolled("LAPTOP", "alice")
	live := w.login(sshLogin, "LAPTOP", p.key.ID)
	path := "challenges/" + live.Challenge.ID + "/answer"
	for name, change := range map[string]func(m map[string]any){
		"decision":      func(m map[string]any) { m["decision"] = "allow" },
		"no decision":   func(m map[string]any) { delete(m, "decision") },
		"the number":    func(m map[string]any) { m["number"] = live.Number },
		"no signature":  func(m map[string]any) { m["signature"] = []byte{} },
		"long":          func(m map[string]any) { m["client_data"] = make([]byte, 2049) },
		"null":          func(m map[string]any) { m["credential_id"] = nil },
		"wrong type":    func(m map[string]any) { m["signature"] = 1 },
		"long key name": func(m map[string]any) { m["credential_id"] = make([]byte, push.MaxCredentialID+1) },
	} {
		body := p.answers(live, push.Approve, live.Number)
		change(body)
		t.Run(name, func(t *testing.T) { w.ask("POST", path, p.token, body).says(t, 400, "bad_request") })
	}
	other := p.answers(live, push.Approve, live.Number)
	other["credential_id"] = []byte("another passkey")
	w.ask("POST", path, p.token, other).says(t, 403, "bad_passkey")
	// A token that was stolen does not use up the one answer.
	for name, change := range map[string]func(m map[string]any){
		"nobody signed":    func(m map[string]any) { m["signature"].([]byte)[9] ^= 1 },
		"another decision": func(m map[string]any) { m["decision"] = "report" },
		"no client data":   func(m map[string]any) { m["client_data"] = []byte("x") },
	} {
		body := p.answers(live, push.Approve, live.Number)
		change(body)
		t.Run(name, func(t *testing.T) { w.ask("POST", path, p.token, body).says(t, 403, "bad_passkey") })
	}
	w.ask("POST", path, "", p.answers(live, push.Approve, live.Number)).says(t, 401, "signed_out")
	w.ask("POST", "challenges/"+push.NewID()+"/answer", p.token, p.answers(live, push.Approve, live.Number)).says(t, 404, "not_found")
	w.ask("POST", path, p.token, p.answers(live, push.Approve, live.Number)).says(t, 202, "")
}

func TestOtherPeoplesLoginsLookLikeNone(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.enrolled("LAPTOP", "alice"), w.enrolled("LAPTOP", "bob")
	elsewhere := w.enrolled("SERVER", "alice")
	live := w.login(push.Challenge{Name: "laptop-17", User: "bob", Service: "sshd"}, "LAPTOP", bob.key.ID)
	missing := w.ask("GET", "challenges/"+push.NewID(), alice.token, nil)
	for name, p := range map[string]phone{"another user": alice, "the same name at another computer": elsewhere} {
		t.Run(name, func(t *testing.T) {
			if r := w.ask("GET", "challenges/"+live.Challenge.ID, p.token, nil); r.status != 404 || r.body != missing.body {
				t.Errorf("%+v", r)
			}
			w.ask("POST", "challenges/"+live.Challenge.ID+"/answer", p.token, p.answers(live, push.Deny, "")).says(t, 404, "not_found")
			if r := w.ask("GET", "challenges", p.token, nil); !strings.Contains(r.body, `"challenges":[]`) {
				t.Errorf("%+v", r)
			}
		})
	}
	// A computer that lists alice's passkey for bob's login does not show it to her.
	mixed := w.login(push.Challenge{Name: "laptop-17", User: "bob", Service: "sudo"}, "LAPTOP", bob.key.ID, alice.key.ID)
	w.ask("GET", "challenges/"+mixed.Challenge.ID, alice.token, nil).says(t, 404, "not_found")
	w.ask("GET", "challenges/"+mixed.Challenge.ID, bob.token, nil).says(t, 200, "")
	w.update(func(tx store.Tx) error { return tx.EndChallenge(live.Challenge.ID, "approved", w.now()) })
	for _, p := range []phone{alice, elsewhere} {
		if r := w.ask("GET", "history", p.token, nil); !strings.Contains(r.body, `"logins":[]`) {
			t.Errorf("%+v", r)
		}
	}

	// A phone that one computer pinned is asked by no other, even of the same person;
	// root there must not learn where else they log in.
	mine := w.login(push.Challenge{Name: "build-server", User: "alice", Service: "sshd"}, "SERVER", elsewhere.key.ID, alice.key.ID)
	w.ask("GET", "challenges/"+mine.Challenge.ID, alice.token, nil).says(t, 404, "not_found")
	w.ask("GET", "challenges/"+mine.Challenge.ID, elsewhere.token, nil).says(t, 200, "")
}

func TestALoginThatEndedCannotBeAnswered(t *testing.T) {
	w := newWorld(t)
	p := w.enrolled("LAPTOP", "alice")
	live := w.login(sshLogin, "LAPTOP", p.key.ID)
	w.pass(61 * time.Second)
	if r := w.ask("GET", "challenges/"+live.Challenge.ID, p.token, nil); r.field("state") != "expired" {
		t.Errorf("%+v", r)
	}
	w.ask("POST", "challenges/"+live.Challenge.ID+"/answer", p.token, p.answers(live, push.Approve, live.Number)).says(t, 409, "used")
	live = w.login(sshLogin, "LAPTOP", p.key.ID)
	w.update(func(tx store.Tx) error { return tx.EndChallenge(live.Challenge.ID, "code", w.now()) })
	w.ask("POST", "challenges/"+live.Challenge.ID+"/answer", p.token, p.answers(live, push.Approve, live.Number)).says(t, 409, "used")
}

func TestSubscription(t *testing.T) {
	w := newWorld(t)
	p := w.enrolled("LAPTOP", "alice")
	subscription := func(endpoint string) string {
		return `{"endpoint":"` + endpoint + `","expirationTime":null,"keys":{"p256dh":"a","auth":"b"}}`
	}
	// What webpush refuses is not kept.
	for _, url := range []string{"http://169.254.169.254/latest", "https://10.0.0.1/", "https://push.example.com.evil.example/"} {
		w.ask("PUT", "subscription", p.token, subscription(url)).says(t, 400, "bad_subscription")
	}
	w.ask("PUT", "subscription", p.token, `{"endpoint":"https://push.example.com/1","more":1}`).says(t, 400, "bad_request")
	rings := func() bool { return strings.Contains(w.ask("GET", "session", p.token, nil).body, `"rings":true`) }
	if rings() {
		t.Error("a subscription that was refused is kept")
	}
	w.ask("PUT", "subscription", p.token, subscription("https://push.example.com/1")).says(t, 204, "")
	if !rings() {
		t.Error("there is no subscription")
	}
	w.view(func(tx store.Tx) error {
		a, err := tx.ApproverByCredential(p.key.ID)
		if err != nil {
			return err
		}
		list, err := tx.Sessions(a.ID)
		if err != nil || len(list) != 1 || string(list[0].Subscription) != subscription("https://push.example.com/1") {
			t.Errorf("%+v, %v", list, err)
		}
		return nil
	})
	w.ask("DELETE", "subscription", p.token, nil).says(t, 204, "")
	if rings() {
		t.Error("there is a subscription still")
	}
}

func TestEveryCallOfASessionNeedsOne(t *testing.T) {
	w := newWorld(t)
	for _, call := range []string{"GET session", "DELETE session", "GET challenges", "GET challenges/x", "POST challenges/x/answer", "GET history", "PUT subscription", "DELETE subscription"} {
		method, path, _ := strings.Cut(call, " ")
		for _, token := range []string{"", "x", base64.StdEncoding.EncodeToString(make([]byte, 32)), base64.StdEncoding.EncodeToString(make([]byte, 31)), base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{0xff}, 32))} {
			w.ask(method, path, token, nil).says(t, 401, "signed_out")
		}
	}
	// No cookie and no query is a token.
	p := w.enrolled("LAPTOP", "alice")
	r := httptest.NewRequest("GET", prefix+"session?token="+p.token, nil)
	r.AddCookie(&http.Cookie{Name: "token", Value: strings.TrimRight(p.token, "=")})
	w.serve(r).says(t, 401, "signed_out")
}

func TestBodiesAreBounded(t *testing.T) {
	w := newWorld(t)
	p := w.enrolled("LAPTOP", "alice")
	live := w.login(sshLogin, "LAPTOP", p.key.ID)
	long := `{"x":"` + strings.Repeat("y", maxBody) + `"}`
	for _, call := range []string{"POST enrolment/x", "POST session", "POST session/begin", "POST challenges/" + live.Challenge.ID + "/answer", "PUT subscription"} {
		method, path, _ := strings.Cut(call, " ")
		// Whitespace is no way round.
		w.ask(method, path, p.token, strings.Repeat(" ", maxBody+1)+"{}").says(t, 413, "too_large")
		w.ask(method, path, p.token, "{}"+strings.Repeat(" ", maxBody+1)).says(t, 413, "too_large")
		if r := w.ask(method, path, p.token, long); r.status != 413 && r.status != 400 {
			t.Errorf("%s: %+v", call, r)
		}
		for _, bad := range []string{"", "null x", "[]", `{"a":`, "{} {}", "\xff", `{"nonce":1}`, strings.Repeat("[", 9000)} {
			w.ask(method, path, p.token, bad).says(t, 400, "bad_request")
		}
		r := httptest.NewRequest(method, prefix+path, strings.NewReader("{}"))
		r.Header.Set("Authorization", "Bearer "+p.token)
		r.Header.Set("Content-Type", "text/plain") // what a form can send
		w.serve(r).says(t, 400, "bad_request")
		w.pass(time.Second)
	}
}

func TestTheAPIAnswersThePagesOriginOnly(t *testing.T) {
	w := newWorld(t)
	w.settings = organisation.Settings{Name: "x", RPID: "example.com", Origin: "https://approve.example.com", API: "https://authority.example.com"}
	ask := func(method, origin string) reply {
		r := httptest.NewRequest(method, prefix+"session", nil)
		r.Header.Set("Origin", origin)
		return w.serve(r)
	}
	r := ask("OPTIONS", "https://approve.example.com")
	if r.status != 204 || r.header.Get("Access-Control-Allow-Origin") != "https://approve.example.com" || r.header.Get("Access-Control-Allow-Headers") != "Authorization, Content-Type" ||
		r.header.Get("Access-Control-Allow-Credentials") != "" {
		t.Errorf("%+v", r)
	}
	if r = ask("GET", "https://approve.example.com"); r.status != 401 || r.header.Get("Access-Control-Allow-Origin") == "" {
		t.Errorf("%+v", r)
	}
	for _, origin := range []string{"https://evil.example.com", "https://authority.example.com", "null", "https://approve.example.com.evil.example", "http://approve.example.com"} {
		for _, method := range []string{"OPTIONS", "GET"} {
			r := ask(method, origin)
			r.says(t, 403, "forbidden_origin")
			if r.header.Get("Access-Control-Allow-Origin") != "" || r.header.Get("Vary") != "Origin" {
				t.Errorf("%s: %+v", origin, r)
			}
		}
	}
	// And the page, which people load from elsewhere, is not here.
	if r := w.serve(httptest.NewRequest("GET", "/", nil)); r.status != 404 || !strings.Contains(r.body, "https://approve.example.com") {
		t.Errorf("%+v", r)
	}
}

func TestStrangersAreLimitedByAddress(t *testing.T) {
	w := newWorld(t)
	p := w.enrolled("LAPTOP", "alice")
	from := func(address, token string) reply {
		r := httptest.NewRequest("GET", prefix+"session", nil)
		r.RemoteAddr = address
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		return w.serve(r)
	}
	for range 100 {
		from("[2001:db8::1]:1", "").says(t, 401, "signed_out")
	}
	r := from("[2001:db8::2]:1", "") // the same network
	r.says(t, 429, "rate_limited")
	if r.header.Get("Retry-After") == "" {
		t.Error("nothing says when to come back")
	}
	from("[2001:db8:0:1::2]:1", "").says(t, 401, "signed_out")
	from("[2001:db8::1]:1", p.token).says(t, 200, "") // whoever has a session is no stranger
	w.pass(time.Second)
	from("[2001:db8::1]:1", "").says(t, 401, "signed_out")
	// A session is limited too, wherever it comes from.
	n := 0
	for from("192.0.2.1:1", p.token).status == 200 {
		if n++; n > 1000 {
			t.Fatal("without end")
		}
	}
	w.pass(time.Minute)
	from("192.0.2.1:1", p.token).says(t, 200, "")
}

// counting is a database that counts how often it is asked.
type counting struct {
	store.Store
	views atomic.Int64
}

func (c *counting) View(ctx context.Context, fn func(store.Tx) error) error {
	c.views.Add(1)
	return c.Store.View(ctx, fn)
}

// TestMadeUpTokensDoNotReachTheDatabase without end; whoever has a session, behind
// the same address, is not kept out.
func TestMadeUpTokensDoNotReachTheDatabase(t *testing.T) {
	w := newWorld(t)
	p := w.enrolled("LAPTOP", "alice")
	o := w.options()
	c := &counting{Store: w.store}
	o.Store = c
	w.handler = Handler(o)
	from := func(token string) reply {
		r := httptest.NewRequest("GET", prefix+"session", nil)
		r.RemoteAddr = "192.0.2.1:1"
		r.Header.Set("Authorization", "Bearer "+token)
		return w.serve(r)
	}
	from(p.token).says(t, 200, "")
	c.views.Store(0)
	made := make([]byte, tokenSize)
	for i := range 5000 {
		binary.BigEndian.PutUint32(made, uint32(i))
		if r := from(base64.StdEncoding.EncodeToString(made)); r.status != 401 && r.status != 429 {
			t.Fatalf("token %d: %d", i, r.status)
		}
	}
	if n := c.views.Load(); n > 1000 {
		t.Errorf("the database was asked %d times", n)
	}
	from(p.token).says(t, 200, "")
}

// TestIdsThatNoDatabaseTakes are of nothing, and no failure of the server's that
// somebody is woken for.
func TestIdsThatNoDatabaseTakes(t *testing.T) {
	w := newWorld(t)
	p := w.enrolled("LAPTOP", "alice")
	for _, id := range []string{"%00", "%ff", "a%00b", strings.Repeat("x", 4000)} {
		for _, path := range []string{"enrolment/" + id, "challenges/" + id} {
			if r := w.ask("GET", path, p.token, nil); r.status != 404 && r.status != 400 {
				t.Errorf("%s: %d", path, r.status)
			}
		}
	}
	if strings.Contains(w.log.String(), "ERROR") {
		t.Errorf("logged: %s", w.log.String())
	}
}

func TestHeaders(t *testing.T) {
	w := newWorld(t)
	for _, path := range []string{"/", "/app.js", "/sw.js", "/config.json", "/nothing", prefix + "session", prefix + "nothing"} {
		r := w.serve(httptest.NewRequest("GET", path, nil))
		for name, want := range map[string]string{
			"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; manifest-src 'self'; worker-src 'self'; " +
				"form-action 'none'; base-uri 'none'; require-trusted-types-for 'script'; trusted-types sallyport; frame-ancestors 'none'",
			"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
			"Strict-Transport-Security": "", "X-Frame-Options": "DENY",
		} {
			if got := r.header.Get(name); got != want {
				t.Errorf("%s: %s is %q", path, name, got)
			}
		}
		want := "no-cache"
		if strings.HasPrefix(path, prefix) {
			want = "no-store"
		}
		if got := r.header.Get("Cache-Control"); got != want && path != "/nothing" {
			t.Errorf("%s: %q", path, got)
		}
	}
	w.settings.API, w.settings.Origin = "https://a.example.com", "https://a.example.com"
	if r := w.serve(httptest.NewRequest("GET", "/", nil)); r.header.Get("Strict-Transport-Security") == "" {
		t.Error("no HSTS over https")
	}
}

func TestThePagesFiles(t *testing.T) {
	w := newWorld(t)
	get := func(path, tag string) reply {
		r := httptest.NewRequest("GET", path, nil)
		if tag != "" {
			r.Header.Set("If-None-Match", tag)
		}
		return w.serve(r)
	}
	r := get("/app.js", "")
	if r.status != 200 || r.header.Get("Content-Type") != "text/javascript; charset=utf-8" {
		t.Errorf("%d %v", r.status, r.header)
	}
	if again := get("/app.js", r.header.Get("ETag")); again.status != 304 {
		t.Errorf("%d", again.status)
	}
	for _, path := range []string{"/../approver.go", "/page/app.js", "/app.go", "/icon", "/.", "/%2e%2e/approver.go"} {
		if r := get(path, ""); r.status == 200 && path != "/." {
			t.Errorf("%s: %+v", path, r.status)
		}
	}
	if r := w.serve(httptest.NewRequest("POST", "/", nil)); r.status != 405 {
		t.Errorf("POST: %d", r.status)
	}
	html := get("/", "").body
	for _, bad := range []string{"style=", "<script>", "onclick", policyMark} {
		if strings.Contains(html, bad) {
			t.Errorf("index.html has %q", bad)
		}
	}
	// Nothing builds HTML out of text.
	for _, name := range []string{"app.js", "api.js", "notify.js", "passkey.js", "words.js", "sw.js"} {
		for _, bad := range []string{"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"} {
			if strings.Contains(get("/"+name, "").body, bad) {
				t.Errorf("%s has %s", name, bad)
			}
		}
	}
	// The worker has no business with passkeys and tokens.
	for _, bad := range []string{"credentials.get", "localStorage", "Authorization", "/api/"} {
		if strings.Contains(get("/sw.js", "").body, bad) {
			t.Errorf("sw.js has %s", bad)
		}
	}
}
