//go:build linux

package agenttest

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"

	loginv1 "sallyport/proto/sallyport/login/v1"
)

// canaries are what must be found nowhere, by what each of them is.
type canaries map[string]string

func (c canaries) seed(t *testing.T, what string, raw []byte) {
	t.Helper()
	text := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(raw)
	c[what] = text
	c[what+", lower case"] = strings.ToLower(text)
	c[what+", hex"] = hex.EncodeToString(raw)
	c[what+", raw"] = string(raw)
}

func (c canaries) codes(what string, codes ...string) {
	for i, code := range codes {
		c[fmt.Sprintf("%s %d", what, i)] = code
		if plain := strings.ReplaceAll(code, "-", ""); plain != code {
			c[fmt.Sprintf("%s %d without dashes", what, i)] = plain
		}
	}
}

var digits = regexp.MustCompile(`^\d+$`)

// missing wants none of them in a text.
func (c canaries) missing(t *testing.T, where, text string) {
	t.Helper()
	for what, value := range c {
		found := strings.Contains(text, value)
		if found && digits.MatchString(value) { // it may be part of a longer number
			found = regexp.MustCompile(`\b` + value + `\b`).MatchString(text)
		}
		if found {
			t.Errorf("%s holds the %s", where, what)
		}
	}
}

func random(t *testing.T, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	_, err := rand.Read(b)
	must(t, err)
	return b
}

// CVE-2024-20292 and its kind: secrets in logs, events, outputs, files, the
// environment. Everything secret that goes in is looked for in everything that
// comes out, but for the one answer whose purpose it is.
func TestNothingSecretLeaks(t *testing.T) {
	need(t)
	a := startAgent(t, "[policy]", `ask = "required"`, "[enrolment]", "at_login = true")
	canary := canaries{}
	shown := map[string]string{} // what commands said that had no secret to show
	// run runs a command whose output may hold nothing.
	run := func(stdin string, args ...string) {
		t.Helper()
		got := a.command(stdin, args...)
		shown["sallyport "+strings.Join(args[:min(2, len(args))], " ")+fmt.Sprintf(" (%d)", len(shown))] = got.out + got.errOut
	}

	// Secrets from outside: on standard input, in files, and malformed.
	u, seed := newUser(t), random(t, 20)
	canary.seed(t, "seed from standard input", seed)
	uri := fmt.Sprintf("otpauth://totp/x:y?secret=%s&digits=8", canary["seed from standard input"])
	must(t, errorOf(a.command(uri+"\n", "enroll", u.name, "--uri-stdin")))
	for name, bad := range map[string]string{"period": "&period=60", "digits": "&digits=7", "algorithm": "&algorithm=MD5", "base32": "!"} {
		raw := random(t, 20)
		canary.seed(t, "seed refused for its "+name, raw)
		run("otpauth://totp/x:y?secret="+canary["seed refused for its "+name]+bad+"\n", "enroll", newUser(t).name, "--uri-stdin")
	}
	raw := random(t, 20)
	canary.seed(t, "seed without its scheme", raw)
	run(canary["seed without its scheme"]+"\n", "enroll", u.name, "--uri-stdin", "--replace")
	for i, file := range []string{"%s\n\" TOTP_AUTH\n%s\n", "%s\n\" HOTP_COUNTER 1\n%s\n", "%s!\n\" TOTP_AUTH\n%s\n"} {
		raw := random(t, 20)
		what, path := fmt.Sprintf("seed of a .google_authenticator (%d)", i), filepath.Join(t.TempDir(), "google")
		canary.seed(t, what, raw)
		emergency := fmt.Sprintf("%08d", 10_000_000+i*7_654_321)
		canary.codes("emergency code", emergency)
		write(t, path, fmt.Sprintf(file, canary[what], emergency))
		must(t, os.Chmod(path, 0o600))
		run("", "import", "google-authenticator", path, "--user", newUser(t).name)
	}
	var oath strings.Builder
	for i, line := range []string{"HOTP/T30/6 %s - %x", "HOTP %s - %x", "HOTP/T60 %s - %x", "HOTP/T30/6 %s 1234 %x", "HOTP/T30/6 %s - %xzz", "nonsense %s - %x", "HOTP/T30/6 at-nobody%.0s - %x"} {
		raw := random(t, 20)
		canary.seed(t, fmt.Sprintf("seed in line %d of a users.oath", i+1), raw)
		fmt.Fprintf(&oath, line+"\n", newUser(t).name, raw)
	}
	path := filepath.Join(t.TempDir(), "users.oath")
	write(t, path, oath.String())
	must(t, os.Chmod(path, 0o600))
	run("", "import", "oath", path)

	// Secrets that the agent makes: each is in one answer, taken here.
	var made struct {
		URI      string   `json:"otpauth_uri"`
		Recovery []string `json:"recovery_codes"`
	}
	v := newUser(t)
	a.cli(&made, "enroll", v.name, "--no-confirm")
	canary["otpauth URI"] = made.URI
	raw, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(secretOf(t, made.URI))
	must(t, err)
	canary.seed(t, "new seed", raw)
	canary.codes("first recovery code", made.Recovery...)
	old := made.Recovery
	a.cli(&made, "recovery", v.name)
	canary.codes("recovery code", made.Recovery...)
	var bypass, window struct{ Code string }
	a.cli(&bypass, "bypass", v.name, "--reason", "test")
	canary.codes("bypass code", bypass.Code)
	w := newUser(t)
	a.cli(&window, "enrolment", "open", w.name, "--code")
	canary.codes("code to enrol with", window.Code)

	// What people type, in the right place and in the wrong one. The PAM module
	// logs all it ever does.
	code := func(secret string, step uint64) string {
		c, err := hotp.GenerateCodeCustom(secret, step, hotp.ValidateOpts{Digits: otp.DigitsEight})
		must(t, err)
		return c
	}
	right := code(canary["seed from standard input"], uint64(time.Now().Unix()/30))
	canary.codes("code", right)
	wantPAM(t, a.pam("chatty", u, right), 0)
	wantPAM(t, a.pam("chatty", u, right), pamAuthErr)
	canary.codes("wrong code", "71940385")
	for range 11 {
		_ = a.pam("chatty", u, "71940385")
	}
	want(t, a.as(u, right), deny, "locked")
	_ = a.pam("chatty", v, old[0])
	_ = a.pam("chatty", v, made.Recovery[0])
	_ = a.pam("chatty", v, bypass.Code)
	canary["password for a code"] = "canary-Correct-Horse-1"
	canary["password for a name"] = "canary-Correct-Horse-2"
	canary["long password"] = "canary-Correct-Horse-3" + strings.Repeat("!", 100)
	canary["too long password"] = "canary-Correct-Horse-4" + strings.Repeat("!", 300)
	for _, typed := range []string{canary["password for a code"], canary["long password"], canary["too long password"], made.URI, canary["new seed"]} {
		_ = a.pam("chatty", v, typed)
		_ = a.as(v, typed)
		_ = a.pam("chatty", &account{name: typed}, typed)
		_ = a.as(&account{name: typed}, typed)
		_ = a.login(v.uid, begin(typed), typed)
	}
	_ = a.pam("chatty", &account{name: canary["password for a name"]}, "")
	_ = a.as(&account{name: canary["password for a name"]}, right)
	// Enrolment at the login shows its secret to the person only.
	st, prompt := a.ask(0, begin(w.name))
	must(t, st.tell(&loginv1.Answer{PromptId: prompt.GetId(), Text: []byte(window.Code)}))
	var r result
	if prompt = st.until(&r); prompt == nil {
		t.Fatal(r)
	}
	p := r.phone(t)
	canary["seed shown at the login"] = p.secret
	must(t, st.tell(&loginv1.Answer{PromptId: prompt.GetId(), Text: []byte(p.code(t, 0))}))
	if prompt = st.until(&r); prompt == nil {
		t.Fatal(r)
	}
	canary.codes("recovery code shown at the login", regexp.MustCompile(`\b[0-9A-Z]{5}-[0-9A-Z]{5}\b`).FindAllString(r.shown(), -1)...)
	st.close()

	// The rest of what there is to do.
	for _, args := range [][]string{{"user", "show", u.name}, {"user", "show", v.name, "--json"}, {"unlock", u.name}, {"config", "check"},
		{"vault", "rekey", "--to", "file", "--yes"}, {"user", "show", "otpauth://" + made.Recovery[3]}, {"import", "pending"}, {"clock", "reset", "--yes"},
		{"user", "remove", u.name, "--yes"}, {"enroll", v.name, "--no-confirm"}} {
		run("", args...)
	}
	for what, text := range shown {
		if strings.Contains(what, "user show") {
			text = strings.ReplaceAll(text, "otpauth://"+made.Recovery[3], "") // typed on this very command line
		}
		canary.missing(t, what, text)
	}
	canary.missing(t, "the agent's command line", proc(t, a, "cmdline"))
	canary.missing(t, "the agent's environment", proc(t, a, "environ"))
	a.kill()
	a.start()
	for what, text := range a.everything() {
		canary.missing(t, what, text)
	}
	a.stop()

	// Everything on the disk, the key apart. What is sealed cannot be read.
	kept := 0
	must(t, filepath.WalkDir(a.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		kept++
		canary.missing(t, strings.TrimPrefix(path, a.dir+"/"), string(content))
		return err
	}))
	if kept < 5 {
		t.Errorf("only %d files were looked at", kept)
	}
	// A damaged record is reported without what is in it.
	db, err := os.ReadFile(filepath.Join(a.state, "vault.db"))
	must(t, err)
	for i := range db {
		if i > 8192 && i%61 == 0 {
			db[i] ^= 0x20
		}
	}
	must(t, os.WriteFile(filepath.Join(a.state, "vault.db"), db, 0o600))
	a.start()
	want(t, a.as(v, made.Recovery[1]), deny, "vault_unavailable")
	for what, text := range a.everything() {
		canary.missing(t, what+", damaged", text)
	}
}

func proc(t *testing.T, a *agent, name string) string {
	t.Helper()
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", a.cmd.Process.Pid, name))
	must(t, err)
	return string(content)
}
