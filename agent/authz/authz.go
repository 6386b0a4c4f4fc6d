// Package authz is the table of who may call what. What is not in it is denied,
// and a test walks every method of every service.
package authz

import (
	"context"
	"fmt"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"sallyport/internal/identity"
	"sallyport/internal/localsock"
)

// Who is a class of local callers.
type Who int

// The classes. The zero value is nobody.
const (
	Nobody  Who = iota
	Anyone      // every local user; loginsvc then lets each ask only for itself
	Readers     // the owners, and the admin group
	Owners      // localsock.Peer.IsOwner: root, an administrator, the agent's own user
)

const (
	login = "/sallyport.login.v1.LoginService/"
	admin = "/sallyport.admin.v1.AdminService/"
)

// table is the whole rule.
var table = map[string]Who{
	login + "Converse": Anyone,

	admin + "Status":     Readers,
	admin + "ListUsers":  Readers,
	admin + "ShowUser":   Readers,
	admin + "Events":     Readers,
	admin + "ShowConfig": Readers,
	// Whoever may read the configuration and the accounts may know what comes of them.
	admin + "ExplainPolicy": Readers,

	admin + "Enrol":            Owners,
	admin + "ConfirmEnrolment": Owners,
	admin + "Import":           Owners,
	admin + "RemoveUser":       Owners,
	admin + "Unlock":           Owners,
	admin + "NewRecoveryCodes": Owners,
	admin + "CreateBypass":     Owners,
	admin + "OpenEnrolment":    Owners,
	admin + "EnrolPush":        Owners,
	admin + "RemovePhone":      Owners,
	admin + "ClearPush":        Owners,
	admin + "Join":             Owners,
	admin + "Leave":            Owners,
	admin + "ResetClock":       Owners,
	admin + "InitVault":        Owners,
	admin + "AcceptVault":      Owners,
	admin + "RekeyVault":       Owners,
}

// Gate checks calls against the table.
type Gate struct {
	// InAdminGroup says whether an account is in the configured group.
	InAdminGroup func(id identity.ID) bool
	// Refused is told of every call that was.
	Refused func(peer localsock.Peer, method string)
}

// allow decides one call.
func (g *Gate) allow(ctx context.Context, method string) error {
	peer, err := localsock.FromContext(ctx)
	if err != nil {
		return status.Error(codes.Unauthenticated, err.Error())
	}
	ok := false
	switch table[method] {
	case Anyone:
		ok = true
	case Readers:
		ok = peer.IsOwner() || g.InAdminGroup(peer.ID)
	case Owners:
		ok = peer.IsOwner()
	}
	if ok {
		return nil
	}
	g.Refused(peer, method)
	as := "root"
	if _, windows := peer.ID.SID(); windows {
		as = "administrator"
	}
	return status.Error(codes.PermissionDenied, fmt.Sprintf("%s may not call %s; run the command as %s",
		peer, method[strings.LastIndexByte(method, '/')+1:], as))
}

// Options are the interceptors. A method that nobody serves is Unimplemented
// before they are asked.
func (g *Gate) Options() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.UnaryInterceptor(func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			if err := g.allow(ctx, info.FullMethod); err != nil {
				return nil, err
			}
			return next(ctx, req)
		}),
		grpc.StreamInterceptor(func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			if err := g.allow(stream.Context(), info.FullMethod); err != nil {
				return err
			}
			return next(srv, stream)
		}),
	}
}
