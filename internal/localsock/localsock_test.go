//go:build unix

package localsock

import (
	"context"
	"crypto/tls"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"sallyport/internal/identity"
)

// socketDir is a directory that every user can reach.
func socketDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func listen(t *testing.T, path string, perUser int) net.Listener {
	t.Helper()
	l, err := Listen(path, Everyone, perUser)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// whoami serves calls that end with who called.
func whoami(t *testing.T, l net.Listener, o ...grpc.ServerOption) {
	t.Helper()
	s := grpc.NewServer(append(o, grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		p, err := FromContext(stream.Context())
		if err != nil {
			return status.Error(codes.Unauthenticated, err.Error())
		}
		return status.Error(codes.AlreadyExists, p.String())
	}))...)
	t.Cleanup(s.Stop)
	go func() { _ = s.Serve(l) }() // ends with Stop
}

func call(t *testing.T, path string, c credentials.TransportCredentials) *status.Status {
	t.Helper()
	conn, err := grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(c))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return status.Convert(conn.Invoke(t.Context(), "/a.Service/Method", &emptypb.Empty{}, &emptypb.Empty{}))
}

func TestAHandlerSeesWhoCalls(t *testing.T) {
	path := filepath.Join(socketDir(t), "s")
	whoami(t, listen(t, path, 4), grpc.Creds(Credentials(nil)))
	me := Peer{ID: identity.Self(), Admin: os.Geteuid() == 0}
	if st := call(t, path, Credentials(TrustAgent)); st.Code() != codes.AlreadyExists || st.Message() != me.String() {
		t.Errorf("%v", st)
	}
	// The client sees who serves.
	var seen Peer
	call(t, path, Credentials(func(p Peer) error { seen = p; return nil }))
	if seen != me {
		t.Errorf("served by %+v", seen)
	}
	// What it does not accept it does not call.
	st := call(t, path, Credentials(func(Peer) error { return errors.New("not this one") }))
	if st.Code() != codes.Unavailable || !strings.Contains(st.Message(), "not this one") {
		t.Errorf("%v", st)
	}
}

// TestACallWithoutAnIdentityIsAnError: its zero value would be root.
func TestACallWithoutAnIdentityIsAnError(t *testing.T) {
	for name, ctx := range map[string]context.Context{
		"no peer":          t.Context(),
		"no identity":      peer.NewContext(t.Context(), &peer.Peer{}),
		"another identity": peer.NewContext(t.Context(), &peer.Peer{AuthInfo: credentials.TLSInfo{State: tls.ConnectionState{}}}),
		"a pointer to one": peer.NewContext(t.Context(), &peer.Peer{AuthInfo: &Peer{ID: identity.UID(1000)}}),
	} {
		if p, err := FromContext(ctx); err == nil {
			t.Errorf("%s: %v", name, p)
		}
	}
	ctx := peer.NewContext(t.Context(), &peer.Peer{AuthInfo: Peer{ID: identity.UID(1000)}})
	if p, err := FromContext(ctx); err != nil || p != (Peer{ID: identity.UID(1000)}) {
		t.Errorf("%v, %v", p, err)
	}

	// A server that was wired without our credentials knows nobody.
	path := filepath.Join(socketDir(t), "s")
	whoami(t, listen(t, path, 4))
	if st := call(t, path, insecure.NewCredentials()); st.Code() != codes.Unauthenticated {
		t.Errorf("%v", st)
	}
}

// TestAnEmptyAnswerIsNotRoot: all zeros are a version that is known, and root's uid.
func TestAnEmptyAnswerIsNotRoot(t *testing.T) {
	for _, c := range []struct {
		version, uid uint32
		groups       int16
		want         Peer
	}{
		{0, 0, 0, Peer{}},
		{0, 501, 0, Peer{}},
		{0, 501, -1, Peer{}},
		{1, 501, 1, Peer{}},
		{0, 501, 1, Peer{ID: identity.UID(501)}},
		{0, 0, 16, Peer{ID: identity.Root, Admin: true}},
	} {
		if p, err := xucredPeer(c.version, c.uid, c.groups); p != c.want || (err == nil) != (c.want != Peer{}) {
			t.Errorf("%+v: %+v, %v", c, p, err)
		}
	}
}

func TestOnlyAUnixSocketHasAnIdentity(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if _, _, err := Credentials(nil).ServerHandshake(a); err == nil {
		t.Error("a pipe has an identity")
	}
	if _, _, err := Credentials(TrustAgent).ClientHandshake(t.Context(), "", b); err == nil {
		t.Error("a pipe has an identity")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Skipf("no loopback here: %v", err)
	}
	defer l.Close()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, _, err := Credentials(nil).ServerHandshake(conn); err == nil {
		t.Error("a TCP connection has an identity")
	}
}

func TestTrustAgent(t *testing.T) {
	own := uint32(os.Geteuid())
	for uid, trusted := range map[uint32]bool{0: true, own: true, own + 1: false, 65534: own == 65534, ^uint32(0): false} {
		if err := TrustAgent(Peer{ID: identity.UID(uid)}); trusted != (err == nil) {
			t.Errorf("uid %d: %v", uid, err)
		}
	}
}

func TestTheSocketHasItsModeWhateverTheUmask(t *testing.T) {
	for _, umask := range []int{0, 0o022, 0o077, 0o777} {
		for access, mode := range map[Access]fs.FileMode{OwnerOnly: 0o600, Everyone: 0o666} {
			path := filepath.Join(socketDir(t), "s")
			old := syscall.Umask(umask)
			l, err := Listen(path, access, 1)
			left := syscall.Umask(old)
			if err != nil {
				t.Fatal(err)
			}
			if left != umask {
				t.Errorf("the umask is %#o afterwards, it was %#o", left, umask)
			}
			if st, err := os.Stat(path); err != nil || st.Mode() != mode|fs.ModeSocket {
				t.Errorf("umask %#o: %v, %v, want %v", umask, st.Mode(), err, mode)
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
			if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("after Close: %v", err)
			}
		}
	}
}

// TestTheSocketIsThereOnlyWhileItListens dials all the time while a socket
// comes and goes: it is not there, or it answers. Only whoever dials while it is
// being closed may find it closed.
func TestTheSocketIsThereOnlyWhileItListens(t *testing.T) {
	path := filepath.Join(socketDir(t), "s")
	var closing atomic.Int64 // odd while a socket is being closed
	done := make(chan struct{})
	dialled := make(chan int)
	go func() {
		n := 0
		defer func() { dialled <- n }()
		for {
			select {
			case <-done:
				return
			default:
			}
			before := closing.Load()
			conn, err := net.Dial("unix", path)
			switch {
			case err == nil:
				n++
				conn.Close()
			case errors.Is(err, os.ErrNotExist):
			case errors.Is(err, syscall.EAGAIN): // its backlog is full: somebody listens
			case errors.Is(err, syscall.ECONNREFUSED) && (before%2 == 1 || closing.Load() != before):
			default:
				t.Errorf("%v", err)
			}
		}
	}()
	for range 200 {
		l, err := Listen(path, Everyone, 1)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := l.Accept() // the dialler's
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		closing.Add(1)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		closing.Add(1)
	}
	close(done)
	if n := <-dialled; n < 200 {
		t.Errorf("%d connections in 200 rounds", n)
	}
}

// abandon leaves a socket behind as an agent does that was killed.
func abandon(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
}

func TestWhatADeadAgentLeftBehindIsReplaced(t *testing.T) {
	dir := socketDir(t)
	path := filepath.Join(dir, "login.sock")
	abandon(t, path)
	abandon(t, filepath.Join(dir, ".login.sock.new")) // it died before the rename
	whoami(t, listen(t, path, 4), grpc.Creds(Credentials(nil)))
	if st := call(t, path, Credentials(TrustAgent)); st.Code() != codes.AlreadyExists {
		t.Errorf("%v", st)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 { // with the lock
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestALiveAgentIsNotReplaced(t *testing.T) {
	path := filepath.Join(socketDir(t), "s")
	listen(t, path, 1)
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path, Everyone, 1); err == nil || !strings.Contains(err.Error(), "another agent listens on "+path) {
		t.Errorf("%v", err)
	}
	if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
		t.Errorf("the socket is another: %v", err)
	}
}

// TestAnAgentThatRefusesIsNotReplaced: on macOS a full backlog refuses a connection
// as a socket does that nobody listens on. What is there then, and looks dead here,
// is a live agent's.
func TestAnAgentThatRefusesIsNotReplaced(t *testing.T) {
	path := filepath.Join(socketDir(t), "s")
	free, err := lock(path)
	if err != nil {
		t.Fatal(err)
	}
	abandon(t, path)
	for range 2 {
		if _, err := Listen(path, Everyone, 1); err == nil || !strings.Contains(err.Error(), "another agent listens on "+path) {
			t.Fatalf("its socket was taken away: %v", err)
		}
	}
	if _, err := os.Lstat(path); err != nil {
		t.Error(err)
	}
	if err := free(); err != nil {
		t.Fatal(err)
	}
	if err := listen(t, path, 1).Close(); err != nil {
		t.Error(err)
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

// TestOneHasTheLock, also while others take it and give it up, which removes it.
func TestOneHasTheLock(t *testing.T) {
	path := filepath.Join(socketDir(t), "s")
	var holders, taken atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 500 {
				free, err := lock(path)
				if err != nil {
					if !strings.Contains(err.Error(), "another agent") {
						t.Error(err)
					}
					continue
				}
				if n := holders.Add(1); n != 1 {
					t.Errorf("%d have it", n)
				}
				taken.Add(1)
				holders.Add(-1)
				if err := free(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if taken.Load() == 0 {
		t.Error("nobody had it")
	}
}

func TestTheLockIsNotBehindALink(t *testing.T) {
	dir := socketDir(t)
	if err := os.Symlink(filepath.Join(dir, "elsewhere"), filepath.Join(dir, ".s.lock")); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(filepath.Join(dir, "s"), Everyone, 1); !errors.Is(err, syscall.ELOOP) {
		t.Errorf("%v", err)
	}
}

func TestClosingTwiceTakesNoOtherSocketAway(t *testing.T) {
	path := filepath.Join(socketDir(t), "s")
	first := listen(t, path, 1)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	listen(t, path, 1)
	_ = first.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Error(err)
	}
}

func TestWhereNoSocketCanBe(t *testing.T) {
	dir := socketDir(t)
	if err := os.Mkdir(filepath.Join(dir, "d"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(dir, "d"), filepath.Join(dir, "gone", "s"), filepath.Join(dir, strings.Repeat("s", 120))} {
		if l, err := Listen(path, Everyone, 1); err == nil {
			l.Close()
			t.Errorf("listens on %s", path)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}
