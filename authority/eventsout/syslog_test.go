package eventsout

import (
	"crypto/tls"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/leodido/go-syslog/v4"
	"github.com/leodido/go-syslog/v4/octetcounting"
	"github.com/leodido/go-syslog/v4/rfc5424"

	"sallyport/authority/store"
	"sallyport/internal/event"
)

func TestAMessage(t *testing.T) {
	r := record(t, event.Event{Seq: 7, Name: event.LoginAttempt, User: "maya", Key: "uid:1000", Hook: "pam", Service: "sshd", Remote: "203.0.113.7",
		Verdict: "deny", Reason: "wrong_code", Factor: "totp", Text: `she said "no" [twice]`})
	want := `<85>1 2026-11-22T12:00:00.123456Z laptop-17 sallyport - login_attempt [sallyport@32473 id="d1/v1/7" device="d1" device_name="laptop-17" vault_id="v1" ` +
		`seq="7" kept="2026-11-22T12:00:01.123456789Z" event="login_attempt" user="maya" key="uid:1000" hook="pam" service="sshd" remote="203.0.113.7" ` +
		`verdict="deny" reason="wrong_code" factor="totp"] ` + "\xef\xbb\xbf" + `login_attempt deny wrong_code of maya with totp to sshd from 203.0.113.7: she said "no" [twice]`
	if got := string(Message(r)); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

// TestSeveritiesOfSyslog: facility 10, as RFC 5424 numbers it.
func TestSeveritiesOfSyslog(t *testing.T) {
	for want, e := range map[string]event.Event{
		"<86>1 ": {Name: event.LoginAttempt, Verdict: "allow"},
		"<85>1 ": {Name: event.LoginAttempt, Verdict: "deny", Reason: "cancelled"},
		"<84>1 ": {Name: event.UserLocked},
		"<83>1 ": {Name: event.PushReported},
	} {
		if got := string(Message(record(t, e))); !strings.HasPrefix(got, want) {
			t.Errorf("%+v: %.20s, want %s", e, got, want)
		}
	}
}

// parse reads a message by another's parser.
func parse(t testing.TB, m string) *rfc5424.SyslogMessage {
	t.Helper()
	p, err := rfc5424.NewParser().Parse([]byte(m))
	if err != nil {
		t.Fatalf("%v: %q", err, m)
	}
	return p.(*rfc5424.SyslogMessage)
}

// HAZARD: names with ']', '"', newline, CR, NUL, '%', 300 characters, non-UTF-8: an
// event is one message, whatever somebody typed as a user name.
func TestWhateverAnEventHoldsItIsOneMessage(t *testing.T) {
	for _, s := range []string{`a"b]c\d`, `\"]`, "line\nbreak\r\n<86>1 forged", "nul\x00bell\x07", "100%s%n", strings.Repeat("ü", 4000), "\xff\xfe", "\u202eright to left",
		"\u2028separated", `"] <1>1 - - - - - -`, "日本語", " ", ""} {
		e := event.Event{Seq: 1, Name: event.LoginAttempt, User: s, Key: s, Hook: s, Service: s, Scenario: s, Remote: s, Session: s, Reason: s, Rule: s, By: s, Text: s}
		r := record(t, e)
		r.Name = s
		m := Message(r)
		if len(m) > 8192 || !utf8.Valid(m) || strings.ContainsAny(string(m), "\n\r\x00\x07\u2028\u202e") {
			t.Errorf("%.40q: %d bytes, or a control character in %.200q", s, len(m), m)
		}
		p := parse(t, string(m))
		if sd := (*p.StructuredData)[sdID]; len(*p.StructuredData) != 1 || sd["id"] != "d1/v1/1" || sd["event"] != "login_attempt" {
			t.Errorf("%.40q: %v", s, *p.StructuredData)
		} else if len(s) < 100 && utf8.ValidString(s) && !strings.ContainsAny(s, "\n\r\x00\x07\u2028\u202e") && strings.TrimSpace(s) != "" && sd["user"] != s {
			t.Errorf("the user %q came as %q", s, sd["user"])
		}
		if p.Message == nil || !strings.HasPrefix(*p.Message, "\ufeff") {
			t.Errorf("%.40q: the message is %v", s, p.Message)
		}
	}
	own := NewRecord(store.Event{Seq: 9, Kept: noon, Time: noon, Name: "device_joined", JSON: []byte(`{"text":"x"}`)}, "")
	if got := string(Message(own)); !strings.Contains(got, " - sallyport-authority - device_joined [") || !strings.Contains(got, `id="authority/1795348800123456789/9"`) {
		t.Errorf("the authority's own: %s", got)
	}
	broken := NewRecord(store.Event{Device: "d1", VaultID: "v", Seq: 9, Kept: noon, Time: noon, Name: "login_attempt", JSON: []byte("no\nJSON")}, "laptop")
	parse(t, string(Message(broken)))
}

func server(c *ca) *tls.Config {
	_, _, cert := c.issue("127.0.0.1")
	return &tls.Config{Certificates: []tls.Certificate{cert}}
}

func some(t testing.TB, n int) (list []Record) {
	for i := range n {
		list = append(list, record(t, event.Event{Seq: uint64(i + 1), Name: event.LoginAttempt, User: "maya"}))
	}
	return list
}

func TestSyslogGoesOverTLS(t *testing.T) {
	c := newCA(t)
	r := newReceiver(t, server(c))
	s, err := NewSyslog(SyslogOptions{Address: r.Address, CA: c.File, Confirm: true})
	ok(t, err)
	n, err := s.Send(t.Context(), some(t, 3))
	if n != 3 || err != nil {
		t.Fatalf("%d %v", n, err)
	}
	got := r.messages()
	if len(got) != 3 || !strings.Contains(got[2], `seq="3"`) {
		t.Errorf("%q", got)
	}
	// What stands on the line, by another's parser.
	var line strings.Builder
	for _, m := range got {
		_, _ = fmt.Fprintf(&line, "%d %s", len(m), m)
	}
	read := 0
	octetcounting.NewParser(syslog.WithListener(func(r *syslog.Result) {
		if read++; r.Error != nil {
			t.Errorf("%v", r.Error)
		}
	})).Parse(strings.NewReader(line.String()))
	if read != 3 {
		t.Errorf("another's parser reads %d messages", read)
	}
}

// HAZARD: a TLS server with another's certificate, or that of another name; and one
// that wants ours.
func TestSyslogKnowsItsServer(t *testing.T) {
	c, another := newCA(t), newCA(t)
	r := newReceiver(t, server(c))
	cert, key, _ := c.issue("authority")
	foreignCert, foreignKey, _ := another.issue("authority")
	send := func(o SyslogOptions) (int, error) {
		o.Address, o.Confirm = r.Address, true
		s, err := NewSyslog(o)
		ok(t, err)
		return s.Send(t.Context(), some(t, 1))
	}
	for what, o := range map[string]SyslogOptions{
		"another CA":   {CA: another.File},
		"another name": {CA: c.File, ServerName: "syslog.example.com"},
		"no CA of it":  {},
	} {
		if n, err := send(o); n != 0 || err == nil || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("%s: %d %v", what, n, err)
		}
	}
	if got := r.messages(); len(got) != 0 {
		t.Errorf("it got %q", got)
	}
	strict := server(c)
	strict.ClientAuth, strict.ClientCAs = tls.RequireAndVerifyClientCert, c.pool()
	r = newReceiver(t, strict)
	for what, o := range map[string]SyslogOptions{"no certificate": {CA: c.File}, "another's": {CA: c.File, Cert: foreignCert, Key: foreignKey}} {
		if n, err := send(o); n != 0 || err == nil {
			t.Errorf("%s: %d %v", what, n, err)
		}
	}
	if got := r.messages(); len(got) != 0 {
		t.Errorf("it got %q", got)
	}
	if n, err := send(SyslogOptions{CA: c.File, Cert: cert, Key: key}); n != 1 || err != nil {
		t.Errorf("with our certificate: %d %v", n, err)
	}
	for what, o := range map[string]SyslogOptions{
		"no CA file": {Address: r.Address, CA: "/nonexistent"}, "no certificate in it": {Address: r.Address, CA: key},
		"no key": {Address: r.Address, Cert: cert, Key: "/nonexistent"}, "no port": {Address: "host"},
	} {
		if _, err := NewSyslog(o); err == nil || !strings.Contains(err.Error(), "events_out.syslog.") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestAnEndWithoutAnAnswerIsNoDelivery: TCP took it all, and nobody knows what was
// read. Where a server never answers, that can be said.
func TestAnEndWithoutAnAnswerIsNoDelivery(t *testing.T) {
	c := newCA(t)
	r := newReceiver(t, server(c))
	r.set(func() { r.rude = true })
	for confirm, want := range map[bool]int{true: 0, false: 2} {
		s, err := NewSyslog(SyslogOptions{Address: r.Address, CA: c.File, Confirm: confirm})
		ok(t, err)
		n, err := s.Send(t.Context(), some(t, 2))
		if n != want || (err != nil) != confirm || confirm && !strings.Contains(err.Error(), "events_out.syslog.confirm = false") {
			t.Errorf("confirm %v: %d %v", confirm, n, err)
		}
	}
	r.set(func() { r.rude, r.dieAfter = false, 1 })
	s, err := NewSyslog(SyslogOptions{Address: r.Address, CA: c.File, Confirm: true})
	ok(t, err)
	if n, err := s.Send(t.Context(), some(t, 500)); n != 0 || err == nil {
		t.Errorf("of a server that died: %d %v", n, err)
	}
}

// TestAServerThatHangsHoldsNobodyUp past its time.
func TestAServerThatHangsHoldsNobodyUp(t *testing.T) {
	c := newCA(t)
	config := server(c)
	hang := make(chan struct{})
	defer close(hang)
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { <-hang; return nil, os.ErrClosed }
	r := newReceiver(t, config)
	s, err := NewSyslog(SyslogOptions{Address: r.Address, CA: c.File, Confirm: true})
	ok(t, err)
	ctx, cancel := contextFor(t, 100*time.Millisecond)
	defer cancel()
	if n, err := s.Send(ctx, some(t, 1)); n != 0 || err == nil {
		t.Errorf("%d %v", n, err)
	}
}
