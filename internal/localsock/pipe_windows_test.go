package localsock

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/windows"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"sallyport/internal/identity"
	"sallyport/internal/testkit/wine/prime"
)

var pipes atomic.Int32

// pipeName is a name of this test's own.
func pipeName() string {
	return fmt.Sprintf(`\\.\pipe\sallyport-test-%d\%d`, windows.GetCurrentProcessId(), pipes.Add(1))
}

func listen(t *testing.T, path string, perUser int) *listener {
	t.Helper()
	l, err := Listen(path, Everyone, perUser)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	if err := prime.Pipe(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	return l.(*listener)
}

// whoami serves calls that end with who called.
func whoami(t *testing.T, l net.Listener, o ...grpc.ServerOption) {
	t.Helper()
	s := grpc.NewServer(append(o, grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		p, err := FromContext(stream.Context())
		if err != nil {
			return status.Error(codes.Unauthenticated, err.Error())
		}
		return status.Errorf(codes.AlreadyExists, "%s admin=%v", p, p.Admin)
	}))...)
	t.Cleanup(s.Stop)
	go func() { _ = s.Serve(l) }() // ends with Stop
}

func call(t *testing.T, path string, c credentials.TransportCredentials) *status.Status {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///pipe", grpc.WithTransportCredentials(c), grpc.WithAuthority("localhost"),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return Dial(ctx, path) }))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	return status.Convert(conn.Invoke(ctx, "/a.Service/Method", &emptypb.Empty{}, &emptypb.Empty{}))
}

func dial(t *testing.T, path string) net.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	c, err := Dial(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestAHandlerSeesWhoCallsOverAPipe(t *testing.T) {
	path := pipeName()
	whoami(t, listen(t, path, 4), grpc.Creds(Credentials(nil)))
	want := fmt.Sprintf("%s admin=%v", identity.Self(), elevated())
	for range 3 { // each call is a connection, each connection an instance
		if st := call(t, path, Credentials(TrustAgent)); st.Code() != codes.AlreadyExists || st.Message() != want {
			t.Errorf("%v, want %s", st, want)
		}
	}
	// The client sees who serves.
	var seen Peer
	call(t, path, Credentials(func(p Peer) error { seen = p; return nil }))
	if err := TrustAgent(seen); err != nil {
		t.Errorf("served by %+v: %v", seen, err)
	}
	t.Logf("this is %s, elevated %v; the pipe is %s's", identity.Self(), elevated(), seen)
	if who, want := Holder(path), fmt.Sprintf("process %d, ", windows.GetCurrentProcessId()); !strings.HasPrefix(who, want) || !strings.HasSuffix(who, `.exe"`) {
		t.Errorf("the pipe is %s's, want %s", who, want)
	}
	// What it does not accept it does not call.
	st := call(t, path, Credentials(func(Peer) error { return errors.New("not this one") }))
	if st.Code() != codes.Unavailable || !strings.Contains(st.Message(), "not this one") {
		t.Errorf("%v", st)
	}
	// A server that was wired without our credentials knows nobody.
	path = pipeName()
	whoami(t, listen(t, path, 4))
	if st := call(t, path, insecure.NewCredentials()); st.Code() != codes.Unauthenticated {
		t.Errorf("%v", st)
	}
}

func TestTheTokenOfThisProcessIsItself(t *testing.T) {
	read, err := readToken(windows.GetCurrentProcessToken(), 0, levelIdentification)
	if err != nil {
		t.Fatal(err)
	}
	p, err := peerOfToken(read)
	if err != nil || p.ID != identity.Self() || identity.Self() == "" {
		t.Errorf("%+v, %v; this is %s", p, err, identity.Self())
	}
	if read.integrity == 0 || len(read.groups) == 0 {
		t.Errorf("%+v", read)
	}
}

// TestWhatAClientSaysFirstIsNotLost: it is read to learn who says it.
func TestWhatAClientSaysFirstIsNotLost(t *testing.T) {
	path := pipeName()
	l := listen(t, path, 4)
	text := strings.Repeat("0123456789", 10)
	go func() {
		c := dial(t, path)
		_, _ = io.WriteString(c, text)
	}()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if p, err := PeerOf(conn); err != nil || p.ID != identity.Self() {
		t.Errorf("%+v, %v", p, err)
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != text {
		t.Errorf("%q, %v", got, err)
	}
	// Asked again it says the same, and reads nothing more.
	if p, err := PeerOf(conn); err != nil || p.ID != identity.Self() {
		t.Errorf("%+v, %v", p, err)
	}
}

// TestTheOldestSilentClientMakesRoom: whoever connects and says nothing cannot
// keep the others out.
func TestTheOldestSilentClientMakesRoom(t *testing.T) {
	path := pipeName()
	l := listen(t, path, 4)
	accept := func() net.Conn {
		t.Helper()
		accepted := make(chan net.Conn, 1)
		go func() {
			c, err := l.Accept()
			if err != nil {
				t.Error(err)
			}
			accepted <- c
		}()
		client := dial(t, path)
		server := <-accepted
		if server == nil {
			t.FailNow()
		}
		t.Cleanup(func() { server.Close() })
		_ = client
		return server
	}
	first := accept()
	for range maxSilent {
		accept()
	}
	if _, err := PeerOf(first); err == nil {
		t.Error("the first is still there")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.silent) != maxSilent {
		t.Errorf("%d are silent, want %d", len(l.silent), maxSilent)
	}
}

func TestTheQuotaOfAPipe(t *testing.T) {
	q := newQuota(2)
	user := Peer{ID: "sid:" + alice}
	var done []func()
	for range 2 {
		d, err := q.take(user)
		if err != nil {
			t.Fatal(err)
		}
		done = append(done, d)
	}
	if _, err := q.take(user); err == nil {
		t.Error("a third connection")
	}
	for _, p := range []Peer{{identity.System, true}, {"sid:" + alice, true}, {identity.Self(), true}} {
		for range 10 {
			if _, err := q.take(p); err != nil {
				t.Errorf("%s: %v", p, err)
			}
		}
	}
	done[0]()
	done[0]()
	if _, err := q.take(user); err != nil {
		t.Error(err)
	}
	if _, err := q.take(user); err == nil {
		t.Error("a third connection")
	}
}

func TestAnElevatedAgentIsNotItsUsersOtherPrograms(t *testing.T) {
	if me := (Peer{ID: identity.Self()}); me.IsOwner() == elevated() {
		t.Errorf("%s without an administrator's rights is an owner: %v; this is elevated: %v", me, me.IsOwner(), elevated())
	}
	if !(Peer{ID: identity.Self(), Admin: true}).IsOwner() || (Peer{}).IsOwner() {
		t.Error("with them it is none, or nobody is one")
	}
}

func TestAPipeThatIsThereIsNotTaken(t *testing.T) {
	path := pipeName()
	l := listen(t, path, 1)
	if second, err := Listen(path, Everyone, 1); err == nil {
		second.Close()
		t.Fatal("two agents listen on one pipe")
	} else if !errors.Is(err, ErrTaken) || !strings.HasPrefix(err.Error(), path+": ") {
		t.Error(err)
	}
	if none := pipeName(); !strings.HasPrefix(Holder(none), "which cannot be told: ") {
		t.Errorf("nobody's pipe is %s's", Holder(none))
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := l.Close(); err != nil { // twice
		t.Error(err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accepted from a closed pipe: %v", err)
	}
	listen(t, path, 1)
}

func TestNothingButALocalPipeIsOpened(t *testing.T) {
	for _, path := range []string{`C:\windows\win.ini`, `\\server\pipe\x`, `\\.\pipe\..\C:\x`, ""} {
		if l, err := Listen(path, Everyone, 1); err == nil {
			l.Close()
			t.Errorf("listens on %q", path)
		}
		if c, err := Dial(t.Context(), path); err == nil {
			c.Close()
			t.Errorf("dialled %q", path)
		}
	}
	if _, err := Dial(t.Context(), pipeName()); !errors.Is(err, windows.ERROR_FILE_NOT_FOUND) {
		t.Errorf("a pipe that is not there: %v", err)
	}
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if p, err := PeerOf(a); err == nil {
		t.Errorf("a net.Pipe is %+v", p)
	}
}
