package approver

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"sallyport/internal/factor/push"
)

// FuzzAPI: whatever is sent, the API answers with JSON, with no error of the
// server's, and what it lets pass is what a phone may do.
func FuzzAPI(f *testing.F) {
	w := newWorld(f)
	p := w.enrolled("LAPTOP", "alice")
	bob := w.enrolled("LAPTOP", "bob")
	theirs := w.login(push.Challenge{Name: "laptop-17", User: "bob", Service: "sshd"}, "LAPTOP", bob.key.ID)
	id, _, _ := w.code("LAPTOP", "alice")
	f.Add("POST", "session/begin", `{}`)
	f.Add("POST", "session", `{"nonce":"AAAA","credential_id":"AA==","authenticator_data":"AA==","client_data":"AA==","signature":"AA=="}`)
	f.Add("POST", "enrolment/"+id, `{"credential_id":"AA==","public_key":"AA==","authenticator_data":"AA==","phone":"x","mac":"`+strings.Repeat("A", 43)+`=","token":"`+strings.Repeat("A", 43)+`="}`)
	f.Add("POST", "challenges/"+theirs.Challenge.ID+"/answer", `{"decision":"approve","credential_id":"AA==","authenticator_data":"AA==","client_data":"AA==","signature":"AA=="}`)
	f.Add("PUT", "subscription", `{"endpoint":"https://push.example.com/1","expirationTime":1e300,"keys":{"p256dh":"","auth":""}}`)
	f.Add("GET", "challenges/%00", ``)
	f.Fuzz(func(t *testing.T, method, path, body string) {
		// Mutating paths makes many that no client can send.
		for _, c := range []byte(path) {
			if c <= ' ' || c > '~' || c == '%' || c == '?' || c == '#' {
				return
			}
		}
		switch method {
		case "GET", "POST", "PUT":
		default:
			return
		}
		r := httptest.NewRequest(method, prefix+strings.TrimLeft(path, "/"), strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Authorization", "Bearer "+p.token)
		w.pass(time.Second) // fills the buckets; nothing lasts long enough to end
		got := w.serve(r)
		if got.status >= 500 {
			t.Errorf("%s %s: %d %s", method, path, got.status, got.body)
		}
		if got.status >= 400 && got.status != 405 && got.field("error") == "" {
			t.Errorf("%s %s: %d %q", method, path, got.status, got.body)
		}
	})
}
