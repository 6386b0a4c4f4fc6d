//go:build unix

// A computer with Windows joins an authority that runs elsewhere; for Windows there
// is none.

package link

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport/internal/clock"
	"sallyport/internal/event"
	"sallyport/internal/factor"
	"sallyport/internal/factor/push"
	"sallyport/internal/testkit/passkey"
	"sallyport/internal/testkit/port"
)

// realAuthority is the shipped program, driven from outside.
type realAuthority struct {
	t              *testing.T
	program, file  string
	devices, pages string // addresses
	process        *exec.Cmd
	ended          chan struct{}
}

func startAuthority(t *testing.T) *realAuthority {
	t.Helper()
	goCommand, err := exec.LookPath("go")
	if err != nil {
		t.Skip("the go command is not installed")
	}
	dir := t.TempDir()
	a := &realAuthority{t: t, program: filepath.Join(dir, "sallyport-authority"), file: filepath.Join(dir, "authority.toml"), devices: freeAddress(t), pages: freeAddress(t)}
	if out, err := exec.Command(goCommand, "build", "-o", a.program, "../../authority").CombinedOutput(); err != nil {
		t.Fatalf("the authority does not build: %v\n%s", err, out)
	}
	a.command("init", "--name", "Example Ltd", "--origin", a.origin(), "--tls", "none", "--state-dir", filepath.Join(dir, "state"),
		"--listen-devices", a.devices, "--listen-web", a.pages, "--listen-metrics", freeAddress(t), "--device-host", "127.0.0.1")
	a.run()
	return a
}

// run starts the server and waits until it takes connections.
func (a *realAuthority) run() {
	a.t.Helper()
	var log bytes.Buffer
	p := exec.Command(a.program, "--config", a.file, "run")
	p.Stdout, p.Stderr = &log, &log
	if err := p.Start(); err != nil {
		a.t.Fatal(err)
	}
	ended := make(chan struct{})
	a.process, a.ended = p, ended
	go func() { _ = p.Wait(); close(ended) }()
	a.t.Cleanup(func() {
		_ = p.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(patience):
			_ = p.Process.Kill()
			<-ended
		}
		if a.t.Failed() {
			a.t.Logf("the authority's log:\n%s", log.String())
		}
	})
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("tcp", a.devices); err == nil {
			c.Close()
			return
		}
		if time.Now().After(deadline) {
			a.t.Fatal("the authority takes no connections")
		}
	}
}

func (a *realAuthority) origin() string {
	_, port, _ := net.SplitHostPort(a.pages)
	return "http://localhost:" + port
}

// command runs one of the authority's and returns what it printed.
func (a *realAuthority) command(args ...string) map[string]any {
	a.t.Helper()
	p := exec.Command(a.program, append([]string{"--config", a.file, "--json"}, args...)...)
	var out, errs bytes.Buffer
	p.Stdout, p.Stderr = &out, &errs
	if err := p.Run(); err != nil {
		a.t.Fatalf("%v: %v\n%s%s", args, err, out.String(), errs.String())
	}
	m := map[string]any{}
	if err := json.Unmarshal(out.Bytes(), &m); err != nil {
		a.t.Fatalf("%v printed %s: %v", args, out.String(), err)
	}
	return m
}

func (a *realAuthority) text(m map[string]any, key string) string {
	a.t.Helper()
	s, ok := m[key].(string)
	if !ok || s == "" {
		a.t.Fatalf("there is no %s in %v", key, m)
	}
	return s
}

// call is what the page does.
func (a *realAuthority) call(method, path, token string, body any) (int, []byte) {
	a.t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		a.t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(a.t.Context(), method, "http://"+a.pages+"/api/v1/"+path, bytes.NewReader(b))
	if err != nil {
		a.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Origin", a.origin())
	r.Host = strings.TrimPrefix(a.origin(), "http://")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w, err := http.DefaultClient.Do(r)
	if err != nil {
		a.t.Fatal(err)
	}
	defer w.Body.Close()
	text, err := io.ReadAll(w.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	return w.StatusCode, text
}

func freeAddress(t *testing.T) string {
	t.Helper()
	address, err := port.Address()
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// TestWithTheRealAuthority: the whole way, with the shipped server.
func TestWithTheRealAuthority(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a program")
	}
	a := startAuthority(t)
	c := newComputerAt(t, clock.System().Now()) // the authority has the real time
	a.command("user", "add", "maya")
	token := a.text(a.command("token", "create", "--user", "maya"), "token")
	if err := c.link.Join(t.Context(), "uid:0", "https://"+a.devices, token, "laptop"); err != nil {
		t.Fatal(err)
	}
	c.run()
	c.until("connected", func() bool { return c.link.State().Connected })
	if s := c.link.State(); fmt.Sprint(s.Users) != "[maya]" || !s.HoldsKey {
		t.Errorf("the state is %+v", s)
	}

	t.Log("the token is good once")
	other := newComputerAt(t, clock.System().Now())
	wantError(t, other.link.Join(t.Context(), "uid:0", "https://"+a.devices, token, "desk"), "the token")

	t.Log("a seed and a bypass from the authority")
	a.command("user", "totp", "maya")
	c.event(event.UserEnrolled, "")
	if !c.account("maya").IsEnrolled() {
		t.Error("maya has no secret")
	}
	bypass, ok := a.command("user", "bypass", "maya", "--reason", "lost phone")["codes"].([]any)
	if !ok || len(bypass) != 1 {
		t.Fatalf("the codes are %v", bypass)
	}
	c.event(event.BypassIssued, "lost phone")
	if o := c.try("maya", fmt.Sprint(bypass[0])); !o.OK || o.Factor != factor.Bypass {
		t.Errorf("the bypass: %+v", o)
	}

	t.Log("a phone enrols at the computer")
	rp := push.RelyingParty{ID: "localhost", Origin: a.origin()}
	phone := passkey.New(rp)
	e := c.enrol(nil)
	_, v, secret := e.scan()
	r := phone.Registration("Maya's phone")
	session := make([]byte, 32)
	_, _ = rand.Read(session)
	status, text := a.call("POST", "enrolment/"+v.Get("e"), "", map[string]any{"credential_id": r.CredentialID, "public_key": r.PublicKey,
		"authenticator_data": r.AuthenticatorData, "phone": r.Phone, "mac": push.EnrolmentMAC(secret, v.Get("e"), v.Get("d"), v.Get("u"), r), "token": session})
	if status != http.StatusAccepted {
		t.Fatalf("the key is not taken: %d %s", status, text)
	}
	if err := receive(t, e.err, "the end of the enrolment"); err != nil {
		t.Fatal(err)
	}
	pinned := receive(t, e.pinned, "the key")
	bearer := base64.StdEncoding.EncodeToString(session)
	c.eventually("the phone is told", func() bool { status, text = a.call("GET", "session", bearer, nil); return status == http.StatusOK })

	t.Log("and approves a login")
	c.clock.advance(time.Since(c.clock.Now().Wall)) // the authority has the real time, and a challenge lasts a minute
	live, err := push.NewChallenge(push.Challenge{Device: c.authorityKept().DeviceID, Name: "laptop", User: "maya", Service: "sshd"}, c.clock.Now(), time.Minute, 2)
	if err != nil {
		t.Fatal(err)
	}
	sent, err := c.link.Send(t.Context(), "maya", live, []push.Approver{pinned})
	if err != nil {
		t.Fatal(err)
	}
	answer := phone.Answer(live.Bytes, push.Approve, live.Number)
	status, text = a.call("POST", "challenges/"+live.Challenge.ID+"/answer", bearer, map[string]any{"decision": "approve", "credential_id": answer.CredentialID,
		"authenticator_data": answer.AuthenticatorData, "client_data": answer.ClientData, "signature": answer.Signature})
	if status != http.StatusAccepted {
		t.Fatalf("the answer is not taken: %d %s", status, text)
	}
	got := receive(t, sent.Answers, "the answer")
	if v := live.Verify(got, []push.Approver{pinned}, nil, push.Rules{RelyingParty: rp}, c.clock.Now()); !v.OK {
		t.Errorf("the answer does not verify: %+v", v)
	}
	sent.End("approved")

	t.Log("the authority restarts, and the computer is back")
	_ = a.process.Process.Signal(syscall.SIGTERM)
	c.until("not connected", func() bool { return !c.link.State().Connected })
	receive(t, a.ended, "the end of the server") // which has all of its ports, and its lock
	before := c.authorityKept().Chain[0]
	c.clock.advance(5 * 24 * time.Hour) // past half of the certificate's life
	a.run()
	c.link.waitFor(t, c)
	c.eventually("the renewed certificate", func() bool { return !bytes.Equal(c.authorityKept().Chain[0], before) })

	t.Log("its events are there")
	c.eventually("the events", func() bool {
		p := exec.Command(a.program, "--config", a.file, "--json", "events", "--device", "laptop")
		out, err := p.Output()
		return err == nil && strings.Contains(string(out), "bypass_issued") && strings.Contains(string(out), "authority_joined")
	})

	t.Log("revoked: it is over at once")
	a.command("device", "revoke", "laptop", "--reason", "stolen", "--yes")
	c.until("refused", func() bool { return c.link.State().Refused == "revoked" })
	c.event(event.AuthorityRefused, "has revoked this computer")
}
