// Package link is the devices' side of the authority: gRPC over TLS 1.3, one
// long-lived stream for each device. It says who a caller is and what it may call,
// and carries messages between devices and the rest of the authority.
//
// A stream that is idle costs one goroutine beside gRPC's three. Sending and
// working take one more each, while there is something to send or to do, so that a
// device that does not read, or a database that does not answer, holds up nobody
// else and no probe.
package link

import (
	"cmp"
	"context"
	"crypto/tls"
	"hash/maphash"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"sallyport/authority/door"
	"sallyport/authority/enrol"
	"sallyport/authority/push"
	"sallyport/authority/store"
	authorityv1 "sallyport/proto/sallyport/authority/v1"
)

// Bounds and times.
const (
	maxMessage     = 1 << 20 // a batch of events is the largest
	helloTimeout   = 10 * time.Second
	requestTimeout = 5 * time.Second
	callTimeout    = 30 * time.Second
	// beginTimeout: the device asks for a code after 1.5 s.
	beginTimeout = 2 * time.Second
	sendTimeout  = 20 * time.Second // a device that does not read for so long is cut off
	retryEvery   = time.Second
	retryFor     = 2 * time.Minute
	goodbyeTime  = 2 * time.Second
	refreshers   = 128 // streams that read the database anew at once
	databaseUses = 32  // of all streams, at once
)

// Options are what a Service needs.
type Options struct {
	Store store.Store
	Enrol *enrol.Service
	Push  *push.Service
	// Hosts are the names and addresses that devices connect to.
	Hosts   []string
	Version string // of the authority
	// MaxConnections on this node; 0: 60,000.
	MaxConnections int
	// PushesPerSecond of one device, five times as many at once; 0: 20.
	PushesPerSecond int
	Now             func() time.Time // nil: time.Now
	Log             *slog.Logger     // nil: none
}

// Service is the AuthorityService. Safe for concurrent use.
type Service struct {
	authorityv1.UnimplementedAuthorityServiceServer

	store   store.Store
	enrol   *enrol.Service
	push    *push.Service
	keys    *enrol.Keys
	version string
	now     func() time.Time
	log     *slog.Logger
	server  *grpc.Server
	most    int
	hurry   time.Duration // until Hello
	// callTime bounds the other calls, with the time that a request takes to arrive.
	callTime time.Duration
	// The rest of the constants that a test has more time for.
	beginTime, requestTime, goodbye time.Duration
	rates                           rates

	strangers   *buckets // Register, by address
	failures    *buckets // those that failed
	calls       *buckets // by device
	rollbacks   *buckets // events of one device
	uploadCalls *buckets // by device
	uploads     *buckets // kilobytes of events, by device
	refusals    *buckets // of pushes, by device and user
	reports     *buckets // by device

	database chan struct{} // a place for each use of the database by streams
	connects chan struct{} // and by whoever connects: a storm of those leaves the rest room
	stopping atomic.Bool

	mu      sync.Mutex
	streams map[string]*stream   // by device
	stale   map[*stream]struct{} // have something to do again, later
	wake    chan struct{}        // resync was asked for
	resync  bool

	// order keeps a device's attaching and detaching apart, by hash.
	order [256]sync.Mutex
	seed  maphash.Seed
}

// New returns a Service.
func New(o Options) *Service {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.MaxConnections <= 0 {
		o.MaxConnections = maxConnections
	}
	s := &Service{
		store: o.Store, enrol: o.Enrol, push: o.Push, keys: o.Enrol.Keys(), version: o.Version, now: o.Now, log: o.Log, most: o.MaxConnections, hurry: helloTimeout, callTime: callTimeout, beginTime: beginTimeout, requestTime: requestTimeout, goodbye: goodbyeTime, rates: ratesOf(cmp.Or(o.PushesPerSecond, pushesPerSecond)),
		strangers: newBuckets(100, 200*time.Millisecond), failures: newBuckets(10, 6*time.Second),
		calls: newBuckets(30, 500*time.Millisecond), rollbacks: newBuckets(1, 10*time.Minute), uploads: newBuckets(uploadBurst, uploadGap), uploadCalls: newBuckets(uploadCalls, 500*time.Millisecond), refusals: newBuckets(5, time.Second), reports: newBuckets(reportsBurst, reportsGap),
		database: make(chan struct{}, databaseUses), connects: make(chan struct{}, databaseUses),
		streams: map[string]*stream{}, stale: map[*stream]struct{}{}, wake: make(chan struct{}, 1), seed: maphash.MakeSeed(),
	}
	s.server = grpc.NewServer(
		grpc.Creds(knowing{credentials.NewTLS(&tls.Config{
			MinVersion:     tls.VersionTLS13,
			GetCertificate: s.keys.ServerCertificate(o.Hosts, s.now),
			// Asked for, and judged by admit: what is wrong is then said in words, and
			// Renew takes one that has expired.
			ClientAuth:             tls.RequestClientCert,
			SessionTicketsDisabled: true,
		}), s}),
		grpc.InTapHandle(s.admit),
		grpc.ChainUnaryInterceptor(s.unary), grpc.ChainStreamInterceptor(s.streaming),
		grpc.ConnectionTimeout(10*time.Second),
		grpc.MaxRecvMsgSize(maxMessage), grpc.MaxConcurrentStreams(8), grpc.MaxHeaderListSize(8<<10),
		// Tens of thousands of connections lie idle: no buffers for those.
		grpc.ReadBufferSize(0), grpc.WriteBufferSize(4<<10),
		grpc.InitialWindowSize(64<<10), grpc.InitialConnWindowSize(128<<10),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: time.Minute, Time: 2 * time.Minute, Timeout: 20 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.WaitForHandlers(true),
	)
	authorityv1.RegisterAuthorityServiceServer(s.server, s)
	return s
}

// Serve takes connections until Stop. Run has to run beside it.
func (s *Service) Serve(l net.Listener) error {
	return s.server.Serve(door.New(l, s.most, maxStrangers))
}

// Streams is how many devices are connected to this node.
func (s *Service) Streams() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.streams)
}

// Stop says goodbye to the devices and returns when everything has ended, at the
// latest when ctx does.
func (s *Service) Stop(ctx context.Context) {
	s.stopping.Store(true)
	for _, st := range s.all() {
		st.end("stopping", "the authority stops")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.server.GracefulStop()
	}()
	select {
	case <-done:
	case <-ctx.Done():
		s.server.Stop()
		<-done
	}
}

func (s *Service) all() []*stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*stream, 0, len(s.streams))
	for _, st := range s.streams {
		list = append(list, st)
	}
	return list
}

// stream returns a device's stream on this node, or nil.
func (s *Service) stream(device string) *stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.streams[device]
}

// inOrder runs fn apart from every other of the same device.
func (s *Service) inOrder(device string, fn func()) {
	m := &s.order[maphash.String(s.seed, device)%uint64(len(s.order))]
	m.Lock()
	defer m.Unlock()
	fn()
}

// Run passes on what the database tells this node, until ctx ends.
func (s *Service) Run(ctx context.Context) {
	var tasks sync.WaitGroup
	defer tasks.Wait()
	tasks.Go(func() { s.catchUp(ctx) })
	for n := range s.store.Listen(ctx) {
		s.notice(n)
	}
}

func (s *Service) notice(n store.Notice) {
	if n.Topic == store.TopicResync {
		s.mu.Lock()
		s.resync = true
		s.mu.Unlock()
		s.poke()
		return
	}
	if n.Device == "" {
		if n.Topic == store.TopicSync {
			for _, st := range s.all() {
				if n.ID == "" || st.concerns(n.ID) {
					s.later(st, needSync)
				}
			}
			s.poke()
		}
		return
	}
	st := s.stream(n.Device)
	if st == nil {
		return
	}
	switch n.Topic {
	case store.TopicAnswer:
		st.needAnswer(n.ID)
	case store.TopicEnrolment:
		st.need(needEnrolments)
	case store.TopicSync:
		st.need(needSync)
	case store.TopicRevoked:
		st.end("revoked", "this device is revoked")
	case store.TopicReplaced:
		st.need(needAttach) // it may have come back by now: the database says
	}
}

func (s *Service) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// later notes that a stream has to read something anew, when catchUp comes to it.
func (s *Service) later(st *stream, what needs) {
	st.mu.Lock()
	st.postponed |= what
	st.mu.Unlock()
	s.mu.Lock()
	s.stale[st] = struct{}{}
	s.mu.Unlock()
}

// catchUp serves the streams that wait for the database: all of them after
// notices may have been lost, and those for which it failed.
func (s *Service) catchUp(ctx context.Context) {
	tick := time.NewTicker(retryEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		case <-tick.C:
		}
		s.mu.Lock()
		resync := s.resync
		s.resync = false
		s.mu.Unlock()
		if resync {
			if err := s.markAll(ctx); err != nil {
				s.mu.Lock()
				s.resync = true
				s.mu.Unlock()
				if ctx.Err() == nil {
					s.log.Error("what this node's devices wait for cannot be read", "err", err)
				}
				continue
			}
		}
		s.mu.Lock()
		list := s.stale
		s.stale = map[*stream]struct{}{}
		s.mu.Unlock()
		var group errgroup.Group
		group.SetLimit(refreshers)
		var failed atomic.Bool
		for st := range list {
			if failed.Load() || ctx.Err() != nil {
				s.later(st, 0)
				continue
			}
			group.Go(func() error {
				if !st.resume() {
					failed.Store(true)
				}
				return nil
			})
		}
		_ = group.Wait()
	}
}

// markAll has every stream read everything anew. One that the database does not
// have here attaches again, unless another node has the device by now.
func (s *Service) markAll(ctx context.Context) error {
	list := s.all()
	if len(list) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 4*s.requestTime)
	defer cancel()
	here := make(map[string]struct{}, len(list))
	err := s.store.View(ctx, func(tx store.Tx) error {
		devices, err := tx.StreamsHere()
		for _, d := range devices {
			here[d] = struct{}{}
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, st := range list {
		what := needAnswers | needEnrolments | needSync
		if _, ok := here[st.device]; !ok {
			what |= needAttach
		}
		s.later(st, what)
	}
	return nil
}
