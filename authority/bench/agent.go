//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"sallyport/internal/factor/push"
	loginv1 "sallyport/proto/sallyport/login/v1"
)

// agentUser logs in by push. It resolves everywhere, and the bench runs as it.
const agentUser = "root"

// agent is one `sallyport run` that has joined an authority.
type agent struct {
	*process
	program, config, runtime string
	phone                    *person
}

// newAgent starts an agent on an empty vault below dir.
func newAgent(dist, dir string) (*agent, error) {
	program, err := filepath.Abs(filepath.Join(dist, "sallyport"))
	if err != nil {
		return nil, err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	a := &agent{program: program, config: filepath.Join(dir, "sallyport.toml"), runtime: filepath.Join(dir, "run")}
	text := fmt.Sprintf(`state_dir = %q
runtime_dir = %q
keychain = "file"
[push]
concurrent = 0
per_service = 0
in_five_minutes = 0
in_an_hour = 0
misses = 0
`, filepath.Join(dir, "state"), a.runtime)
	if err := os.WriteFile(a.config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	if a.process, err = startProcess("sallyport", filepath.Join(dir, "log"), nil, program, "run", "--config", a.config); err != nil {
		return nil, err
	}
	return a, a.ready(func() bool {
		conn, err := net.Dial("unix", a.socket())
		return err == nil && conn.Close() == nil
	})
}

func (a *agent) socket() string { return filepath.Join(a.runtime, "login.sock") }

func (a *agent) cmd(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, a.program, append(args, "--config", a.config)...)
}

// command runs one of the program's commands.
func (a *agent) command(ctx context.Context, stdin string, args ...string) error {
	cmd := a.cmd(ctx, args...)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("sallyport %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// enrol gives the user a code, without which nobody pushes, and then the phone.
func (a *agent) enrol(ctx context.Context, p *person) error {
	const uri = "otpauth://totp/bench:root?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=bench\n"
	if err := a.command(ctx, uri, "enroll", agentUser, "--uri-stdin", "--no-confirm"); err != nil {
		return err
	}
	// Before the stream stands the agent cannot ask for a link.
	for {
		out, err := a.cmd(ctx, "status", "--json").Output()
		var s struct{ Authority struct{ Connected bool } }
		if err == nil && json.Unmarshal(out, &s) == nil && s.Authority.Connected {
			break
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), fmt.Errorf("the agent does not connect: %s", a.tail()))
		case <-time.After(20 * time.Millisecond):
		}
	}
	cmd := a.cmd(ctx, "enroll", agentUser, "--push", "--json")
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	var link struct{ URL string }
	err = json.NewDecoder(out).Decode(&link)
	if err == nil {
		err = p.Enrol(ctx, link.URL)
	}
	if err != nil {
		_ = cmd.Process.Kill()
	}
	if err := errors.Join(err, cmd.Wait()); err != nil {
		return fmt.Errorf("enrolling a phone: %w: %s", err, bytes.TrimSpace(complaint.Bytes()))
	}
	a.phone = p
	return nil
}

// opened is how long one login took, from the moment at which the phone begins to
// send the signed answer.
type opened struct {
	allowed time.Duration // until the hook has its verdict
	posted  time.Duration // until the phone has its answer
}

// login is one login by push through the login socket, as a hook makes it.
func (a *agent) login(ctx context.Context) (o opened, err error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	conn, err := grpc.NewClient("passthrough:///"+a.socket(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, path string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}))
	if err != nil {
		return o, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	stream, err := loginv1.NewLoginServiceClient(conn).Converse(ctx)
	if err != nil {
		return o, err
	}
	err = stream.Send(&loginv1.HookMessage{Message: &loginv1.HookMessage_Begin{Begin: &loginv1.Begin{
		ProtocolVersion: 1, Hook: loginv1.HookKind_HOOK_KIND_PAM, Scenario: loginv1.Scenario_SCENARIO_REMOTE, Stage: loginv1.Stage_STAGE_AUTHENTICATE,
		User: []byte(agentUser), Service: []byte("sshd"), RemoteHost: []byte("192.0.2.1"),
		Capabilities: &loginv1.Capabilities{LiveNotices: true, CancelPrompt: true}}}})
	if err != nil {
		return o, err
	}
	number, prompted := "", false
	for number == "" || !prompted {
		d, err := stream.Recv()
		if err != nil {
			return o, err
		}
		switch d := d.GetDirective().(type) {
		case *loginv1.Directive_Waiting:
			number = fmt.Sprint(d.Waiting.GetNumber())
		case *loginv1.Directive_Prompt:
			prompted = true
		case *loginv1.Directive_Verdict:
			return o, fmt.Errorf("no phone was asked: %v; the agent's log:\n%s", d.Verdict, a.tail())
		}
	}
	open, err := a.phone.Shown(ctx)
	if err != nil {
		return o, err
	}
	if len(open) != 1 {
		return o, fmt.Errorf("the phone is shown %d logins, not the one", len(open))
	}
	signed := a.phone.Key.Answer(open[0].Challenge, push.Approve, number)
	posted := make(chan error, 1)
	began := time.Now()
	go func() {
		err := a.phone.Post(ctx, open[0].ID, signed)
		o.posted = time.Since(began)
		posted <- err
	}()
	var verdict *loginv1.Verdict
	for verdict == nil {
		d, err := stream.Recv()
		if err != nil {
			return o, errors.Join(err, <-posted)
		}
		verdict = d.GetVerdict()
	}
	o.allowed = time.Since(began)
	if err := <-posted; err != nil {
		return o, err
	}
	if verdict.GetDecision() != loginv1.Verdict_DECISION_ALLOW {
		return o, fmt.Errorf("the login was not let in: %v; the agent's log:\n%s", verdict, a.tail())
	}
	return o, nil
}
