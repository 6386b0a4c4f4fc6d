// Package daemon is the agent's life cycle: configuration, vault, sockets,
// readiness, and the orderly end.
package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"sallyport/agent/adminsvc"
	"sallyport/agent/authz"
	"sallyport/agent/link"
	"sallyport/agent/loginsvc"
	"sallyport/agent/store"
	"sallyport/internal/accounts"
	"sallyport/internal/clock"
	"sallyport/internal/config"
	"sallyport/internal/device"
	"sallyport/internal/event"
	"sallyport/internal/identity"
	"sallyport/internal/keychain"
	"sallyport/internal/localsock"
	"sallyport/internal/password"
	"sallyport/internal/policy"
	"sallyport/internal/vault"
	adminv1 "sallyport/proto/sallyport/admin/v1"
	loginv1 "sallyport/proto/sallyport/login/v1"
)

const (
	// connsPerUID bounds the connections of one user that is not root.
	connsPerUID = 16
	// maxMessage is above the largest legal message of the login wire.
	maxMessage = 16 << 10
	// What a caller of the admin socket can make the agent hold: the gate comes
	// after a message is read.
	adminConns      = 4
	adminCalls      = 8
	maxAdminMessage = 512 << 10 // an import of 1,000 entries
	// stopTime is how long open logins have to hear that they are denied.
	stopTime = 3 * time.Second
)

// Options say how to run.
type Options struct {
	ConfigPath string
	RuntimeDir string // overrides the configuration's; "" does not
	Version    string
	Clock      clock.Clock
	Password   password.Checker // nil: the system's
	// Tell hears how far the agent is, for the service manager; nil: nobody asks. Two
	// calls may come at once.
	Tell func(State)
	// Sessions says that the computer's sessions may have changed (Windows); nil:
	// nobody looks at them.
	Sessions <-chan struct{}
}

// State is how far the agent is.
type State int

// The states that a service manager hears of. It learns the end from the exit.
const (
	Ready    State = iota // logins are answered
	Blocked               // another program has a socket's place, and the agent waits for it (Windows)
	Stopping              // open logins are being ended
)

// daemon is a running agent.
type daemon struct {
	options Options
	log     *slog.Logger
	store   *store.Store
	names   accounts.Names
	started clock.Instant
	host    string

	loading sync.Mutex    // held while the configuration is read again
	mended  chan struct{} // a broken configuration was mended: start over

	mu     sync.Mutex
	loaded *config.Loaded
	// problem says why the configuration on disk is not the one in force.
	problem string
	// broken: there was no good configuration at the start, and none since.
	broken     bool
	rulesKnown bool
}

// VaultOptions are the vault's, of a configuration.
func VaultOptions(loaded *config.Loaded, configPath string, clk clock.Clock, log *slog.Logger) vault.Options {
	c := &loaded.Config
	return vault.Options{
		Implicit: slices.ContainsFunc(loaded.Values, func(v config.Value) bool { return v.Key == "state_dir" && v.Source == "default" }),
		Dir:      c.StateDir, Marker: filepath.Join(filepath.Dir(configPath), "."+filepath.Base(configPath)+".vault"),
		Keychain: keychain.Config{Kind: keychain.Kind(c.Keychain), TPMDevice: c.TPMDevice, CredentialsDir: os.Getenv("CREDENTIALS_DIRECTORY")},
		Clock:    clk, EventLimit: c.Events, Log: log,
	}
}

// errMended ends a run that had started with a broken configuration.
var errMended = errors.New("the configuration was mended")

// Run is the agent, until ctx ends.
func Run(ctx context.Context, o Options) error {
	for {
		if err := run(ctx, o); !errors.Is(err, errMended) {
			return err
		}
	}
}

func run(ctx context.Context, o Options) (err error) {
	if o.Password == nil {
		o.Password = password.System()
	}
	d := &daemon{options: o, started: o.Clock.Now(), mended: make(chan struct{}, 1)}
	if d.host, err = os.Hostname(); err != nil {
		d.host = "this computer"
	}
	loaded, loadErr := config.Start(o.ConfigPath)
	if loadErr != nil {
		loaded = config.Salvaged(o.ConfigPath)
		d.broken, d.problem = true, loadErr.Error()
	}
	d.loaded = loaded
	c := &loaded.Config
	c.RuntimeDir = cmp.Or(o.RuntimeDir, c.RuntimeDir)
	log, flushLog := newLog(c.Log)
	defer flushLog()
	d.log = log
	slog.SetDefault(d.log)
	if err := noDumps(); err != nil {
		return err
	}

	vaultOptions := VaultOptions(loaded, o.ConfigPath, o.Clock, d.log)
	vaultOptions.MustExist = d.broken
	d.store = store.New(vaultOptions)
	ran := d.store.Now().Highest
	defer func() { err = errors.Join(err, d.store.Close()) }()
	d.startPolicy(ctx)

	loginSocket, adminSocket := sockets(c)
	if err := prepareRuntime(c.RuntimeDir); err != nil {
		return err
	}
	logins, err := d.await(ctx, loginSocket)
	if logins == nil {
		return err
	}
	admins, taken := adminSocket.listen()
	if taken != nil && !errors.Is(taken, localsock.ErrTaken) {
		logins.Close()
		return taken
	}
	stopping := make(chan struct{})
	// The link's last word is written before the vault is closed.
	linkCtx, stopLink := context.WithCancel(context.WithoutCancel(ctx))
	authority := d.newLink()
	computer := new(device.Reader)
	if d.store.Policy(c).HasRules { // the first login is not to wait for them
		go computer.Facts(d.options.Clock.Now().Boot)
	}
	login := &loginsvc.Service{Store: d.store, Names: &d.names, Clock: d.options.Clock, Settings: d.settings, Stopping: stopping, Courier: authority, Password: d.options.Password,
		Facts: loginsvc.Facts{Online: authority.Online, Reach: authority.Reach, Device: computer.Facts, Zone: new(device.Zone).Location, Networks: device.Networks, Session: loginsvc.SessionOf}}
	watching, stopWatching := context.WithCancel(ctx)
	defer stopWatching()
	d.watchSessions(watching, login, ran)
	admin := &adminsvc.Service{
		Store: d.store, Names: &d.names, State: d.state, OpenLogins: login.Open, Explain: login.Explain, Stopping: stopping, Link: authority,
	}
	authority.Reports(admin.Standing)
	linked := make(chan struct{})
	go func() { defer close(linked); authority.Run(linkCtx) }()
	defer func() { stopLink(); <-linked }()
	loginServer, adminServer := d.servers(login, admin)
	failed := make(chan error, 2)
	go func() { failed <- loginServer.Serve(logins) }()
	go func() {
		var err error
		if admins == nil { // no login waits for that
			admins, err = d.await(watching, adminSocket)
		}
		if admins != nil {
			err = adminServer.Serve(admins)
		}
		if err != nil {
			failed <- err
		}
	}()
	d.store.Record(ctx, event.Event{Name: event.AgentStarted, Text: "version " + o.Version})
	d.watchConfig(watching) // before somebody is told who may send SIGHUP
	d.tell(Ready)
	waitForRights := d.watchRights(watching)
	select {
	case err = <-failed:
	case <-d.mended:
		err = errMended
	case <-ctx.Done():
	}
	if err != errMended {
		d.tell(Stopping)
	}
	close(stopping)
	stop(loginServer, adminServer)
	stopWatching()
	waitForRights()
	d.store.Record(context.Background(), event.Event{Name: event.AgentStopped})
	return err
}

func (d *daemon) tell(s State) {
	if d.options.Tell != nil {
		d.options.Tell(s)
	}
}

// stop lets open calls end, for a while.
func stop(servers ...*grpc.Server) {
	var wg sync.WaitGroup
	for _, s := range servers {
		wg.Go(s.GracefulStop)
	}
	timer := time.AfterFunc(stopTime, func() {
		for _, s := range servers {
			s.Stop()
		}
	})
	wg.Wait()
	timer.Stop()
}

// socket is one that the agent listens on.
type socket struct {
	what, path string
	access     localsock.Access
	perUser    int
}

// sockets are those of the logins and of the administrators.
func sockets(c *config.Config) (logins, admins socket) {
	// Lockers run as their user: everybody may ask, the kernel says who does.
	logins = socket{"login", filepath.Join(c.RuntimeDir, localsock.LoginName), localsock.Everyone, connsPerUID}
	admins = socket{"admin", filepath.Join(c.RuntimeDir, localsock.AdminName), localsock.OwnerOnly, adminConns}
	if c.AdminGroup != "" {
		// Its calls are checked one by one (agent/authz); the group only has to be
		// able to connect.
		admins.access = localsock.Everyone
	}
	return logins, admins
}

func (s socket) listen() (net.Listener, error) {
	l, err := localsock.Listen(s.path, s.access, s.perUser)
	if err != nil {
		return nil, fmt.Errorf("the %s socket: %w", s.what, err)
	}
	return l, nil
}

const (
	// retryTaken is how long another program keeps its place at most once it has
	// given it up.
	retryTaken = time.Second
	// sayTaken bounds the events about it, whoever takes turns there.
	sayTaken = 10 * time.Minute
)

// await listens. While another program has the socket's place (on Windows an
// administrator's; with a runtime_dir of another prefix anybody's), it says so and
// tries again, until ctx ends: then there is neither a listener nor an error.
func (d *daemon) await(ctx context.Context, s socket) (net.Listener, error) {
	for said := time.Duration(-1); ; {
		l, err := s.listen()
		if !errors.Is(err, localsock.ErrTaken) {
			return l, err
		}
		if now := d.options.Clock.Now().Boot; said < 0 || now-said >= sayTaken {
			said = now
			d.store.Record(ctx, event.Event{Name: event.PipeTaken, Text: err.Error() + "; the agent tries again until that one ends"})
			d.tell(Blocked)
		}
		select {
		case <-ctx.Done():
			return nil, nil
		case <-time.After(retryTaken):
		}
	}
}

// servers wires the two services.
func (d *daemon) servers(login *loginsvc.Service, admin *adminsvc.Service) (logins, admins *grpc.Server) {
	gate := &authz.Gate{
		InAdminGroup: d.inAdminGroup,
		Refused: func(p localsock.Peer, method string) {
			d.store.LogRefused(event.Event{Name: event.RequestRefused, By: p.String(), Text: method})
		},
	}
	common := append(gate.Options(),
		grpc.Creds(localsock.Credentials(d.known)),
		grpc.ConnectionTimeout(5*time.Second),
		grpc.MaxHeaderListSize(8<<10),
		grpc.ReadBufferSize(4<<10), grpc.WriteBufferSize(4<<10),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: time.Minute}),
	)
	logins = grpc.NewServer(append(common, grpc.MaxConcurrentStreams(4), grpc.MaxRecvMsgSize(maxMessage))...)
	loginv1.RegisterLoginServiceServer(logins, login)
	admins = grpc.NewServer(append(common, grpc.MaxConcurrentStreams(adminCalls), grpc.MaxRecvMsgSize(maxAdminMessage))...)
	adminv1.RegisterAdminServiceServer(admins, admin)
	return logins, admins
}

// newLink is the way to the authority, where this computer has joined one.
func (d *daemon) newLink() *link.Link {
	return link.New(link.Options{
		Store: d.store, Clock: d.options.Clock, Log: d.log, Names: &d.names, Version: d.options.Version,
		Platform: runtime.GOOS + "/" + runtime.GOARCH, Serial: link.Serial(),
		Settings: func() config.Config {
			s := d.settings()
			if s.Broken { // what root allows is in the file that cannot be read
				s.Config.Authority, s.Config.Push.AllowSynced = config.Authority{}, false
			}
			return s.Config
		},
	})
}

// startPolicy settles which policy is in force at the start.
func (d *daemon) startPolicy(ctx context.Context) {
	if !d.broken {
		d.keep()
		return
	}
	rules := d.store.LastRules()
	if d.rulesKnown = rules != nil; d.rulesKnown {
		d.loaded.Config.Policy = *rules
	}
	d.store.Record(ctx, event.Event{Name: event.ConfigRejected, Text: d.problem +
		"; there is no good configuration, so whoever is enrolled or required is refused: mend the file"})
}

// keep keeps what is in force for a start with a broken file, or while policies
// are being written.
func (d *daemon) keep() {
	loaded := d.current()
	if err := loaded.KeepPolicies(); err != nil {
		d.log.Warn("the policies could not be kept for the next start", "error", err)
	}
	rules := loaded.Config.Policy
	if last := d.store.LastRules(); last == nil || !reflect.DeepEqual(*last, rules) {
		if err := d.store.SaveRules(rules); err != nil {
			d.log.Warn("the policy could not be kept for a start with a broken file", "error", err)
		}
	}
	// Compiled now, so that no login waits for it; and at the end, as what all this
	// took is given back then.
	d.store.Policy(&loaded.Config)
}

// reload takes changed files. Broken ones are reported, once, and the last good
// configuration stays. force: take them unchanged, too.
func (d *daemon) reload(force bool) {
	// One at a time. A login that comes meanwhile goes by what is in force; none
	// waits for the vault here.
	if force {
		d.loading.Lock()
	} else if !d.loading.TryLock() {
		return
	}
	var e event.Event
	if force || d.current().Changed(d.options.ConfigPath) {
		e = d.read(nil)
	}
	d.loading.Unlock() // who sees the event may change the files again
	d.record(e)
}

// takePolicies takes changed policies, once they have settled. Only the watch of the
// registry calls it: a login never looks at policies, which may be half written.
func (d *daemon) takePolicies(ctx context.Context) {
	d.loading.Lock()
	known := d.current().Policies()
	d.loading.Unlock()
	fresh, err := config.Settled(ctx, known)
	if ctx.Err() != nil {
		return
	}
	var e event.Event
	d.loading.Lock()
	switch {
	case err != nil:
		e = d.take(nil, err)
	case !fresh.Same(known) || d.hasProblem():
		e = d.read(fresh)
	}
	d.loading.Unlock()
	d.record(e)
}

// read reads the configuration, with these policies; nil: those that are known. It
// returns the event that is to be recorded. d.loading is held.
func (d *daemon) read(p *config.Policies) event.Event {
	fresh, err := d.current().Reload(d.options.ConfigPath, p)
	e := d.take(fresh, err)
	if e.Name == event.ConfigLoaded {
		d.keep()
	}
	return e
}

func (d *daemon) record(e event.Event) {
	if e.Name != "" {
		d.store.Record(context.Background(), e)
	}
}

func (d *daemon) hasProblem() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.problem != ""
}

func (d *daemon) current() *config.Loaded {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.loaded
}

// take puts a configuration that was read in force, or notes why not.
func (d *daemon) take(fresh *config.Loaded, err error) event.Event {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		if d.problem == err.Error() {
			return event.Event{}
		}
		d.problem = err.Error()
		if d.broken {
			return event.Event{Name: event.ConfigRejected, Text: d.problem}
		}
		return event.Event{Name: event.ConfigRejected, Text: d.problem + "; the last good configuration stays in force"}
	}
	old, now := &d.loaded.Config, &fresh.Config
	moved := now.StateDir != old.StateDir || d.options.RuntimeDir == "" && now.RuntimeDir != old.RuntimeDir
	if d.broken {
		if _, err := d.store.Vault(); moved || err != nil {
			// What was salvaged of the broken file was not where the state is.
			// Until the agent has started over, it goes on to deny.
			select {
			case d.mended <- struct{}{}:
			default:
			}
			return event.Event{}
		}
	}
	text := d.options.ConfigPath
	if moved || now.Keychain != old.Keychain || now.TPMDevice != old.TPMDevice || now.Log != old.Log || now.Events != old.Events ||
		(now.AdminGroup == "") != (old.AdminGroup == "") {
		text += "; changes of state_dir, runtime_dir, keychain, tpm_device, log, events or admin_group wait for a restart"
	}
	for _, unknown := range fresh.Unknown {
		text += "; not known to this version, and ignored: " + unknown
	}
	now.StateDir, now.RuntimeDir = old.StateDir, old.RuntimeDir
	d.loaded, d.problem, d.broken = fresh, "", false
	return event.Event{Name: event.ConfigLoaded, Text: text}
}

// settings are what a login goes by. A configuration that changed on disk takes
// effect at the next login: a few stat(2) calls, and nothing that wakes up.
func (d *daemon) settings() loginsvc.Settings {
	d.reload(false)
	d.mu.Lock()
	defer d.mu.Unlock()
	return loginsvc.Settings{Config: d.loaded.Config, Broken: d.broken, RulesKnown: d.rulesKnown, IssuerLabel: d.issuer()}
}

func (d *daemon) issuer() string { return cmp.Or(d.loaded.Config.Issuer, "Sallyport "+d.host) }

func (d *daemon) state() adminsvc.State {
	d.reload(false)
	d.mu.Lock()
	defer d.mu.Unlock()
	dir := d.loaded.Config.RuntimeDir
	return adminsvc.State{
		Version: d.options.Version, Started: d.started, Config: d.loaded, ConfigPath: d.options.ConfigPath, ConfigError: d.problem, ConfigMissing: d.broken,
		LoginSocket: filepath.Join(dir, localsock.LoginName), AdminSocket: filepath.Join(dir, localsock.AdminName), Issuer: d.issuer(),
	}
}

// inAdminGroup asks NSS. Whatever goes wrong is a no.
func (d *daemon) inAdminGroup(id identity.ID) bool {
	d.mu.Lock()
	group := d.loaded.Config.AdminGroup
	d.mu.Unlock()
	if group == "" {
		return false
	}
	ctx := accounts.ForOthers(context.Background())
	u, err := d.names.ByID(ctx, id)
	return err == nil && d.names.Membership(ctx, u.Name, group) == policy.Member
}

// known refuses a caller without an account before anything is read from it: it
// can neither log in nor be in the admin group, and with subordinate uids
// (subuid(5)) one person could be thousands of them. A SID comes with a token, which
// Windows makes for accounts only.
func (d *daemon) known(p localsock.Peer) error {
	if _, ok := p.ID.SID(); ok || p.IsOwner() {
		return nil
	}
	if _, err := d.names.ByID(accounts.ForOthers(context.Background()), p.ID); err != nil {
		d.store.LogRefused(event.Event{Name: event.RequestRefused, By: p.String(), Text: "no account: " + err.Error()})
		return err
	}
	return nil
}
