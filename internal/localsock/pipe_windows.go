package localsock

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unsafe"

	"github.com/Microsoft/go-winio"
	"golang.org/x/sys/windows"

	"sallyport/internal/identity"
)

// The names of the agent's pipes below its runtime directory, which is a prefix.
const (
	LoginName = "login"
	AdminName = "admin"
)

const (
	// helloTime is how long a client may take to say its first bytes.
	helloTime = 5 * time.Second
	// helloSize is up to how many of them are read before it is known who says
	// them: the preface of HTTP/2 (RFC 9113, 3.4).
	helloSize = 24
	// maxSilent bounds the clients that have said nothing yet. Until then Windows
	// does not say who they are, so that the quota cannot count them.
	maxSilent = 64
)

// handled is what go-winio's connections are besides net.Conn.
type handled interface {
	net.Conn
	Fd() uintptr
}

// Listen makes the pipe at path for whoever has access and takes at most perUser
// connections at once from any user who is neither an administrator nor the
// agent's own. A pipe that is there already, whoever serves it, is an error:
// go-winio makes the first instance as FILE_FLAG_FIRST_PIPE_INSTANCE would, and
// every one with PIPE_REJECT_REMOTE_CLIENTS.
func Listen(path string, access Access, perUser int) (net.Listener, error) {
	if err := checkPipeName(path); err != nil {
		return nil, err
	}
	sddl, err := descriptor(access, identity.Self(), elevated())
	if err != nil {
		return nil, err
	}
	l, err := winio.ListenPipe(path, &winio.PipeConfig{SecurityDescriptor: sddl, InputBufferSize: 16 << 10, OutputBufferSize: 16 << 10})
	switch {
	case errors.Is(err, windows.ERROR_ACCESS_DENIED) && !elevated() && isProtected(path):
		return nil, fmt.Errorf("only an administrator may listen on %s: run this as administrator, or choose another runtime_dir", path)
	case errors.Is(err, windows.ERROR_ACCESS_DENIED), errors.Is(err, windows.ERROR_ALREADY_EXISTS), errors.Is(err, windows.ERROR_PIPE_BUSY):
		return nil, fmt.Errorf("%s: %w: %s (%w)", path, ErrTaken, Holder(path), err)
	case err != nil:
		return nil, err
	}
	return &listener{Listener: l, quota: newQuota(perUser)}, nil
}

// Holder is which process made a pipe, in words, for people to find it: nothing is
// decided by that, for a process can hand a pipe on, and its number is used again
// (GetNamedPipeServerProcessId).
func Holder(path string) string {
	p, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return err.Error()
	}
	// Whoever it is learns nothing of who looks.
	h, err := windows.CreateFile(p, windows.FILE_READ_ATTRIBUTES, 0, nil, windows.OPEN_EXISTING, windows.SECURITY_SQOS_PRESENT|windows.SECURITY_ANONYMOUS, 0)
	if err != nil {
		return fmt.Sprintf("which cannot be told: %v", err)
	}
	defer windows.CloseHandle(h)
	var pid uint32
	if err := windows.GetNamedPipeServerProcessId(h, &pid); err != nil {
		return fmt.Sprintf("which cannot be told: GetNamedPipeServerProcessId: %v", err)
	}
	text := fmt.Sprintf("process %d", pid)
	process, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION, false, pid)
	if err != nil {
		return text
	}
	defer windows.CloseHandle(process)
	name := make([]uint16, 1024)
	size := uint32(len(name))
	if windows.QueryFullProcessImageName(process, 0, &name[0], &size) == nil {
		text += ", " + strconv.Quote(windows.UTF16ToString(name[:size]))
	}
	return text
}

type listener struct {
	net.Listener
	quota *quota

	mu     sync.Mutex
	silent []*served // the oldest first
}

// Accept returns the next connection. Who it is is known once it has said
// something; PeerOf waits for that.
func (l *listener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		if !errors.Is(err, net.ErrClosed) {
			err = passing{err}
		}
		return nil, err
	}
	h, ok := conn.(handled)
	if !ok {
		conn.Close()
		return nil, fmt.Errorf("a %T has no handle", conn)
	}
	c := &served{handled: h, listener: l}
	c.identify = sync.OnceValues(c.whois)
	l.mu.Lock()
	l.silent = append(l.silent, c)
	var oldest *served
	if len(l.silent) > maxSilent {
		oldest = l.silent[0]
	}
	l.mu.Unlock()
	// An honest client speaks at once: the oldest of those that do not makes room.
	if oldest != nil {
		oldest.Close()
	}
	return c, nil
}

// heard takes a connection from the silent ones.
func (l *listener) heard(c *served) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.silent, c); i >= 0 {
		l.silent = slices.Delete(l.silent, i, i+1)
	}
}

// passing is an error of Accept after which gRPC tries again, as after EMFILE: a
// computer short of memory must not end the agent.
type passing struct{ error }

func (passing) Timeout() bool   { return false }
func (passing) Temporary() bool { return true }

// served is a connection as the server has it.
type served struct {
	handled
	listener *listener
	identify func() (Peer, error)
	hello    []byte // read, and not handed on

	mu     sync.Mutex // Close waits until the handle is not in use
	closed bool
	done   func() // gives its place in the quota back
}

// whois reads the first bytes, without which Windows does not tell the client
// (ImpersonateNamedPipeClient: ERROR_CANNOT_IMPERSONATE), and asks who sent them.
func (c *served) whois() (Peer, error) {
	defer c.listener.heard(c)
	late := time.AfterFunc(helloTime, func() { c.Close() })
	defer late.Stop()
	b := make([]byte, helloSize)
	n, err := c.handled.Read(b)
	if err != nil {
		return Peer{}, fmt.Errorf("before a client was known: %w", err)
	}
	c.hello = b[:n]
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return Peer{}, net.ErrClosed
	}
	t, err := clientToken(windows.Handle(c.Fd()))
	if err != nil {
		return Peer{}, err
	}
	p, err := peerOfToken(t)
	if err != nil {
		return Peer{}, err
	}
	c.done, err = c.listener.quota.take(p)
	return p, err
}

func (c *served) Read(b []byte) (int, error) {
	if len(c.hello) > 0 {
		n := copy(b, c.hello)
		c.hello = c.hello[n:]
		return n, nil
	}
	return c.handled.Read(b)
}

// Close may come more than once, and from others than who reads.
func (c *served) Close() error {
	c.listener.heard(c)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.done != nil {
		c.done()
	}
	return c.handled.Close()
}

// dialled is a connection as a client has it.
type dialled struct {
	handled
	server Peer
}

// Dial connects to a pipe as a client that its server may identify, and no more
// (SECURITY_IDENTIFICATION). While all instances are taken it tries again until
// ctx ends. Whoever dials asks PeerOf who serves it.
func Dial(ctx context.Context, path string) (net.Conn, error) {
	if err := checkPipeName(path); err != nil {
		return nil, err
	}
	conn, err := winio.DialPipeAccessImpLevel(ctx, path, clientRights, winio.PipeImpLevelIdentification)
	if err != nil {
		return nil, err
	}
	h, ok := conn.(handled)
	if !ok {
		conn.Close()
		return nil, fmt.Errorf("a %T has no handle", conn)
	}
	sd, err := windows.GetSecurityInfo(windows.Handle(h.Fd()), windows.SE_KERNEL_OBJECT, windows.OWNER_SECURITY_INFORMATION)
	var owner *windows.SID
	if err == nil {
		owner, _, err = sd.Owner()
	}
	if err == nil && owner == nil {
		err = errors.New("it has none")
	}
	var id identity.ID
	if err == nil {
		id, err = identity.SID(owner.String())
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("the owner of %s: %w", path, err)
	}
	return &dialled{h, Peer{ID: id, Admin: id == identity.Administrators}}, nil
}

// TrustAgent is what a client accepts as the agent.
func TrustAgent(p Peer) error { return trustOwner(p.ID, identity.Self(), elevated()) }

// PeerOf says who is at the other end of a connection of Listen or Dial: who
// connected, or who owns the pipe.
func PeerOf(conn net.Conn) (Peer, error) {
	switch c := conn.(type) {
	case *served:
		return c.identify()
	case *dialled:
		return c.server, nil
	}
	return Peer{}, fmt.Errorf("a %T has no peer credentials", conn)
}

var impersonateNamedPipeClient = windows.NewLazySystemDLL("advapi32.dll").NewProc("ImpersonateNamedPipeClient")

// clientToken is what the token says that a pipe's client connected with.
func clientToken(pipe windows.Handle) (token, error) {
	opened, err := openClientToken(pipe)
	if err != nil {
		return token{}, err
	}
	defer opened.Close()
	level, err := tokenUint32(opened, windows.TokenImpersonationLevel)
	if err != nil {
		return token{}, err
	}
	return readToken(opened, opened, level)
}

// openClientToken takes the client's place on this thread, for as long as it
// takes to open the token.
func openClientToken(pipe windows.Handle) (opened windows.Token, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if ok, _, err := impersonateNamedPipeClient.Call(uintptr(pipe)); ok == 0 {
		return 0, fmt.Errorf("ImpersonateNamedPipeClient: %w", err)
	}
	// As the process, not as the client: of that one Windows may only be told who
	// it is.
	err = windows.OpenThreadToken(windows.CurrentThread(), windows.TOKEN_QUERY, true, &opened)
	if reverted := windows.RevertToSelf(); reverted != nil {
		// A thread that stays somebody else must not do anything more.
		_, _ = fmt.Fprintln(os.Stderr, "sallyport: RevertToSelf:", reverted)
		os.Exit(1)
	}
	if err != nil {
		return 0, fmt.Errorf("OpenThreadToken: %w", err)
	}
	return opened, nil
}

// The classes of TOKEN_INFORMATION_CLASS (winnt.h) that x/sys does not name.
const tokenIsAppContainer = 29

// administratorsSID is the group in Windows' own form.
var administratorsSID = sync.OnceValue(func() *windows.SID {
	sid, _ := windows.CreateWellKnownSid(windows.WinBuiltinAdministratorsSid) // nil: nobody is in it
	return sid
})

// readToken reads what matters of a token. member is the same one, where Windows
// takes it for CheckTokenMembership: a token to impersonate with, or 0 for the
// process's own.
func readToken(t, member windows.Token, level uint32) (token, error) {
	user, err := t.GetTokenUser()
	if err != nil {
		return token{}, fmt.Errorf("the token's user: %w", err)
	}
	groups, err := t.GetTokenGroups()
	if err != nil {
		return token{}, fmt.Errorf("the token's groups: %w", err)
	}
	out := token{user: user.User.Sid.String(), level: level}
	for _, g := range groups.AllGroups() {
		out.groups = append(out.groups, tokenGroup{g.Sid.String(), g.Attributes})
	}
	if out.member, err = member.IsMember(administratorsSID()); err != nil {
		return token{}, fmt.Errorf("CheckTokenMembership: %w", err)
	}
	container, err := tokenUint32(t, tokenIsAppContainer)
	if err != nil {
		return token{}, err
	}
	out.appContainer = container != 0
	out.integrity, err = tokenIntegrity(t)
	return out, err
}

func tokenUint32(t windows.Token, class uint32) (v uint32, err error) {
	var n uint32
	if err := windows.GetTokenInformation(t, class, (*byte)(unsafe.Pointer(&v)), uint32(unsafe.Sizeof(v)), &n); err != nil {
		return 0, fmt.Errorf("the token's information %d: %w", class, err)
	}
	return v, nil
}

// tokenIntegrity is the level of a token's mandatory label.
func tokenIntegrity(t windows.Token) (uint32, error) {
	// A TOKEN_MANDATORY_LABEL and its SID, which has one number.
	var b struct {
		label windows.Tokenmandatorylabel
		sid   [16]byte
	}
	var n uint32
	if err := windows.GetTokenInformation(t, windows.TokenIntegrityLevel, (*byte)(unsafe.Pointer(&b)), uint32(unsafe.Sizeof(b)), &n); err != nil {
		return 0, fmt.Errorf("the token's integrity: %w", err)
	}
	text := b.label.Label.Sid.String()
	level, ok := strings.CutPrefix(text, "S-1-16-")
	v, err := strconv.ParseUint(level, 10, 32)
	if !ok || err != nil {
		return 0, fmt.Errorf("the token's integrity is %q", text)
	}
	return uint32(v), nil
}

// elevated says whether this process has an administrator's rights.
var elevated = sync.OnceValue(func() bool {
	t, err := readToken(windows.GetCurrentProcessToken(), 0, levelIdentification)
	return err == nil && t.admin()
})
