//go:build linux

package agenttest

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
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"

	"sallyport/internal/event"
	"sallyport/internal/localsock"
	adminv1 "sallyport/proto/sallyport/admin/v1"
)

// patience bounds every wait: this machine may be busy.
const patience = time.Minute

// agent is the shipped agent, with directories of its own.
type agent struct {
	t       *testing.T
	program string
	dir     string
	config  string // the file
	state   string // state_dir
	run     string // runtime_dir
	env     []string
	wrapper []string // a command that ends by executing its arguments

	flags []string // to every command

	credential *syscall.Credential // as whom it runs, if not as root

	log    *output
	logs   []*output // of every start
	cmd    *exec.Cmd
	exited chan struct{} // closed when it has
	exit   error

	mu    sync.Mutex
	conns []*grpc.ClientConn
}

// newAgent makes the directories and the configuration; start starts it. Lines
// are added to the configuration; a line that sets state_dir replaces the usual.
func newAgent(t *testing.T, lines ...string) *agent {
	t.Helper()
	// Not t.TempDir, into which no other user may look; and unix(7) socket
	// names are short.
	dir, err := os.MkdirTemp("/run", "at-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	a := &agent{t: t, program: program("sallyport"), dir: dir, config: filepath.Join(dir, "sallyport.toml"),
		state: filepath.Join(dir, "state"), run: filepath.Join(dir, "run")}
	t.Cleanup(func() {
		if a.running() {
			a.stop()
		}
		a.checkLogs()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	a.configure(lines...)
	a.writePAM()
	return a
}

// startAgent is newAgent, started.
func startAgent(t *testing.T, lines ...string) *agent {
	t.Helper()
	a := newAgent(t, lines...)
	a.start()
	return a
}

// configure writes the configuration anew, in one go: the agent may be reading.
func (a *agent) configure(lines ...string) {
	a.t.Helper()
	text := fmt.Sprintf("state_dir = %q\nruntime_dir = %q\n", a.state, a.run) + strings.Join(lines, "\n") + "\n"
	a.replaceConfig(text)
}

func (a *agent) replaceConfig(text string) {
	a.t.Helper()
	if err := os.WriteFile(a.config+".new", []byte(text), 0o644); err != nil {
		a.t.Fatal(err)
	}
	if err := os.Rename(a.config+".new", a.config); err != nil {
		a.t.Fatal(err)
	}
}

// start starts the agent and waits until it says that it is ready.
func (a *agent) start() {
	a.t.Helper()
	if err := a.tryStart(); err != nil {
		a.t.Fatal(err)
	}
}

// tryStart is start for an agent that may refuse.
func (a *agent) tryStart() error {
	// sd_notify(3) is how systemd learns of readiness; so do we.
	path := filepath.Join(a.dir, "notify")
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer notify.Close()
	a.log = &output{}
	a.logs = append(a.logs, a.log)
	args := append(append([]string{}, a.wrapper...), a.program, "run", "--config", a.config)
	args = append(args, a.flags...)
	a.cmd = exec.Command(args[0], args[1:]...)
	a.cmd.Env = append(append(os.Environ(), "NOTIFY_SOCKET="+path), a.env...)
	a.cmd.Stdout, a.cmd.Stderr = a.log, a.log
	if a.credential != nil {
		a.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: a.credential}
		if err := os.Chmod(path, 0o666); err != nil {
			return err
		}
	}
	if err := a.cmd.Start(); err != nil {
		return err
	}
	exited := make(chan struct{})
	a.exited = exited
	go func() {
		a.exit = a.cmd.Wait()
		close(exited)
	}()
	ready := make(chan error, 1)
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := notify.Read(b)
			if err != nil || strings.Contains(string(b[:n]), "READY=1") {
				ready <- err
				return
			}
		}
	}()
	select {
	case err := <-ready:
		return err
	case <-exited:
		return fmt.Errorf("the agent ended instead of becoming ready: %w\n%s", a.exit, a.log)
	case <-time.After(patience):
		return fmt.Errorf("the agent did not become ready\n%s", a.log)
	}
}

func (a *agent) running() bool {
	if a.cmd == nil {
		return false
	}
	select {
	case <-a.exited:
		return false
	default:
		return true
	}
}

// kill is kill -9, with no word to anybody.
func (a *agent) kill() {
	a.t.Helper()
	if err := a.cmd.Process.Kill(); err != nil {
		a.t.Fatal(err)
	}
	<-a.exited
	a.hangUp()
}

// stop ends the agent as systemd does; it must end well.
func (a *agent) stop() {
	a.t.Helper()
	a.signal(syscall.SIGTERM)
	a.wait()
}

func (a *agent) wait() {
	a.t.Helper()
	select {
	case <-a.exited:
		if a.exit != nil {
			a.t.Errorf("the agent ended with %v\n%s", a.exit, a.log)
		}
	case <-time.After(patience):
		a.t.Errorf("the agent does not stop\n%s", a.log)
		_ = a.cmd.Process.Signal(syscall.SIGABRT) // a stack trace says why
		<-a.exited
	}
	a.hangUp()
}

func (a *agent) signal(s os.Signal) {
	a.t.Helper()
	if err := a.cmd.Process.Signal(s); err != nil {
		a.t.Fatal(err)
	}
	if s == syscall.SIGSTOP { // on a busy machine its other threads run on for a while
		if err := unix.Waitid(unix.P_PID, a.cmd.Process.Pid, nil, unix.WSTOPPED|unix.WNOWAIT, nil); err != nil {
			a.t.Fatal(err)
		}
	}
}

func (a *agent) restart() {
	a.t.Helper()
	a.stop()
	a.start()
}

// checkLogs looks for what no agent may ever have written.
func (a *agent) checkLogs() {
	for _, log := range a.logs {
		for _, bad := range []string{"panic:", "goroutine ", "DATA RACE", "fatal error:"} {
			if strings.Contains(log.String(), bad) {
				a.t.Errorf("the agent's log has %q:\n%s", bad, log)
			}
		}
	}
}

// eventually waits for what another process does in its own time.
func (a *agent) eventually(what string, is func() bool) {
	a.t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			a.t.Fatalf("never: %s\nthe agent's log:\n%s", what, a.log)
		}
	}
}

// wantLog waits for a line in the log of the running agent.
func (a *agent) wantLog(text string) {
	a.t.Helper()
	a.eventually("a log line with "+text, func() bool { return strings.Contains(a.log.String(), text) })
}

// output collects what a program writes.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// socket is the path of one of the agent's sockets.
func (a *agent) socket(name string) string { return filepath.Join(a.run, name) }

const (
	loginSock = "login.sock"
	adminSock = "admin.sock"
)

// dial opens a gRPC connection to a socket as another user.
func (a *agent) dial(name string, uid uint32) *grpc.ClientConn {
	a.t.Helper()
	conn, err := grpc.NewClient("passthrough:///localhost",
		grpc.WithTransportCredentials(localsock.Credentials(nil)),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return dialAs(a.socket(name), uid) }))
	if err != nil {
		a.t.Fatal(err)
	}
	return conn
}

// hangUp closes the connections to an agent that is no more.
func (a *agent) hangUp() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range a.conns {
		c.Close()
	}
	a.conns = nil
}

// admin is the admin service as root sees it. The connection is made anew each
// time: agents come and go.
func (a *agent) admin() adminv1.AdminServiceClient {
	a.t.Helper()
	conn := a.dial(adminSock, 0)
	a.mu.Lock()
	a.conns = append(a.conns, conn)
	a.mu.Unlock()
	return adminv1.NewAdminServiceClient(conn)
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// events returns the events that are kept, oldest first.
func (a *agent) events() []event.Event {
	a.t.Helper()
	stream, err := a.admin().Events(within(a.t), &adminv1.EventsRequest{})
	if err != nil {
		a.t.Fatal(err)
	}
	var list []event.Event
	for {
		m, err := stream.Recv()
		if err != nil {
			if len(list) == 0 {
				a.t.Fatalf("events: %v", err)
			}
			return list
		}
		var e event.Event
		if err := json.Unmarshal(m.GetJson(), &e); err != nil {
			a.t.Fatal(err)
		}
		list = append(list, e)
	}
}

// count counts the events of one name about one user (nil: anybody) with one
// reason ("": any).
func count(events []event.Event, name event.Name, u *account, reason string) int {
	n := 0
	for _, e := range events {
		if e.Name == name && (u == nil || e.Key == u.key()) && (reason == "" || e.Reason == reason) {
			n++
		}
	}
	return n
}

// user returns what the agent knows of an account.
func (a *agent) user(u *account) *adminv1.User {
	a.t.Helper()
	got, err := a.admin().ShowUser(within(a.t), &adminv1.UserRequest{User: u.name})
	if err != nil {
		a.t.Fatal(err)
	}
	return got
}

// vaultState is the one word that status has for the vault.
func (a *agent) vaultState() string {
	a.t.Helper()
	got, err := a.admin().Status(within(a.t), &adminv1.StatusRequest{})
	if err != nil {
		a.t.Fatal(err)
	}
	return got.GetVault().GetState()
}

// ran is what came of a command.
type ran struct {
	exit        int
	out, errOut string
}

// command runs a command of the shipped program against this agent.
func (a *agent) command(stdin string, args ...string) ran {
	a.t.Helper()
	cmd := exec.Command(a.program, append(append(args, "--config", a.config), a.flags...)...)
	var out, errOut bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errOut
	cmd.Env = append(os.Environ(), a.env...)
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		a.t.Fatal(err)
	}
	return ran{cmd.ProcessState.ExitCode(), out.String(), errOut.String()}
}

// cli is command for one that must succeed; v takes its --json, if not nil.
func (a *agent) cli(v any, args ...string) string {
	a.t.Helper()
	if v != nil {
		args = append(args, "--json")
	}
	got := a.command("", args...)
	if got.exit != 0 {
		a.t.Fatalf("sallyport %s: exit %d\n%s%s", strings.Join(args, " "), got.exit, got.out, got.errOut)
	}
	if v != nil {
		if err := json.Unmarshal([]byte(got.out), v); err != nil {
			a.t.Fatalf("sallyport %s: %v in %q", strings.Join(args, " "), err, got.out)
		}
	}
	return got.out
}

// statusView is what the tests read of `status --json`.
type statusView struct {
	Healthy  bool
	Keychain string
	Vault    struct {
		State, Detail string
		EventsDropped uint64 `json:"events_dropped"`
	}
	Users    struct{ Enrolled, Locked int }
	Problems []struct{ Code, Text, Remedy string }
}

// wantStatus runs `sallyport status` and wants this exit code and, if it is not
// "", this problem, with a remedy.
func (a *agent) wantStatus(exit int, problem string) statusView {
	a.t.Helper()
	got := a.command("", "status", "--json")
	var v statusView
	if err := json.Unmarshal([]byte(got.out), &v); err != nil {
		a.t.Fatalf("status --json: %v in %q (%s)", err, got.out, got.errOut)
	}
	if got.exit != exit || v.Healthy != (exit == 0) {
		a.t.Errorf("status: exit %d and healthy %v, want exit %d\n%s", got.exit, v.Healthy, exit, got.out)
	}
	if problem == "" {
		return v
	}
	for _, p := range v.Problems {
		if p.Code == problem {
			if p.Text == "" || p.Remedy == "" {
				a.t.Errorf("problem %q without text or remedy: %+v", problem, p)
			}
			return v
		}
	}
	a.t.Errorf("status has no problem %q: %s", problem, got.out)
	return v
}

// errorOf is a command's failure.
func errorOf(r ran) error {
	if r.exit == 0 {
		return nil
	}
	return fmt.Errorf("exit %d: %s%s", r.exit, r.out, r.errOut)
}
