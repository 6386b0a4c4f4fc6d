//go:build linux

package e2e

import (
	"bytes"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/internal/factor/push"
	"sallyport/internal/organisation"
	"sallyport/internal/testkit/sandbox"
	"sallyport/pam/e2e/machine"
)

// canaries are secrets, by what they are.
type canaries map[string][][]byte

// text is a secret as somebody types or reads it; raw one that is bytes, in each
// way they may be written.
func (c canaries) text(what, secret string) { c[what] = append(c[what], []byte(secret)) }
func (c canaries) raw(what string, secret []byte) {
	c[what] = append(c[what], secret, []byte(hex.EncodeToString(secret)), []byte(base64.RawStdEncoding.EncodeToString(secret)), []byte(base64.RawURLEncoding.EncodeToString(secret)))
}

// in says which of them a text holds.
func (c canaries) in(t *testing.T, where string, text []byte) {
	t.Helper()
	for what, forms := range c {
		for _, f := range forms {
			if holds(text, f) {
				t.Errorf("%s holds %s", where, what)
			}
		}
	}
}

// holds says whether a text holds a secret. One that is a number stands by itself:
// the same digits within a longer number, as a time has, are chance.
func holds(text, secret []byte) bool {
	isDigit := func(c byte) bool { return '0' <= c && c <= '9' }
	number := !bytes.ContainsFunc(secret, func(r rune) bool { return r < '0' || r > '9' })
	for at := 0; ; at++ {
		i := bytes.Index(text[at:], secret)
		if i < 0 {
			return false
		}
		at += i
		end := at + len(secret)
		if !number || !(at > 0 && isDigit(text[at-1])) && !(end < len(text) && isDigit(text[end])) {
			return true
		}
	}
}

// files looks into everything below a directory.
func (c canaries) files(t *testing.T, where, dir string) {
	t.Helper()
	n := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) { // SQLite's log comes and goes
			return nil
		}
		n++
		c.in(t, where+": "+strings.TrimPrefix(path, dir), content)
		return err
	})
	if err != nil || n == 0 {
		t.Errorf("%s: %d files, %v", dir, n, err)
	}
}

// TestNothingSecretLeaks plants secrets of every kind at both ends, uses them, and
// looks for them wherever something is written or shown.
func TestNothingSecretLeaks(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	s := newSite(t, allowAtOnce)
	laptop := s.computer("laptop", append([]string{"[push]", "digits = 6"}, often...)...)
	everywhere := canaries{} // what nothing may hold

	spent, err := s.authority.Token([]string{maya})
	ok(t, err)
	thief := s.stranger("thief")
	ok(t, thief.Join(s.authority.Devices, spent, "--name", "thief"))
	open, err := s.authority.Token([]string{zoe})
	ok(t, err)
	if err := laptop.Join(s.authority.Devices, open); err == nil {
		t.Error("a computer joined twice")
	}
	for _, token := range []string{spent, open} {
		parsed, err := organisation.ParseToken(token)
		ok(t, err)
		everywhere.text("a token", token)
		everywhere.raw("a token's secret", parsed.Secret[:])
	}

	// Enrolments, one of which is refused.
	secretOf := func(link string) []byte {
		u, err := url.Parse(link)
		ok(t, err)
		f, err := url.ParseQuery(u.Fragment)
		ok(t, err)
		b, err := base64.RawURLEncoding.DecodeString(f.Get("s"))
		if err != nil || len(b) != 32 {
			t.Fatalf("the link's secret has %d bytes, %v", len(b), err)
		}
		return b
	}
	p := s.phone("Pixel")
	ok(t, laptop.EnrolPush(maya, func(link string) error {
		everywhere.raw("the secret of an enrolment at the computer", secretOf(link))
		return p.Enrol(soon(t), link)
	}))
	if err := laptop.EnrolPush(zoe, func(link string) error {
		everywhere.raw("the secret of an enrolment that was refused", secretOf(link))
		other := strings.Replace(link, "s=", "s=AAAA", 1)
		return s.phone("Evil").Enrol(soon(t), other[:len(link)]) // another secret
	}); err == nil {
		t.Error("a phone that did not know the secret was enrolled")
	}
	var invitation struct{ URL string }
	ok(t, s.authority.Do(&invitation, "user", "enrol", zoe, "--json"))
	q := s.phone("Nokia")
	ok(t, q.Enrol(soon(t), invitation.URL))
	// It made this one itself, and has to keep it until the phone has come.
	shownNowhere := canaries{}
	shownNowhere.raw("the secret of an enrolment at the authority", secretOf(invitation.URL))
	for _, phone := range [][]byte{p.Token, q.Token} {
		everywhere.raw("a page's session token", phone)
	}

	// Codes.
	seed := func(what, uri string) {
		u, err := url.Parse(uri)
		ok(t, err)
		text := u.Query().Get("secret")
		raw, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(text)
		ok(t, err)
		everywhere.text(what, text)
		everywhere.raw(what, raw)
	}
	ok(t, s.authority.Do(nil, "user", "add", carl, "--json"))
	ok(t, s.authority.Do(nil, "device", "allow", "laptop", carl, "--json"))
	var totp struct {
		URI string `json:"otpauth_uri"`
	}
	var recovery, bypass struct{ Codes []string }
	ok(t, s.authority.Do(&totp, "user", "totp", carl, "--json"))
	ok(t, s.authority.Do(&recovery, "user", "recovery", carl, "--json"))
	ok(t, s.authority.Do(&bypass, "user", "bypass", carl, "--for", "1h", "--reason", "canary", "--json"))
	seed("a secret of the authority's making", totp.URI)
	for _, code := range append(recovery.Codes, bypass.Codes...) {
		everywhere.text("a code of the authority's making", code)
		everywhere.text("a code of the authority's making", strings.ReplaceAll(code, "-", ""))
	}
	eventually(t, "carl can log in", func() bool {
		list, err := laptop.Events(0)
		ok(t, err)
		return strings.Contains(eventText(list), "bypass, version 1")
	})
	app, err := machine.NewPhone(totp.URI)
	ok(t, err)
	for _, code := range []string{app.Next(), recovery.Codes[0], bypass.Codes[0], "734019"} {
		l := laptop.login(carl)
		ok(t, l.Type(code))
		v, err := l.Verdict(patience)
		ok(t, err)
		if v.In != (code != "734019") {
			t.Errorf("the verdict is %+v", v)
		}
		everywhere.text("a code that was typed", code)
	}
	for _, code := range laptop.paper[maya] {
		everywhere.text("a recovery code", code)
	}

	// Logins: approved, with a wrong number, by a code, left.
	l := laptop.rings(maya)
	everywhere.text("the number", l.Number)
	answers(t, p, push.Approve, l.Number)
	l.ends(true, "push_approved")
	l = laptop.rings(maya)
	everywhere.text("the number", l.Number)
	everywhere.text("a wrong number", "904531")
	if l.Number != "904531" {
		answers(t, p, push.Approve, "904531")
		l.ends(false, "wrong_number")
	}
	l = laptop.rings(maya)
	everywhere.text("the number", l.Number)
	code := laptop.codes[maya].Next()
	everywhere.text("a code that was typed", code)
	l.types(code, true, "code_accepted")

	// What is no secret is found in all these places: this looks where it should.
	if text, err := os.ReadFile(filepath.Join(s.authority.StateDir, "authority.db-wal")); err != nil || !holds(text, []byte("Pixel")) || !holds([]byte(laptop.Output()), []byte("Pixel")) ||
		!holds([]byte(s.authority.Output()), []byte("Pixel")) || !holds([]byte("a 123456 b"), []byte("123456")) || holds([]byte("0.1234567"), []byte("123456")) {
		t.Errorf("the phone's name is not found where it is: %v", err)
	}

	// What anybody is shown.
	for _, args := range [][]string{{"status"}, {"user", "show", maya}, {"user", "show", carl}, {"user", "list"}, {"phones", maya}, {"events", "--after", "0"}, {"doctor"}, {"config", "show"}} {
		for _, more := range [][]string{nil, {"--json"}} {
			out, errs, _, err := laptop.Do("", append(args, more...)...)
			ok(t, err)
			everywhere.in(t, "sallyport "+strings.Join(args, " "), []byte(out+errs))
			shownNowhere.in(t, "sallyport "+strings.Join(args, " "), []byte(out+errs))
		}
	}
	for _, args := range [][]string{{"status"}, {"token", "list"}, {"device", "list"}, {"device", "show", "laptop"}, {"user", "list"}, {"phone", "list"}, {"events", "-n", "10000"}, {"manifest", "pending"}, {"config", "show"}} {
		out, err := s.authority.Run("", args...)
		if err != nil && args[0] != "status" {
			t.Error(err)
		}
		everywhere.in(t, "sallyport-authority "+strings.Join(args, " "), []byte(out))
		shownNowhere.in(t, "sallyport-authority "+strings.Join(args, " "), []byte(out))
	}
	// What is written, while it runs and after.
	for range 2 {
		everywhere.in(t, "the agent's log", []byte(laptop.Output()))
		everywhere.in(t, "the authority's log", []byte(s.authority.Output()))
		shownNowhere.in(t, "the agent's log", []byte(laptop.Output()))
		shownNowhere.in(t, "the authority's log", []byte(s.authority.Output()))
		everywhere.files(t, "the computer", laptop.Dir())
		everywhere.files(t, "the authority", s.authority.StateDir)
		ok(t, laptop.Stop())
		ok(t, s.authority.Stop())
	}
	if len(everywhere) < 11 {
		t.Errorf("only %d kinds of canaries were planted", len(everywhere))
	}
}
