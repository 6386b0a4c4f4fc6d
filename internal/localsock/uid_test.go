//go:build linux

package localsock

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"sallyport/internal/identity"
)

// asEnv makes the test's program play another user's: "dial PATH" or "serve PATH".
const asEnv = "LOCALSOCK_TEST_PART"

func TestMain(m *testing.M) {
	verb, path, ok := strings.Cut(os.Getenv(asEnv), " ")
	if !ok {
		os.Exit(m.Run())
	}
	part := map[string]func(string) error{"dial": dialPart, "serve": servePart}[verb]
	if err := part(path); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// dialPart opens a connection for each "open" it reads, says whether it was
// taken, and closes the oldest for each "close".
func dialPart(path string) error {
	var open []net.Conn
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		if in.Text() == "close" {
			open[0].Close()
			open = open[1:]
			fmt.Println("closed")
			continue
		}
		conn, err := net.Dial("unix", path)
		if err != nil {
			return err
		}
		// A connection over the bound is closed, with or without a reset.
		if _, err := conn.Read(make([]byte, 1)); err != nil {
			fmt.Println("refused")
			continue
		}
		open = append(open, conn)
		fmt.Println("taken")
	}
	return nil
}

// servePart listens until its input ends.
func servePart(path string) error {
	l, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	defer l.Close()
	fmt.Println("listening")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// player is a process of another user.
type player struct {
	*testing.T
	in  io.WriteCloser
	out *bufio.Scanner
}

// as starts this program as another user.
func as(t *testing.T, uid uint32, part string) *player {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can run a process as somebody else")
	}
	// By this name, because nobody else can reach the directory it lies in.
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{asEnv + "=" + part}
	cmd.Dir = "/"
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the process of uid %d: %v", uid, err)
		}
	})
	return &player{t, in, bufio.NewScanner(out)}
}

// does sends a line and wants another.
func (p *player) does(line, want string) {
	p.Helper()
	if _, err := fmt.Fprintln(p.in, line); err != nil {
		p.Fatal(err)
	}
	p.says(want)
}

func (p *player) says(want string) {
	p.Helper()
	if !p.out.Scan() || p.out.Text() != want {
		p.Fatalf("it says %q (%v), want %q", p.out.Text(), p.out.Err(), want)
	}
}

const (
	mallory = 54321
	trudy   = 54322
)

// TestEachUserHasItsOwnBoundOfConnections: whoever floods the socket keeps out
// only itself, and never root.
func TestEachUserHasItsOwnBoundOfConnections(t *testing.T) {
	path := filepath.Join(socketDir(t), "s")
	l := listen(t, path, 3).(*listener)
	accepted := make(chan net.Conn, 100)
	go func() {
		defer close(accepted)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- conn
			_, _ = conn.Write([]byte{'k'}) // a client that is gone is its own business
		}
	}()
	one, two := as(t, mallory, "dial "+path), as(t, trudy, "dial "+path)
	for range 3 {
		one.does("open", "taken")
	}
	for range 20 {
		one.does("open", "refused")
	}
	for range 3 {
		two.does("open", "taken")
	}
	two.does("open", "refused")
	for range 20 { // root, here also the agent's own user
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Read(make([]byte, 1)); err != nil {
			t.Fatalf("root is kept out: %v", err)
		}
	}
	// A connection that is closed, however often, makes room for one.
	conn := <-accepted
	conn.Close()
	_ = conn.Close()
	one.does("open", "taken")
	one.does("open", "refused")

	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for conn := range accepted {
		conn.Close()
	}
	l.quota.mu.Lock()
	defer l.quota.mu.Unlock()
	if len(l.quota.open) != 0 {
		t.Errorf("all are closed, and counted: %v", l.quota.open)
	}
}

func TestTheKernelNamesAnotherUser(t *testing.T) {
	path := filepath.Join(socketDir(t), "s")
	l := listen(t, path, 3)
	p := as(t, mallory, "dial "+path)
	if _, err := fmt.Fprintln(p.in, "open"); err != nil {
		t.Fatal(err)
	}
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, info, err := Credentials(nil).ServerHandshake(conn)
	if err != nil || info != (Peer{ID: identity.UID(mallory)}) {
		t.Errorf("%+v, %v", info, err)
	}
	if _, err := conn.Write([]byte{'k'}); err != nil {
		t.Fatal(err)
	}
	p.says("taken")
}

// TestASocketThatAnotherUserServesIsNotTheAgent: a code must not reach it.
func TestASocketThatAnotherUserServesIsNotTheAgent(t *testing.T) {
	dir := socketDir(t)
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	as(t, mallory, "serve "+path).says("listening")
	st := call(t, path, Credentials(TrustAgent))
	if st.Code() != codes.Unavailable || !strings.Contains(st.Message(), "served by uid:54321, neither the system nor you") {
		t.Errorf("%v", st)
	}
	if _, err := Listen(path, Everyone, 1); err == nil {
		t.Error("another user's socket was replaced")
	}
}

func TestTheAdminSocketIsClosedToOthers(t *testing.T) {
	path := filepath.Join(socketDir(t), "s")
	l, err := Listen(path, OwnerOnly, 3)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	whoami(t, l, grpc.Creds(Credentials(nil)))
	if os.Geteuid() != 0 {
		t.Skip("only root can run a process as somebody else")
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{asEnv + "=dial " + path}
	cmd.Dir = "/"
	cmd.Stdin = strings.NewReader("open\n")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: mallory, Gid: mallory}}
	var exit *exec.ExitError
	if out, err := cmd.CombinedOutput(); !errors.As(err, &exit) || !strings.Contains(string(out), "permission denied") {
		t.Errorf("%s, %v", out, err)
	}
}

// TestABusyAgentIsNotReplaced: one that is stopped, or has a full backlog, is
// not dead. (On macOS dialling does not tell: the lock does.)
func TestABusyAgentIsNotReplaced(t *testing.T) {
	path := filepath.Join(socketDir(t), "s")
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		conn, err := net.Dial("unix", path)
		if err != nil {
			break // it is full
		}
		defer conn.Close()
	}
	if _, err := Listen(path, Everyone, 1); err == nil {
		t.Fatal("its socket was taken away")
	}
	if _, err := os.Lstat(path); err != nil {
		t.Error(err)
	}
}

// TestTheLongestRuntimeDirectoryHasRoom: what the configuration lets through
// (89 bytes on Linux), the socket's first name has to fit behind.
func TestTheLongestRuntimeDirectoryHasRoom(t *testing.T) {
	for length, fits := range map[int]bool{89: true, 90: false} {
		top, err := os.MkdirTemp("/tmp", "")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(top) })
		dir := filepath.Join(top, strings.Repeat("d", length-len(top)-1))
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{LoginName, AdminName} {
			l, err := Listen(filepath.Join(dir, name), OwnerOnly, 1)
			if (err == nil) != fits {
				t.Errorf("%d bytes: %v", length, err)
			}
			if err == nil {
				l.Close()
			}
		}
	}
}
