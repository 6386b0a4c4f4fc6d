package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

	"sallyport/internal/config"
	"sallyport/internal/localsock"
	adminv1 "sallyport/proto/sallyport/admin/v1"
)

const (
	dialTimeout = 5 * time.Second
	callTimeout = 30 * time.Second
	// Every enrolled user in one answer: 100,000 take about 20 MB.
	maxAnswer = 256 << 20
)

// agent is a connection to the agent for one command.
type agent struct {
	adminv1.AdminServiceClient
	socket string
	conn   *grpc.ClientConn
	mu     sync.Mutex
	first  net.Conn // dialled, and not yet gRPC's
}

// connect reaches the agent or says why not. It dials at once, not with the
// first call, so that the reason why not is a plain one.
func (a *app) connect(ctx context.Context) (*agent, error) {
	c := &agent{socket: filepath.Join(a.socketDir(), localsock.AdminName)}
	var err error
	if c.first, err = dialChecked(ctx, c.socket); err != nil {
		return nil, err
	}
	c.conn, err = grpc.NewClient("passthrough:///sallyport",
		// The socket's peer is known from the kernel; there is nothing to encrypt.
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithAuthority("localhost"),
		grpc.WithNoProxy(),
		// An agent that is stopped takes a connection and says nothing on it.
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: dialTimeout}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer)),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			if first := c.takeFirst(); first != nil {
				return first, nil
			}
			return dialChecked(ctx, c.socket)
		}))
	if err != nil {
		_ = c.first.Close()
		return nil, failed("grpc over %s: %v", c.socket, err)
	}
	c.AdminServiceClient = adminv1.NewAdminServiceClient(c.conn)
	return c, nil
}

func (c *agent) takeFirst() net.Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	first := c.first
	c.first = nil
	return first
}

func (c *agent) close() {
	_ = c.conn.Close()
	if first := c.takeFirst(); first != nil {
		_ = first.Close()
	}
}

// dialChecked dials the socket and refuses an agent that is neither the system's
// nor the caller's own: a stranger's socket must not be told what to enrol.
func dialChecked(ctx context.Context, socket string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	c, err := localsock.Dial(ctx, socket)
	if err != nil {
		return nil, dialError(socket, err)
	}
	peer, err := localsock.PeerOf(c)
	if err == nil {
		err = localsock.TrustAgent(peer)
	}
	if err != nil {
		_ = c.Close()
		return nil, &Error{Exit: ExitDenied, Text: fmt.Sprintf("%s: %v", socket, err),
			Remedy: "somebody else listens there; check --runtime-dir, and see: sallyport doctor"}
	}
	return c, nil
}

// longestSocket is sun_path of this system, but for its NUL: unix(7), unix(4).
const longestSocket = len(syscall.RawSockaddrUnix{}.Path) - 1

// dialError says in plain words why nobody answered on a socket.
func dialError(socket string, err error) *Error {
	e := &Error{Exit: ExitNotRunning, Remedy: remedyNotRunning}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e.Text = fmt.Sprintf("the agent is not running: %s is not there", socket)
	case errors.Is(err, syscall.ECONNREFUSED):
		e.Text = fmt.Sprintf("the agent is not running: nobody listens on %s", socket)
	case errors.Is(err, fs.ErrPermission):
		return &Error{Exit: ExitDenied, Text: fmt.Sprintf("not permitted to use %s", socket),
			Remedy: remedyRights}
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, context.DeadlineExceeded):
		e.Text = fmt.Sprintf("the agent does not take connections on %s: its queue is full", socket)
		e.Remedy = remedyHung
	case errors.Is(err, syscall.EINVAL) && len(socket) > longestSocket:
		return badUsage("%s is too long for a socket's path (%d bytes at most)", socket, longestSocket)
	default:
		e.Text = fmt.Sprintf("the agent is not running: %v", err)
	}
	return e
}

// socketDir says which agent is meant: --runtime-dir, else the configuration. A
// configuration that cannot be read does not stop the helpdesk from asking the
// agent that still runs with the last good one.
func (a *app) socketDir() string {
	if a.runtimeDir != "" {
		return a.runtimeDir
	}
	if a.deps.RuntimeDir != nil {
		if dir, err := a.deps.RuntimeDir(a.config); err == nil && dir != "" {
			return dir
		}
	}
	return config.Default().RuntimeDir
}

// call runs one exchange with the agent under a deadline: a stopped agent must
// not leave the helpdesk waiting.
func (a *app) call(ctx context.Context, do func(ctx context.Context, c *agent) error) error {
	c, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer c.close()
	ctx, cancel := context.WithTimeout(ctx, a.deps.CallTimeout)
	defer cancel()
	return fromAgent(do(ctx, c), c.socket)
}

func isDown(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Exit == ExitNotRunning
}
