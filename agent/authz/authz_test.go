package authz

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/emptypb"

	"sallyport/internal/identity"
	"sallyport/internal/localsock"
	adminv1 "sallyport/proto/sallyport/admin/v1"
	loginv1 "sallyport/proto/sallyport/login/v1"
)

// expected is the rule once more, by what a caller may do: L log in, R read,
// W change.
var expected = map[string]string{
	"/sallyport.login.v1.LoginService/Converse": "L",

	"/sallyport.admin.v1.AdminService/Status":        "R",
	"/sallyport.admin.v1.AdminService/ListUsers":     "R",
	"/sallyport.admin.v1.AdminService/ShowUser":      "R",
	"/sallyport.admin.v1.AdminService/Events":        "R",
	"/sallyport.admin.v1.AdminService/ShowConfig":    "R",
	"/sallyport.admin.v1.AdminService/ExplainPolicy": "R",

	"/sallyport.admin.v1.AdminService/Enrol":            "W",
	"/sallyport.admin.v1.AdminService/ConfirmEnrolment": "W",
	"/sallyport.admin.v1.AdminService/Import":           "W",
	"/sallyport.admin.v1.AdminService/RemoveUser":       "W",
	"/sallyport.admin.v1.AdminService/Unlock":           "W",
	"/sallyport.admin.v1.AdminService/NewRecoveryCodes": "W",
	"/sallyport.admin.v1.AdminService/CreateBypass":     "W",
	"/sallyport.admin.v1.AdminService/OpenEnrolment":    "W",
	"/sallyport.admin.v1.AdminService/EnrolPush":        "W",
	"/sallyport.admin.v1.AdminService/RemovePhone":      "W",
	"/sallyport.admin.v1.AdminService/ClearPush":        "W",
	"/sallyport.admin.v1.AdminService/Join":             "W",
	"/sallyport.admin.v1.AdminService/Leave":            "W",
	"/sallyport.admin.v1.AdminService/ResetClock":       "W",
	"/sallyport.admin.v1.AdminService/InitVault":        "W",
	"/sallyport.admin.v1.AdminService/AcceptVault":      "W",
	"/sallyport.admin.v1.AdminService/RekeyVault":       "W",
}

// The uids of the callers. Whoever runs the test is the agent's own user.
const (
	helpdesk = 54321
	stranger = 54322
)

// And of those on Windows.
const (
	adminSID    identity.ID = "sid:S-1-5-21-1-2-3-500"
	helpdeskSID identity.ID = "sid:S-1-5-21-1-2-3-1001"
	userSID     identity.ID = "sid:S-1-5-21-1-2-3-1002"
)

// callers are who may call, and what each may do.
var callers = map[string]struct {
	is  credentials.AuthInfo
	may string
}{
	"root": {localsock.Peer{ID: identity.Root}, "LRW"},
	// Where the agent is elevated (Windows), what its user runs elevated as well.
	"the agent's own user":               {localsock.Peer{ID: identity.Self(), Admin: runtime.GOOS == "windows"}, "LRW"},
	"the admin group":                    {localsock.Peer{ID: identity.UID(helpdesk)}, "LR"},
	"a stranger":                         {localsock.Peer{ID: identity.UID(stranger)}, "L"},
	"SYSTEM":                             {localsock.Peer{ID: identity.System, Admin: true}, "LRW"},
	"an elevated administrator":          {localsock.Peer{ID: adminSID, Admin: true}, "LRW"},
	"an administrator without elevation": {localsock.Peer{ID: adminSID}, "L"},
	"the admin group on Windows":         {localsock.Peer{ID: helpdeskSID}, "LR"},
	"a user on Windows":                  {localsock.Peer{ID: userSID}, "L"},
	"another service on Windows":         {localsock.Peer{ID: "sid:S-1-5-20"}, "L"},
	"the administrators as a user":       {localsock.Peer{ID: "sid:S-1-5-32-544"}, "L"},
	"uid -1":                             {localsock.Peer{ID: identity.UID(^uint32(0))}, "L"},
	"nobody":                             {localsock.Peer{}, "L"},
	"somebody of no uid":                 {nil, ""},
	"somebody known by TLS":              {credentials.TLSInfo{}, ""},
}

// methods are those of every service the agent registers, by full name.
func methods() map[string]bool {
	all := map[string]bool{}
	for _, d := range []grpc.ServiceDesc{loginv1.LoginService_ServiceDesc, adminv1.AdminService_ServiceDesc} {
		for _, m := range d.Methods {
			all["/"+d.ServiceName+"/"+m.MethodName] = true
		}
		for _, s := range d.Streams {
			all["/"+d.ServiceName+"/"+s.StreamName] = true
		}
	}
	return all
}

func TestTheTableIsTheServices(t *testing.T) {
	for method := range methods() {
		if _, ok := table[method]; !ok {
			t.Errorf("%s is not in the table: nobody may call it", method)
		}
		if _, ok := expected[method]; !ok {
			t.Errorf("%s is new: say here who may call it", method)
		}
	}
	for method, who := range table {
		if _, ok := methods()[method]; !ok {
			t.Errorf("%s is in the table and in no service", method)
		}
		if who == Nobody {
			t.Errorf("%s is in the table for nobody: leave it out", method)
		}
	}
	for method := range expected {
		if _, ok := methods()[method]; !ok {
			t.Errorf("%s is expected and in no service", method)
		}
	}
}

// gate is a Gate, with the calls it refused.
func gate() (*Gate, *[]string) {
	var refused []string
	return &Gate{
		InAdminGroup: func(id identity.ID) bool { return id == identity.UID(helpdesk) || id == helpdeskSID },
		Refused:      func(p localsock.Peer, method string) { refused = append(refused, p.String()+" "+method) },
	}, &refused
}

// TestEveryMethodAsEverybody goes the way of a call, over the wire.
func TestEveryMethodAsEverybody(t *testing.T) {
	for name, caller := range callers {
		g, refused := gate()
		conn := serve(t, g, caller.is)
		for method := range methods() {
			*refused = nil
			want := codes.PermissionDenied
			switch {
			case caller.may == "":
				want = codes.Unauthenticated
			case strings.Contains(caller.may, expected[method]):
				want = codes.Unimplemented // it got there
			}
			if st := call(t, conn, method); st.Code() != want {
				t.Errorf("%s calls %s: %v, want %v", name, method, st, want)
			}
			if told := len(*refused) == 1 && strings.HasSuffix((*refused)[0], " "+method); told != (want == codes.PermissionDenied) {
				t.Errorf("%s calls %s: %v, and was told of %q", name, method, want, *refused)
			}
		}
	}
}

// TestWhatIsNotInTheTableIsDenied to everybody, root too. (grpc answers for
// methods of no service before the gate; it does not reach anything either.)
func TestWhatIsNotInTheTableIsDenied(t *testing.T) {
	for _, method := range []string{admin + "New", admin, admin + "status", admin + "Status/", "/" + admin + "Status", "sallyport.admin.v1.AdminService/Status",
		"/sallyport.admin.v2.AdminService/Status", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "/", "", "Status"} {
		for name, caller := range callers {
			g, _ := gate()
			want := codes.PermissionDenied
			if caller.may == "" {
				want = codes.Unauthenticated
			}
			ctx := peer.NewContext(t.Context(), &peer.Peer{AuthInfo: caller.is})
			if err := g.allow(ctx, method); status.Code(err) != want {
				t.Errorf("%s calls %q: %v, want %v", name, method, err, want)
			}
		}
	}
	g, _ := gate()
	if err := g.allow(t.Context(), admin+"Status"); status.Code(err) != codes.Unauthenticated {
		t.Errorf("a call that came from nowhere: %v", err)
	}
}

// serve has both services behind the gate, with nothing behind their methods:
// a call that gets through ends as Unimplemented. caller is who calls, as the
// kernel would have said it; nil is a server that does not ask the kernel.
func serve(t *testing.T, g *Gate, caller credentials.AuthInfo) *grpc.ClientConn {
	t.Helper()
	wire := bufconn.Listen(1 << 16)
	s := grpc.NewServer(append(g.Options(), grpc.Creds(fixed{insecure.NewCredentials(), caller}))...)
	loginv1.RegisterLoginServiceServer(s, loginv1.UnimplementedLoginServiceServer{})
	adminv1.RegisterAdminServiceServer(s, adminv1.UnimplementedAdminServiceServer{})
	t.Cleanup(s.Stop)
	go func() { _ = s.Serve(wire) }() // ends with Stop
	conn, err := grpc.NewClient("passthrough:", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return wire.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// fixed are credentials that say who calls.
type fixed struct {
	credentials.TransportCredentials
	caller credentials.AuthInfo
}

func (f fixed) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return conn, f.caller, nil
}

func (f fixed) Clone() credentials.TransportCredentials { return f }

func call(t *testing.T, conn *grpc.ClientConn, method string) *status.Status {
	return status.Convert(conn.Invoke(t.Context(), method, &emptypb.Empty{}, &emptypb.Empty{}))
}

func TestZeroValues(t *testing.T) {
	if Nobody != 0 {
		t.Error("the zero class must be nobody")
	}
}

func TestARefusalSaysWhatToDo(t *testing.T) {
	for id, as := range map[identity.ID]string{identity.UID(stranger): "root", userSID: "administrator"} {
		g, _ := gate()
		st := call(t, serve(t, g, localsock.Peer{ID: id}), admin+"Unlock")
		if want := fmt.Sprintf("%s may not call Unlock; run the command as %s", id, as); st.Message() != want {
			t.Errorf("%v, want %s", st, want)
		}
	}
}

// TestTheAdminGroupIsAskedOnlyWhenItMatters: the look-up may be slow, and must
// not decide about root.
func TestTheAdminGroupIsAskedOnlyWhenItMatters(t *testing.T) {
	var asked []identity.ID
	g := &Gate{InAdminGroup: func(id identity.ID) bool { asked = append(asked, id); return true }, Refused: func(localsock.Peer, string) {}}
	for _, uid := range []uint32{0, stranger} {
		conn := serve(t, g, localsock.Peer{ID: identity.UID(uid)})
		for method := range expected {
			call(t, conn, method)
		}
	}
	if slices.Contains(asked, identity.Root) || len(asked) != 6 {
		t.Errorf("asked about %v", asked)
	}
}
