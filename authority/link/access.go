package link

import (
	"context"
	"errors"
	"log/slog"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"

	"sallyport/authority/door"
	"sallyport/authority/enrol"
	"sallyport/authority/store"
	authorityv1 "sallyport/proto/sallyport/authority/v1"
)

// access is what a method needs. The zero value is refused.
type access int

const (
	refused    access = iota
	anyone            // no certificate; limited by address
	aDevice           // a device's certificate in force
	lateDevice        // one that may have expired up to enrol.RenewLate ago
)

// table is all that can be called; a test walks the methods.
var table = map[string]access{
	authorityv1.AuthorityService_Register_FullMethodName:     anyone,
	authorityv1.AuthorityService_Renew_FullMethodName:        lateDevice,
	authorityv1.AuthorityService_Connect_FullMethodName:      aDevice,
	authorityv1.AuthorityService_UploadEvents_FullMethodName: aDevice,
}

// caller is who calls, as the transport knows.
type caller struct {
	enrol.Identity
	address string // without the port; an IPv6 network of 64 bits
	// cancel ends the call: whatever waits to receive or to send returns.
	cancel context.CancelFunc
}

type callerKey struct{}

// callerOf returns who calls. That there is nobody is an error.
func callerOf(ctx context.Context) (*caller, error) {
	c, ok := ctx.Value(callerKey{}).(*caller)
	if !ok {
		return nil, status.Error(codes.PermissionDenied, "it is not known who calls")
	}
	return c, nil
}

// admit is the first thing that a call meets, before any of its messages is read:
// what needs no database is decided here. It must not block.
func (s *Service) admit(ctx context.Context, info *tap.Info) (context.Context, error) {
	need := table[info.FullMethodName]
	if need == refused {
		return nil, status.Error(codes.PermissionDenied, "there is no such call")
	}
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil, status.Error(codes.PermissionDenied, "it is not known who calls")
	}
	transport, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return nil, status.Error(codes.PermissionDenied, "only over TLS")
	}
	now := s.now()
	c := new(caller)
	c.address, _ = door.Address(p.Addr)
	if need == anyone {
		if !s.strangers.take(c.address, now) || s.failures.empty(c.address, now) {
			return nil, status.Error(codes.ResourceExhausted, "too many computers want to join from this address at once; try again in a minute")
		}
	} else {
		certificates := transport.State.PeerCertificates
		if len(certificates) == 0 {
			return nil, status.Error(codes.Unauthenticated, "this needs a device's certificate: sallyport join")
		}
		var err error
		if c.Identity, err = s.keys.Identify(certificates[0], now); err != nil {
			return nil, status.Error(codes.Unauthenticated, err.Error())
		}
		if c.Expired(now) && need != lateDevice {
			return nil, status.Error(codes.Unauthenticated, "the device's certificate has expired: it has to be renewed")
		}
		if c.Expired(now.Add(-enrol.RenewLate)) {
			return nil, status.Error(codes.Unauthenticated, "the device's certificate expired too long ago: sallyport join, with a new token")
		}
		calls := s.calls
		if info.FullMethodName == authorityv1.AuthorityService_UploadEvents_FullMethodName { // after an outage there are many at once
			calls = s.uploadCalls
		}
		if !calls.take(c.Device, now) {
			return nil, status.Error(codes.ResourceExhausted, "this device calls too often")
		}
	}
	if info.FullMethodName == authorityv1.AuthorityService_Connect_FullMethodName {
		ctx, c.cancel = context.WithCancel(ctx)
	} else { // also for whoever begins a call and sends nothing
		ctx, c.cancel = context.WithTimeout(ctx, s.callTime)
	}
	return context.WithValue(ctx, callerKey{}, c), nil
}

// check asks the database whether the caller's device still is one.
func (s *Service) check(ctx context.Context, method string) error {
	c, err := callerOf(ctx)
	if err != nil || table[method] == anyone {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.requestTime)
	defer cancel()
	err = use(ctx, s.connects, func() error {
		_, err := s.enrol.Check(ctx, c.Identity)
		return err
	})
	return s.status(method, err)
}

func (s *Service) unary(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if c, err := callerOf(ctx); err == nil {
		defer c.cancel()
	}
	if err := s.check(ctx, info.FullMethod); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.requestTime)
	defer cancel()
	response, err := handler(ctx, request)
	return response, s.status(info.FullMethod, err)
}

func (s *Service) streaming(service any, g grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if c, err := callerOf(g.Context()); err == nil {
		defer c.cancel()
	}
	var err error
	apart(func() { err = s.check(g.Context(), info.FullMethod) })
	if err != nil {
		return err
	}
	return s.status(info.FullMethod, handler(service, g))
}

// unavailable says whether an error may be gone the next time.
func unavailable(err error) bool {
	return errors.Is(err, store.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// status is an error as the caller sees it: what it can do something about, and
// of everything else only that it failed.
func (s *Service) status(what string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	code := codes.Internal
	switch {
	case errors.Is(err, enrol.ErrInvalid):
		code = codes.InvalidArgument
	case errors.Is(err, enrol.ErrToken):
		code = codes.Unauthenticated
	case errors.Is(err, enrol.ErrKey):
		code = codes.NotFound // no renewal helps, as it would with the one before
	case errors.Is(err, enrol.ErrRevoked), errors.Is(err, enrol.ErrNotAllowed):
		code = codes.PermissionDenied
	case errors.Is(err, enrol.ErrNotSigned):
		code = codes.FailedPrecondition
	case errors.Is(err, store.ErrNotFound):
		return status.Error(codes.NotFound, "that is not known here")
	case unavailable(err):
		s.log.Error("the database is not available", "call", what, "err", err)
		return status.Error(codes.Unavailable, "the authority's database is not available")
	}
	if code == codes.Internal {
		s.log.LogAttrs(context.Background(), slog.LevelError, "a call failed", slog.String("call", what), slog.Any("err", err))
		return status.Error(code, "the authority failed; its log says why")
	}
	return status.Error(code, err.Error())
}
