package cli

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"sallyport/authority/enrol"
	"sallyport/authority/server"
	"sallyport/internal/factor/offline"
	"sallyport/internal/organisation"
)

// TestAChallengeIsAnsweredByTheCommand, beside a running server or without one.
func TestAChallengeIsAnsweredByTheCommand(t *testing.T) {
	s := newShell(t)
	s.init()
	s.ok("user", "add", "maya")
	s.ok("user", "add", "ben")
	key := offline.NewKey()
	device := ""
	a := &app{config: s.config}
	ok(t, a.with(t.Context(), func(au *server.Authority) error {
		var token struct{ Token string }
		s.json(&token, "token", "create", "--user", "maya")
		parsed, err := organisation.ParseToken(token.Token)
		ok(t, err)
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		ok(t, err)
		csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, private)
		ok(t, err)
		j, err := au.Enrol.Register(t.Context(), enrol.JoinRequest{Token: parsed.Secret[:], CSR: csr, Name: "laptop", SealingKey: make([]byte, 32), BypassKey: key, Version: "1", Platform: "linux/amd64"})
		ok(t, err)
		device = j.Device
		return nil
	}))
	c := offline.NewChallenge(device, "maya")
	want, err := offline.Answer(key, device, "maya", c, time.Hour)
	ok(t, err)
	out := s.ok("bypass", "answer", "maya", "--challenge", strings.ToLower(c.String()), "--reason", "on a plane")
	if first, rest, _ := strings.Cut(out, "\n"); first != strings.ReplaceAll(want.Reveal(), "-", " - ") || !strings.Contains(rest, "for maya on laptop, until 1h after the challenge was first shown") {
		t.Errorf("%s", out)
	}
	var answer struct{ User, Device, Code, For string }
	s.json(&answer, "bypass", "answer", "maya", "--challenge", c.String(), "--on", "laptop", "--for", "24h", "--reason", "on a plane")
	if day, _ := offline.Answer(key, device, "maya", c, 24*time.Hour); answer.Code != day.Reveal() || answer.Device != device || answer.User != "maya" {
		t.Errorf("%+v", answer)
	}
	if events := s.ok("events", "--json"); strings.Contains(events, want.Reveal()) || !regexp.MustCompile(`"offline_bypass_answered".*on a plane`).MatchString(events) {
		t.Errorf("%s", events)
	}

	s.fails(ExitUsage, "usage:", "bypass", "answer")
	s.fails(ExitUsage, "8 letters and digits", "bypass", "answer", "maya", "--reason", "why")
	s.fails(ExitUsage, "needs a reason", "bypass", "answer", "maya", "--challenge", c.String())
	s.fails(ExitUsage, "8 letters and digits", "bypass", "answer", "maya", "--challenge", "K7QF", "--reason", "why")
	s.fails(ExitUsage, "15m, 1h, 4h or 24h", "bypass", "answer", "maya", "--challenge", c.String(), "--for", "2h", "--reason", "why")
	s.fails(ExitNotFound, `no user "noah"`, "bypass", "answer", "noah", "--challenge", c.String(), "--on", "laptop", "--reason", "why")
	s.fails(ExitUsage, "not allowed on laptop", "bypass", "answer", "ben", "--challenge", c.String(), "--on", "laptop", "--reason", "why")
	s.fails(ExitNotFound, "no device", "bypass", "answer", "maya", "--challenge", c.String(), "--on", "desk", "--reason", "why")
	file := filepath.Join(s.dir, "state", "keys", "escrow.key")
	ok(t, os.Rename(file, file+".away"))
	s.fails(ExitFailed, "escrow.key is not there: put back the backup", "bypass", "answer", "maya", "--challenge", c.String(), "--reason", "why")
	s.ok("device", "list") // and nothing else breaks
}
