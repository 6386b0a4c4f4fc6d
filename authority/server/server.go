package server

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"sallyport/authority/approver"
	"sallyport/authority/config"
	"sallyport/authority/console"
	"sallyport/authority/door"
	"sallyport/authority/enrol"
	"sallyport/authority/link"
	"sallyport/authority/store"
	"sallyport/internal/factor/push"
	"sallyport/internal/organisation"
)

const (
	// stopTime is how long open calls have at the end. The computers come back by
	// themselves, to another node or the next start.
	stopTime = 5 * time.Second
	// noticesTime is how long who starts it is not told that it is up because the
	// database's notices do not come in. It serves without them.
	noticesTime = 20 * time.Second
	// sweepEvery is how often what is over is removed, so much at a time; kept is how
	// long it stays: the phone shows its last logins.
	sweepEvery = 10 * time.Second
	kept       = 30 * 24 * time.Hour
	// consoleKept is how long the console's sessions and forms stay that are over: none
	// lives longer.
	consoleKept = 24 * time.Hour
	// maxConns bounds the connections of strangers: what they use up, the computers
	// would lack.
	maxConns = 4096
	// readyTime bounds the look at the database of /readyz.
	readyTime = 2 * time.Second
)

// Options say how to run.
type Options struct {
	Config  *config.Loaded
	Version string
	Log     *slog.Logger
	Now     func() time.Time
	// Listening is told the addresses once they are served and the database's notices
	// come in, or are late; nil: nobody is.
	Listening func(Addresses)
}

// Addresses are where a server listens.
type Addresses struct {
	Devices, Web, Metrics, Console net.Addr // Metrics and Console may be nil
}

// server is a running authority.
type server struct {
	*Authority
	options Options
	metrics *metrics
	// listening: notices of the database come in.
	listening atomic.Bool
}

// Run serves until ctx ends.
func Run(ctx context.Context, o Options) (err error) {
	c := o.Config.Config
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &server{options: o, metrics: newMetrics(o.Version)}
	if s.Authority, err = open(ctx, c, o.Version, o.Log, o.Now, s.metrics.meter); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if waits, err := s.Enrol.EnsureSettings(ctx); err != nil {
		return err
	} else if waits {
		o.Log.Warn("the settings changed and wait for the organisation's key; the computers keep those before: sallyport-authority manifest pending, sign, import")
	}
	if err := s.Enrol.EnsureEscrowKey(ctx, c.KeyDir()); errors.Is(err, enrol.ErrNoEscrow) {
		o.Log.Error("this node answers no challenge of a computer that is offline; everything else works", "node", c.Name, "error", err)
	} else if err != nil {
		return err
	}
	settings := Settings(&c)
	s.metrics.trusted(s.Keys.HoldsOrganisationKey(), settings)
	sender, err := WebPush(&c, o.Log)
	if err != nil {
		return err
	}
	pushes := s.Push(ringer{sender, s.metrics})
	defer pushes.Wait()

	page := approver.Handler(approver.Options{
		Store: s.Store, Settings: func() organisation.Settings { return settings }, VAPIDPublicKey: sender.PublicKey(),
		CheckSubscription: sender.Check, Complete: s.Enrol.CompleteEnrolment, Answer: pushes.Answer, Address: addressOf(c.TLS.Mode), Now: o.Now, Log: o.Log,
	})
	t, err := webTLS(&c, o.Now, o.Log, s.metrics)
	if err != nil {
		return err
	}
	devices := link.New(link.Options{Store: s.Store, Enrol: s.Enrol, Push: pushes, Hosts: c.DeviceHosts, PushesPerSecond: c.Limits.PerSecond,
		Version: o.Version, Now: o.Now, Log: o.Log})
	s.metrics.streams(devices.Streams)
	s.metrics.registry.MustRegister(&delivery{s.Store, Outlets(&c), o.Log, o.Now})
	port, err := net.Listen("tcp", c.ListenDevices)
	if err != nil {
		return fmt.Errorf("listen_devices: %w", err)
	}
	defer port.Close()
	web, err := s.serve("listen_web", c.ListenWeb, s.metrics.http(page), t)
	if err != nil {
		return err
	}
	servers := []*listening{web}
	addresses := Addresses{Devices: port.Addr(), Web: web.Addr()}
	defer func() { stop(servers) }()
	if c.Console.Origin != "" {
		t, err := consoleTLS(&c, t, o.Now, o.Log)
		if err != nil {
			return err
		}
		h, err := s.serve("console.listen", c.Console.Listen, s.console(), t)
		if err != nil {
			return err
		}
		servers = append(servers, h)
		addresses.Console = h.Addr()
		o.Log.Info("the helpdesk's console is up", "origin", c.Console.Origin, "address", h.Addr().String())
	}
	if c.ListenMetrics != "" {
		m, err := s.serve("listen_metrics", c.ListenMetrics, s.monitoring(), nil)
		if err != nil {
			return err
		}
		servers = append(servers, m)
		addresses.Metrics = m.Addr()
	}
	work, end := context.WithCancel(ctx)
	var tasks sync.WaitGroup
	defer tasks.Wait()
	defer end()
	heard := make(chan struct{})
	tasks.Go(func() { s.watch(work, sync.OnceFunc(func() { close(heard) })) })
	tasks.Go(func() { s.sweep(work) })
	tasks.Go(func() { devices.Run(work) })
	tasks.Go(func() { s.outlets(work) })

	failed := make(chan error, len(servers)+1)
	go func() { failed <- devices.Serve(port) }()
	for _, l := range servers {
		go func() { failed <- l.run() }()
	}
	o.Log.Info("the authority is up", "version", o.Version, "database", s.Store.Kind(), "node", c.Name, "devices", addresses.Devices.String(), "web", addresses.Web.String(),
		"origin", settings.Origin, "holds_organisation_key", s.Keys.HoldsOrganisationKey())
	running := true
	select {
	case <-heard: // and so /readyz says that it is ready: a script's next line may be 'status'
	case <-time.After(noticesTime): // it serves without them; /readyz says what is wrong
	case err = <-failed:
		running = false
	case <-ctx.Done():
		running = false
	}
	if running {
		// Without NOTIFY_SOCKET this does nothing: sd_notify(3).
		if _, err := sd.SdNotify(false, sd.SdNotifyReady); err != nil {
			o.Log.Warn("systemd could not be told that the authority is ready", "error", err)
		}
		if o.Listening != nil {
			o.Listening(addresses)
		}
		select {
		case err = <-failed:
		case <-ctx.Done():
		}
	}
	_, _ = sd.SdNotify(false, sd.SdNotifyStopping) // it learns it from the exit as well
	o.Log.Info("the authority stops")
	last, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	devices.Stop(last) // while Run still writes down that their streams ended
	return err
}

// console is the helpdesk's page.
func (s *server) console() http.Handler {
	c := &s.Config
	return console.Handler(console.Options{
		Store: s.Store, Enrol: s.Enrol, Organisation: c.Organisation, RelyingParty: push.RelyingParty{ID: c.ConsoleRPID(), Origin: c.Console.Origin},
		Idle: time.Duration(c.Console.SessionIdle), Life: time.Duration(c.Console.SessionLife), SecondPerson: c.Console.SecondPerson,
		Address: addressOf(c.TLS.Mode), Now: s.options.Now, Log: s.options.Log,
	})
}

// addressOf says where a request comes from, for limits. Behind a reverse proxy
// (tls.mode "none", so that only this machine can connect) that is what the proxy
// saw: the last entry of X-Forwarded-For, and none that came with the request.
func addressOf(mode string) func(*http.Request) string {
	if mode != config.TLSNone {
		return nil // the connection's other end
	}
	return func(r *http.Request) string {
		all := r.Header.Values("X-Forwarded-For")
		if len(all) > 0 {
			list := strings.Split(all[len(all)-1], ",")
			if a, err := netip.ParseAddr(strings.TrimSpace(list[len(list)-1])); err == nil {
				return a.String()
			}
		}
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		return host
	}
}

// listening is one HTTP server with its listener.
type listening struct {
	net.Listener
	server *http.Server
}

func (l *listening) run() error {
	if err := l.server.Serve(l.Listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// serve binds an address. What strangers can make a connection hold is bounded.
func (s *server) serve(key, address string, h http.Handler, t *tls.Config) (*listening, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	l = door.New(l, maxConns, maxConns)
	if t != nil {
		l = tls.NewListener(l, t)
	}
	return &listening{l, &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 20 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(s.options.Log.Handler(), slog.LevelDebug),
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 32, PingTimeout: 15 * time.Second},
	}}, nil
}

// stop lets open requests end, for a while.
func stop(servers []*listening) {
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	var wg sync.WaitGroup
	for _, l := range servers {
		wg.Go(func() {
			if l.server.Shutdown(ctx) != nil {
				_ = l.server.Close()
			}
			_ = l.Close() // of a server that never ran
		})
	}
	wg.Wait()
}

// watch knows whether the database's notices come in, and says so with each.
func (s *server) watch(ctx context.Context, heard func()) {
	for range s.Store.Listen(ctx) {
		s.listening.Store(true)
		heard()
	}
	s.listening.Store(false)
}

// sweep removes what is over.
func (s *server) sweep(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		if err := s.Store.Update(ctx, s.removeOver); err != nil && ctx.Err() == nil {
			s.options.Log.Warn("what is over could not be removed from the database; it is tried again", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// removeOver removes events by the earlier of two clocks: a node's that is ahead would
// remove early what does not come back.
func (s *server) removeOver(tx store.Tx) error {
	now := s.options.Now()
	earlier, err := tx.Clock()
	if err != nil {
		return err
	}
	if now.Before(earlier) {
		earlier = now
	}
	return errors.Join(tx.Sweep(now.Add(-kept)), tx.SweepEvents(earlier.Add(-time.Duration(s.Config.EventsKept))), tx.SweepOperators(now.Add(-consoleKept)))
}

// monitoring is what monitoring reads.
func (s *server) monitoring() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if err := s.ready(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = fmt.Fprintln(w, "ok")
	})
	return mux
}

func (s *server) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	var notices error
	if !s.listening.Load() {
		notices = errors.New("the database's notices do not come in")
	}
	return cmp.Or(s.Store.Ping(ctx), notices)
}
