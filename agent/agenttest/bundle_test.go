//go:build linux

package agenttest

import (
	"archive/tar"
	"compress/gzip"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"
)

// bundle makes a support bundle and returns what is in it.
func (a *agent) bundle(name string, args ...string) map[string]string {
	a.t.Helper()
	path := filepath.Join(a.dir, name)
	got := a.command("", append([]string{"support-bundle", "--out", path}, args...)...)
	if got.exit != 0 {
		a.t.Fatalf("exit %d: %s%s", got.exit, got.out, got.errOut)
	}
	st, err := os.Lstat(path)
	must(a.t, err)
	if st.Mode() != 0o600 {
		a.t.Errorf("the bundle has mode %v", st.Mode())
	}
	f, err := os.Open(path)
	must(a.t, err)
	defer f.Close()
	packed, err := io.ReadAll(f)
	must(a.t, err)
	files := map[string]string{"what the command says": got.out + got.errOut, "the archive's bytes": string(packed)}
	z, err := gzip.NewReader(strings.NewReader(string(packed)))
	must(a.t, err)
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		must(a.t, err)
		text, err := io.ReadAll(r)
		must(a.t, err)
		files[strings.TrimPrefix(h.Name, "sallyport-support/")] = string(text)
	}
}

// TestTheSupportBundleHoldsNothingSecret: a bundle is mailed to strangers. Whatever is
// secret in the state, the configuration, the PAM stacks and the logs of a real agent is
// looked for in it; and it is no empty bundle.
func TestTheSupportBundleHoldsNothingSecret(t *testing.T) {
	need(t)
	canary := canaries{"password in a comment of the configuration": "canary-Horse-in-comment", "password of another PAM module": "canary-Horse-in-pam",
		"password in a log": "canary-Horse-in-log", "token in a log": "canaryTokenZm9vYmFyYmF6cXV4MTIz", "password for a name": "canary-Horse-as-name", "password for a code": "canary-Horse-as-code"}
	a := startAgent(t, `# password = "canary-Horse-in-comment"`, "[policy]", `ask = "required"`, "[enrolment]", "at_login = true")
	u, seed := newUser(t), random(t, 20)
	canary.seed(t, "seed", seed)
	must(t, errorOf(a.command("otpauth://totp/x:y?secret="+canary["seed"]+"&digits=8\n", "enroll", u.name, "--uri-stdin")))
	var made struct {
		URI      string   `json:"otpauth_uri"`
		Recovery []string `json:"recovery_codes"`
	}
	v := newUser(t)
	a.cli(&made, "enroll", v.name, "--no-confirm")
	raw, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(secretOf(t, made.URI))
	must(t, err)
	canary.seed(t, "new seed", raw)
	canary.codes("recovery code", made.Recovery...)
	var bypass, window struct{ Code string }
	a.cli(&bypass, "bypass", v.name, "--reason", "phone at home")
	canary.codes("bypass code", bypass.Code)
	a.cli(&window, "enrolment", "open", newUser(t).name, "--code")
	canary.codes("code to enrol with", window.Code)

	// What people type, also in the wrong place; and what is in the state directory.
	code, err := hotp.GenerateCodeCustom(canary["seed"], uint64(time.Now().Unix()/30), hotp.ValidateOpts{Digits: otp.DigitsEight})
	must(t, err)
	canary.codes("code", code)
	wantPAM(t, a.pam("chatty", u, code), 0)
	_ = a.pam("chatty", u, canary["password for a code"])
	_ = a.pam("chatty", &account{name: canary["password for a name"]}, code)
	_ = a.pam("chatty", v, made.Recovery[0])
	kept := 0
	must(t, filepath.WalkDir(a.state, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || !strings.Contains(d.Name(), "key") {
			return err
		}
		key, err := os.ReadFile(path)
		if n := len(key); n >= 16 {
			kept++
			for what, text := range map[string]string{"raw": string(key), "hex": hex.EncodeToString(key), "base64": base64.StdEncoding.EncodeToString(key), "its end": string(key[n-16:])} {
				canary["the vault's key "+d.Name()+", "+what] = text
			}
		}
		return err
	}))
	if kept == 0 {
		t.Error("no key was found in the state directory")
	}

	// Other programs' secrets, where the bundle looks: a PAM file and a log.
	stack := "/etc/pam.d/sallyport-canary"
	t.Cleanup(func() {
		passwdMu.Lock() // newRules copies /etc
		defer passwdMu.Unlock()
		must(t, os.Remove(stack))
	})
	write(t, stack, "auth required pam_mysql.so user=pam passwd=canary-Horse-in-pam deny=3\nauth required pam_sallyport.so debug\n")
	log := "/var/log/auth.log"
	before, err := os.ReadFile(log)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	t.Cleanup(func() { write(t, log, string(before)) })
	write(t, log, fmt.Sprintf("%s%s%ssshd[77]: pam_sallyport(sshd:auth): password=canary-Horse-in-log\nsshd[78]: pam_sallyport: Bearer canaryTokenZm9vYmFyYmF6cXV4MTIz, user %s typed %s, %s and %s at 1.2.3.4\n",
		before, prefixed(syslog.String()), prefixed(a.log.String()), v.name, code, made.Recovery[1], made.URI))

	check := func(what string, files map[string]string) {
		t.Helper()
		for name, text := range files {
			canary.missing(t, what+": "+name, text)
		}
	}
	running := a.bundle("running.tar.gz")
	check("of a running agent", running)
	for name, says := range map[string]string{"status.txt": "healthy", "events.jsonl": `"user":"` + u.name + `"`, "config.txt": "policy.ask = 'required'", "pam.txt": "pam_mysql.so user=... passwd=[removed] deny=3",
		"log.txt": "sshd[78]: pam_sallyport: Bearer [removed]", "files.txt": " keychain/", "doctor.txt": "failed,", "MANIFEST.txt": "Never in it:"} {
		if !strings.Contains(running[name], says) {
			t.Errorf("no %q in %s:\n%s", says, name, running[name])
		}
	}
	nameless := a.bundle("nameless.tar.gz", "--redact-users")
	check("without names", nameless)
	for name, text := range nameless {
		if strings.Contains(text, u.name) || strings.Contains(text, v.name) {
			t.Errorf("%s names somebody:\n%s", name, text)
		}
	}
	a.kill()
	dead := a.bundle("dead.tar.gz")
	check("of a dead agent", dead)
	if !strings.Contains(dead["status.txt"], "not running") || !strings.Contains(dead["MANIFEST.txt"], "the agent is not running") || !strings.Contains(dead["config.txt"], "policy.ask = 'required'") {
		t.Errorf("%s\n%s", dead["MANIFEST.txt"], dead["status.txt"])
	}
	if got := a.command("", "support-bundle", "--out", filepath.Join(a.dir, "dead.tar.gz")); got.exit != 6 {
		t.Errorf("it writes over a file: exit %d", got.exit)
	}
}

// prefixed makes lines such as syslogd(8) writes them.
func prefixed(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString("sallyport: " + strings.TrimSuffix(line, "\n") + "\n")
	}
	return b.String()
}
