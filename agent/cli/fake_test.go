package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"sallyport/agent/cli/doctor"
	"sallyport/internal/command"
	"sallyport/internal/localsock"
	"sallyport/internal/winreg"
	adminv1 "sallyport/proto/sallyport/admin/v1"
)

func TestMain(m *testing.M) {
	completionTime = time.Minute
	time.Local = time.UTC // times for people are in the local zone
	os.Exit(m.Run())
}

// Canaries: what must appear only where a command is there to show it.
const (
	canarySecret   = "CANARYSECRETCANARYSECRETCANARY23"
	canaryURI      = "otpauth://totp/host:alice?secret=" + canarySecret + "&issuer=host"
	canaryRecovery = "canary-recov-ery01"
	canaryBypass   = "1234-5678-9012"
	canaryLink     = "https://approve.example.com/#e=1&s=CANARYFRAGMENT&u=alice"
	rightCode      = "246802"
)

// fakeAgent answers like an agent with a few users, and remembers what it was
// asked.
type fakeAgent struct {
	adminv1.UnimplementedAdminServiceServer
	mu       sync.Mutex
	requests []proto.Message
	status   *adminv1.StatusResponse
	events   []string
	follow   chan string // events that come while a stream is followed
	deny     error       // every call is refused with it
	imported func(*adminv1.ImportRequest) []*adminv1.ImportResult
	phone    chan error                  // EnrolPush waits for it: nil is a phone that enrolled
	unheard  bool                        // the authority has not said anything yet
	noCode   bool                        // alice's code is gone
	policy   *adminv1.ShowConfigResponse // nil: a short configuration
	gone     chan struct{}               // closed when a caller of EnrolPush went away
}

var day = time.Date(2026, 11, 22, 10, 20, 30, 0, time.UTC)

func newFake() *fakeAgent {
	return &fakeAgent{
		follow: make(chan string),
		phone:  make(chan error, 1), gone: make(chan struct{}),
		status: &adminv1.StatusResponse{
			Version: "1.2.3", Started: timestamppb.New(day), Pid: 42, Platform: "linux/amd64",
			Vault:         &adminv1.VaultStatus{State: "open", Keychain: "file", Id: "v1", Generation: 7, SizeBytes: 65536, EventsKept: 3},
			UsersEnrolled: 2, UsersLocked: 1, UsersOfflineReady: 2, UsersPending: 1, Locked: []string{"bob"},
			Policy: "whoever is enrolled", ConfigPath: "/etc/sallyport/sallyport.toml", ConfigLoaded: timestamppb.New(day),
			LoginSocket: "/run/sallyport/login.sock", AdminSocket: "/run/sallyport/admin.sock", RssBytes: 12 << 20,
			LastEvents: []*adminv1.Event{{Json: []byte(eventAlice)}},
		},
		events: []string{eventAlice, eventBob},
	}
}

const (
	eventAlice = `{"seq":1,"time":"2026-11-22T10:20:30Z","event":"login_attempt","user":"alice","key":"uid:1000","hook":"pam",` +
		`"service":"sshd","scenario":"remote","remote":"192.0.2.7","verdict":"allow","reason":"ok","factor":"totp"}`
	eventBob = `{"seq":2,"time":"2026-11-22T10:21:30Z","event":"login_attempt","user":"bob\u001b[31m","key":"uid:1001",` +
		`"service":"sudo","verdict":"deny","reason":"wrong_code"}`
)

func (f *fakeAgent) got(m proto.Message) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests = append(f.requests, proto.Clone(m))
	return f.deny
}

// asked is the requests of one type so far.
func asked[T proto.Message](f *fakeAgent) (out []T) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.requests {
		if m, ok := r.(T); ok {
			out = append(out, m)
		}
	}
	return out
}

func (f *fakeAgent) user(name string) (*adminv1.User, error) {
	users := map[string]*adminv1.User{
		"alice": {Key: "uid:1000", Name: "alice", Resolves: true, Totp: true, Algorithm: "SHA1", Digits: 6, PeriodSeconds: 30,
			RecoveryLeft: 9, OfflineReady: true, Enrolled: timestamppb.New(day), LastSuccess: timestamppb.New(day), Asked: "asked, by default.enrolled",
			Phones:    []*adminv1.Phone{{Id: "AAAAbbbb", Name: "Pixel 8\x1b[31m", Source: "here"}, {Id: "CCCCdddd", Name: "iPhone", Source: "authority", Synced: true}},
			PushReady: true, PushState: "ready"},
		"bob": {Key: "uid:1001", Name: "bob", Resolves: true, Totp: true, Algorithm: "SHA256", Digits: 8, PeriodSeconds: 30,
			Failures: 10, Locked: true, LockedFor: durationpb.New(14*time.Minute + 30*time.Second), Asked: "asked",
			Phones: []*adminv1.Phone{{Id: "EEEEffff", Name: "Nokia", Source: "here"}}, PushState: "paused", PushPausedFor: durationpb.New(12 * time.Minute)},
		"mallory": {Key: "uid:1002", Name: "mallory", Resolves: true, Totp: true, PushReported: true, PushState: "reported",
			Phones: []*adminv1.Phone{{Id: "GGGGhhhh", Name: "Fairphone", Source: "here"}}},
	}
	if u, ok := users[name]; ok {
		return u, nil
	}
	return nil, status.Errorf(codes.NotFound, "no user %q on this computer, and no record of that name", name)
}

func (f *fakeAgent) Status(_ context.Context, r *adminv1.StatusRequest) (*adminv1.StatusResponse, error) {
	return f.status, f.got(r)
}

func (f *fakeAgent) ListUsers(_ context.Context, r *adminv1.ListUsersRequest) (*adminv1.ListUsersResponse, error) {
	alice, _ := f.user("alice")
	bob, _ := f.user("bob")
	if f.noCode {
		alice.PushState, alice.PushReady = "no_code", false
	}
	return &adminv1.ListUsersResponse{Users: []*adminv1.User{bob, alice},
		Pending: []*adminv1.PendingUser{{Name: "carol", Source: "oath", Imported: timestamppb.New(day)}}}, f.got(r)
}

func (f *fakeAgent) oneUser(r *adminv1.UserRequest) (*adminv1.User, error) {
	if err := f.got(r); err != nil {
		return nil, err
	}
	return f.user(r.GetUser())
}

func (f *fakeAgent) ShowUser(_ context.Context, r *adminv1.UserRequest) (*adminv1.User, error) {
	return f.oneUser(r)
}

func (f *fakeAgent) RemoveUser(_ context.Context, r *adminv1.UserRequest) (*adminv1.User, error) {
	return f.oneUser(r)
}

func (f *fakeAgent) Unlock(_ context.Context, r *adminv1.UserRequest) (*adminv1.User, error) {
	return f.oneUser(r)
}

func (f *fakeAgent) Events(r *adminv1.EventsRequest, stream grpc.ServerStreamingServer[adminv1.Event]) error {
	if err := f.got(r); err != nil {
		return err
	}
	for _, e := range f.events {
		if err := stream.Send(&adminv1.Event{Json: []byte(e)}); err != nil {
			return err
		}
	}
	for r.GetFollow() {
		select {
		case e, ok := <-f.follow:
			if !ok {
				return nil
			}
			if err := stream.Send(&adminv1.Event{Json: []byte(e)}); err != nil {
				return err
			}
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
	return nil
}

func (f *fakeAgent) ShowConfig(_ context.Context, r *adminv1.ShowConfigRequest) (*adminv1.ShowConfigResponse, error) {
	if f.policy != nil {
		return f.policy, f.got(r)
	}
	return &adminv1.ShowConfigResponse{Values: []*adminv1.ConfigValue{
		{Key: "state_dir", Value: `"/var/lib/sallyport"`, Source: "default"},
		{Key: "policy.required", Value: `["@admins"]`, Source: "/etc/sallyport/sallyport.toml:7"}}}, f.got(r)
}

func (f *fakeAgent) Enrol(_ context.Context, r *adminv1.EnrolRequest) (*adminv1.EnrolResponse, error) {
	if err := f.got(r); err != nil {
		return nil, err
	}
	if r.GetUser() != "alice" {
		_, err := f.user(r.GetUser())
		if err == nil && !r.GetReplace() {
			err = status.Errorf(codes.AlreadyExists, "%s is enrolled already; --replace gives a new secret", r.GetUser())
		}
		if err != nil {
			return nil, err
		}
	}
	answer := &adminv1.EnrolResponse{User: r.GetUser(), Key: "uid:1000", OtpauthUri: canaryURI}
	if r.GetNoConfirm() || r.GetOtpauthUri() != "" {
		answer.RecoveryCodes = []string{canaryRecovery, "second-code-xx"}
	} else {
		answer.EnrolmentId = "e1"
	}
	return answer, nil
}

func (f *fakeAgent) ConfirmEnrolment(_ context.Context, r *adminv1.ConfirmEnrolmentRequest) (*adminv1.EnrolResponse, error) {
	if err := f.got(r); err != nil {
		return nil, err
	}
	if r.GetEnrolmentId() != "e1" || r.GetCode() != rightCode {
		return nil, status.Error(codes.FailedPrecondition, "that code is wrong; wait for the next one and try it")
	}
	return &adminv1.EnrolResponse{User: "alice", Key: "uid:1000", RecoveryCodes: []string{canaryRecovery, "second-code-xx"}}, nil
}

func (f *fakeAgent) Import(_ context.Context, r *adminv1.ImportRequest) (*adminv1.ImportResponse, error) {
	if err := f.got(r); err != nil {
		return nil, err
	}
	if f.imported != nil {
		return &adminv1.ImportResponse{Results: f.imported(r)}, nil
	}
	answer := &adminv1.ImportResponse{}
	for _, e := range r.GetEntries() {
		result := &adminv1.ImportResult{User: e.GetUser(), Outcome: "imported"}
		if strings.HasPrefix(e.GetUser(), "ghost") {
			result.Outcome, result.Text = "pending", "no such user on this computer yet"
		}
		answer.Results = append(answer.Results, result)
	}
	return answer, nil
}

func (f *fakeAgent) NewRecoveryCodes(_ context.Context, r *adminv1.UserRequest) (*adminv1.NewRecoveryCodesResponse, error) {
	u, err := f.oneUser(r)
	if err != nil {
		return nil, err
	}
	return &adminv1.NewRecoveryCodesResponse{User: u.GetName(), RecoveryCodes: []string{canaryRecovery, "second-code-xx"}}, nil
}

func (f *fakeAgent) CreateBypass(_ context.Context, r *adminv1.CreateBypassRequest) (*adminv1.CreateBypassResponse, error) {
	if err := f.got(r); err != nil {
		return nil, err
	}
	u, err := f.user(r.GetUser())
	if err != nil {
		return nil, err
	}
	return &adminv1.CreateBypassResponse{User: u.GetName(), Code: canaryBypass, Expires: timestamppb.New(day.Add(r.GetValidFor().AsDuration()))}, nil
}

func (f *fakeAgent) OpenEnrolment(_ context.Context, r *adminv1.OpenEnrolmentRequest) (*adminv1.OpenEnrolmentResponse, error) {
	if err := f.got(r); err != nil {
		return nil, err
	}
	answer := &adminv1.OpenEnrolmentResponse{User: r.GetUser()}
	if !r.GetClose() {
		answer.Expires = timestamppb.New(day.Add(r.GetValidFor().AsDuration()))
	}
	if r.GetWithCode() {
		answer.Code = canaryBypass
	}
	return answer, nil
}

// authority is how a computer stands that has joined one.
func (f *fakeAgent) authority() *adminv1.AuthorityStatus {
	return &adminv1.AuthorityStatus{Url: "https://authority.example.com:7443", Organisation: "Example", DeviceId: "DEVICEID", DeviceName: "pc1", Connected: true,
		Since: timestamppb.New(day), CertificateExpires: timestamppb.New(day.Add(96 * time.Hour)), Users: []string{"*"}, HoldsOrganisationKey: true,
		PageOrigin: "https://authority.example.com", EventsWaiting: 3, Exceptions: []string{"authority.allow_exemptions = true"}}
}

func (f *fakeAgent) EnrolPush(r *adminv1.EnrolPushRequest, stream grpc.ServerStreamingServer[adminv1.EnrolPushResponse]) error {
	if err := f.got(r); err != nil {
		return err
	}
	if _, err := f.user(r.GetUser()); err != nil {
		return err
	}
	if err := stream.Send(&adminv1.EnrolPushResponse{Url: canaryLink, Expires: timestamppb.New(day.Add(10 * time.Minute))}); err != nil {
		return err
	}
	select {
	case err := <-f.phone:
		if err != nil {
			return err
		}
		return stream.Send(&adminv1.EnrolPushResponse{Phone: &adminv1.Phone{Id: "IIIIjjjj", Name: "Pixel 9", Source: "here"}})
	case <-stream.Context().Done():
		close(f.gone)
		return stream.Context().Err()
	}
}

func (f *fakeAgent) RemovePhone(_ context.Context, r *adminv1.RemovePhoneRequest) (*adminv1.User, error) {
	if err := f.got(r); err != nil {
		return nil, err
	}
	u, err := f.user(r.GetUser())
	if err != nil {
		return nil, err
	}
	if r.GetPhone() != "AAAAbbbb" {
		return nil, status.Errorf(codes.NotFound, "%s has no phone %q here", u.GetName(), r.GetPhone())
	}
	u.Phones = u.Phones[1:]
	return u, nil
}

func (f *fakeAgent) ClearPush(_ context.Context, r *adminv1.UserRequest) (*adminv1.User, error) {
	u, err := f.oneUser(r)
	if err == nil {
		u.PushReported, u.PushPausedFor, u.PushState, u.PushReady = false, nil, "ready", true
	}
	return u, err
}

func (f *fakeAgent) Join(_ context.Context, r *adminv1.JoinRequest) (*adminv1.JoinResponse, error) {
	a := f.authority()
	if f.unheard {
		a.Connected, a.HoldsOrganisationKey = false, false
	}
	return &adminv1.JoinResponse{Authority: a}, f.got(r)
}

func (f *fakeAgent) Leave(_ context.Context, r *adminv1.LeaveRequest) (*adminv1.LeaveResponse, error) {
	return &adminv1.LeaveResponse{}, f.got(r)
}

func (f *fakeAgent) ResetClock(_ context.Context, r *adminv1.ResetClockRequest) (*adminv1.ResetClockResponse, error) {
	return &adminv1.ResetClockResponse{Now: timestamppb.New(day)}, f.got(r)
}

func (f *fakeAgent) InitVault(_ context.Context, r *adminv1.InitVaultRequest) (*adminv1.VaultResponse, error) {
	return &adminv1.VaultResponse{Vault: f.status.GetVault()}, f.got(r)
}

func (f *fakeAgent) AcceptVault(_ context.Context, r *adminv1.AcceptVaultRequest) (*adminv1.VaultResponse, error) {
	return &adminv1.VaultResponse{Vault: f.status.GetVault()}, f.got(r)
}

func (f *fakeAgent) RekeyVault(_ context.Context, r *adminv1.RekeyVaultRequest) (*adminv1.VaultResponse, error) {
	v := proto.Clone(f.status.GetVault()).(*adminv1.VaultStatus)
	v.Keychain = r.GetKeychain()
	return &adminv1.VaultResponse{Vault: v}, f.got(r)
}

// start serves the fake on a socket of its own and returns the runtime directory.
func (f *fakeAgent) start(t *testing.T) string {
	t.Helper()
	dir := runtimeDir(t)
	l := listenAdmin(t, dir)
	s := grpc.NewServer(grpc.Creds(localsock.Credentials(nil)))
	adminv1.RegisterAdminServiceServer(s, f)
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	return dir
}

// listenAdmin makes the admin socket in a runtime directory.
func listenAdmin(t *testing.T, dir string) net.Listener {
	t.Helper()
	path := filepath.Join(dir, localsock.AdminName)
	l, err := localsock.Listen(path, localsock.OwnerOnly, 100)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	listened(t, path)
	return l
}

// emptyWindows is a Windows with nothing of ours.
func emptyWindows() *doctor.Windows {
	return &doctor.Windows{
		Key:            func(string) (*winreg.Key, error) { return nil, nil },
		Service:        func() (*doctor.Service, error) { return nil, nil },
		Closed:         func(path string) error { return &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist} },
		ProductVersion: func(string) (string, error) { return "", nil },
		Account:        func(string) (doctor.Account, error) { return doctor.Account{}, fs.ErrNotExist },
		Holder:         func(string) string { return "nobody" },
	}
}

// session is one command line to run: the environment, and how it came out.
type session struct {
	t      *testing.T
	deps   Deps
	dir    string // --runtime-dir, left out when empty
	out    string
	err    string
	exit   int
	execed []string
}

// newSession prepares a command line against the fake, or against nobody (nil).
func newSession(t *testing.T, f *fakeAgent) *session {
	t.Helper()
	s := &session{t: t}
	if f != nil {
		s.dir = f.start(t)
	} else {
		s.dir = runtimeDir(t)
	}
	s.deps = Deps{
		Version: "9.9.9", CallTimeout: time.Minute,
		Process: command.Process{
			Stdin:  strings.NewReader(""),
			Getenv: func(string) string { return "" },
			Now:    func() time.Time { return day },
		},
		Root:       fstest.MapFS{},
		Windows:    emptyWindows(),
		Executable: func() (string, error) { return "/nowhere/sallyport", nil },
		Exec: func(path string, argv []string) (int, error) {
			s.execed = append([]string{path}, argv...)
			return 0, nil
		},
		Command: func(context.Context, string, ...string) ([]byte, error) { return nil, fs.ErrNotExist },
		CheckConfig: func(string, bool) (CheckedConfig, error) {
			return CheckedConfig{Values: []ConfigValue{{"state_dir", `"/x"`, "default"}}}, nil
		},
	}
	return s
}

// tty makes every stream a terminal on which the lines given are typed.
func (s *session) tty(typed ...string) *session {
	s.deps.IsTTY = func(any) bool { return true }
	s.deps.Stdin = strings.NewReader(strings.Join(typed, "\n") + "\n")
	return s
}

func (s *session) stdin(text string) *session {
	s.deps.Stdin = strings.NewReader(text)
	return s
}

func (s *session) run(args ...string) *session {
	s.t.Helper()
	if s.dir != "" && !slices.Contains(args, "--runtime-dir") {
		args = append(slices.Clone(args), "--runtime-dir", s.dir)
	}
	var out, errOut bytes.Buffer
	s.deps.Stdout, s.deps.Stderr = &out, &errOut
	s.exit = Main(args, s.deps)
	s.out, s.err = out.String(), errOut.String()
	return s
}

// runCLI runs one command line against the fake (nil: no agent), off a terminal.
func runCLI(t *testing.T, f *fakeAgent, args ...string) *session {
	t.Helper()
	return newSession(t, f).run(args...)
}

func (s *session) wantExit(code int) *session {
	s.t.Helper()
	if s.exit != code {
		s.t.Fatalf("exit %d, want %d\nstdout: %s\nstderr: %s", s.exit, code, s.out, s.err)
	}
	return s
}

func (s *session) wantOut(parts ...string) *session {
	s.t.Helper()
	for _, p := range parts {
		if !strings.Contains(s.out, p) {
			s.t.Errorf("stdout lacks %q:\n%s", p, s.out)
		}
	}
	return s
}

func (s *session) wantErr(parts ...string) *session {
	s.t.Helper()
	for _, p := range parts {
		if !strings.Contains(s.err, p) {
			s.t.Errorf("stderr lacks %q:\n%s", p, s.err)
		}
	}
	return s
}

func (s *session) wantNot(parts ...string) *session {
	s.t.Helper()
	for _, p := range parts {
		if strings.Contains(s.out+s.err, p) {
			s.t.Errorf("the output holds %q:\nstdout: %s\nstderr: %s", p, s.out, s.err)
		}
	}
	return s
}

// lockedBuffer is a buffer that a command writes while the test reads.
type lockedBuffer struct {
	mu    sync.Mutex
	b     bytes.Buffer
	wrote chan struct{}
}

func newLockedBuffer() *lockedBuffer { return &lockedBuffer{wrote: make(chan struct{}, 100)} }

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, err := l.b.Write(p)
	select {
	case l.wrote <- struct{}{}:
	default:
	}
	return n, err
}

// await waits until the buffer holds the text.
func (l *lockedBuffer) await(t *testing.T, text string) {
	t.Helper()
	deadline := time.After(time.Minute)
	for {
		l.mu.Lock()
		has := strings.Contains(l.b.String(), text)
		l.mu.Unlock()
		if has {
			return
		}
		select {
		case <-l.wrote:
		case <-deadline:
			t.Fatalf("%q did not come", text)
		}
	}
}

var _ io.Writer = (*lockedBuffer)(nil)

func quoted(names []string) string { return fmt.Sprintf("%q", names) }
