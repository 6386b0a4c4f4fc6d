//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"sallyport/internal/organisation"
)

// bench is one run.
type bench struct {
	options
	size
	disk     string
	rings    *pushService
	db       *postgres
	sqlite   *authority
	postgres *authority

	opened map[string][]opened // by the kind of database
	pushes []pushes
	// On PostgreSQL:
	arrivals    usage   // of computers that connect
	events      usage   // that they send
	personBytes float64 // of the database, with a phone
	deviceBytes float64
	crowd       crowd
	load        string // of the machine, before
	started     time.Time
	took        time.Duration
}

// usage is what n of something cost.
type usage struct {
	n                      int
	took                   time.Duration
	serverCPU, databaseCPU time.Duration
	done                   work // of PostgreSQL
}

// usage measures what do costs the authority, which does nothing else.
func (a *authority) usage(ctx context.Context, n int, do func() error) (u usage, err error) {
	before, err := a.db.settledWork(ctx)
	if err != nil {
		return u, err
	}
	server, database, _, err := a.cpus()
	if err != nil {
		return u, err
	}
	began := time.Now()
	if err := do(); err != nil {
		return u, err
	}
	u.n, u.took = n, time.Since(began)
	if u.serverCPU, u.databaseCPU, _, err = a.cpus(); err != nil {
		return u, err
	}
	u.serverCPU, u.databaseCPU = u.serverCPU-server, u.databaseCPU-database
	after, err := a.db.settledWork(ctx)
	u.done = after.minus(before)
	return u, err
}

// pushes is one load of push logins.
type pushes struct {
	kind      string // of the database
	computers int
	whole     bool // phones are rung, fetch the list first, and connect anew for each request
	logins    []time.Duration
	took      time.Duration
	// Of the logins in that time:
	serverCPU, databaseCPU, ownCPU time.Duration
	rss                            int
	rings                          int  // messages that the push service got, for `all` logins
	done                           work // of PostgreSQL, for `all` logins
	all, failed                    int
}

// crowd is what many connected computers cost.
type crowd struct {
	streams                int
	seeded                 time.Duration
	connected              time.Duration // until all were, for the first time
	connectCPU             time.Duration // of the server
	before, after          struct{ rss, pss int }
	heap, stacks           float64 // bytes, in the end
	goroutines             float64 // more than before
	idle                   time.Duration
	idleCPU                time.Duration
	itemBytes              int
	itemCommand            time.Duration // from the command's start until all had it
	itemSpread             time.Duration // from the first that had it to the last
	stopped                time.Duration // until the server had ended
	restarted              time.Duration // until it was ready
	stormWindow            time.Duration
	back99, backAll        time.Duration // from ready
	stormBack, stormFailed int
	stormCPU               time.Duration
	stormRSS               int
}

var begun = time.Now()

func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "bench: %3.0f s: %s\n", time.Since(begun).Seconds(), fmt.Sprintf(format, args...))
}

func (b *bench) measure(ctx context.Context) error {
	b.started, b.opened, b.load = time.Now(), map[string][]opened{}, loadNow()
	if err := raiseFiles(b.streams); err != nil {
		return err
	}
	var err error
	if b.rings, err = newPushService(); err != nil {
		return err
	}
	progress("preparing PostgreSQL")
	if b.db, err = startPostgres(ctx, filepath.Join(b.disk, "pg")); err != nil {
		return err
	}
	if b.postgres, err = newAuthority(ctx, b.dist, filepath.Join(b.disk, "postgresql"), b.db, b.rings.address()); err != nil {
		return err
	}
	if b.sqlite, err = newAuthority(ctx, b.dist, filepath.Join(b.disk, "sqlite"), nil, b.rings.address()); err != nil {
		return err
	}
	for _, a := range []*authority{b.postgres, b.sqlite} {
		if err := b.logins(ctx, a); err != nil {
			return fmt.Errorf("%s: %w", a.kind, err)
		}
	}
	if err := b.many(ctx); err != nil {
		return err
	}
	b.took = time.Since(b.started)
	return nil
}

func (b *bench) close() error {
	errs := []error{b.postgres.halt(), b.sqlite.halt()}
	if b.rings != nil {
		errs = append(errs, b.rings.close())
	}
	if b.db != nil {
		errs = append(errs, b.db.stop(syscall.SIGINT)) // a fast shutdown
	}
	return errors.Join(errs...)
}

// raiseFiles lets the bench, and what it starts, have as many files open as the
// connections need.
func raiseFiles(streams int) error {
	need := uint64(streams + 2000)
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return err
	}
	if l.Cur >= need {
		return nil
	}
	l.Cur, l.Max = need, max(l.Max, need)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return fmt.Errorf("raising the number of open files to %d: %w", need, err)
	}
	return nil
}

// logins measures push logins: one after the other by the shipped agent, and then
// as many as there can be.
func (b *bench) logins(ctx context.Context, a *authority) error {
	progress("%s: %d people, %d computers", a.kind, b.people, b.computers[1])
	// People first: what the database grows by is told apart.
	var size [3]work
	var err error
	for i, computers := range []int{-1, 0, b.computers[1]} {
		if computers >= 0 {
			if err := a.seed(ctx, b.people, computers); err != nil {
				return err
			}
		}
		if a.db != nil {
			if size[i], err = a.db.work(ctx); err != nil {
				return err
			}
		}
	}
	if a.db != nil {
		b.personBytes = float64(size[1].size-size[0].size) / float64(b.people)
		b.deviceBytes = float64(size[2].size-size[1].size) / float64(b.computers[1])
	}
	token, err := a.admit(ctx, agentUser)
	if err != nil {
		return err
	}
	if _, err := a.run(); err != nil {
		return err
	}
	if err := b.approvals(ctx, a, token); err != nil {
		return err
	}
	if err := b.connect(ctx, a); err != nil {
		return err
	}
	for _, n := range b.computers {
		if err := b.push(ctx, a, n, false); err != nil {
			return err
		}
	}
	if err := b.push(ctx, a, b.computers[1], true); err != nil {
		return err
	}
	if a.db != nil {
		if err := b.upload(ctx, a); err != nil {
			return err
		}
	}
	for _, d := range a.devices {
		d.hangUp()
	}
	return a.halt()
}

// approvals measures how long after the phone's answer the login opens.
func (b *bench) approvals(ctx context.Context, a *authority, token organisation.Token) (err error) {
	progress("%s: %d logins by the shipped agent", a.kind, b.size.logins)
	agent, err := newAgent(b.dist, filepath.Join(b.disk, "agent-"+a.kind))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, agent.stop(syscall.SIGTERM)) }()
	if err := agent.command(ctx, token.String()+"\n", "join", "https://"+a.loaded.Config.ListenDevices, "--token-stdin", "--name", "bench"); err != nil {
		return err
	}
	phone, client := newPerson(agentUser, a.rp()), newClient(4)
	defer client.CloseIdleConnections()
	phone.Use(client)
	if err := agent.enrol(ctx, phone); err != nil {
		return err
	}
	// The API bounds the requests of a session: the phone has several.
	sessions := [][]byte{phone.Token}
	for len(sessions) < 8 {
		token, err := phone.open(ctx)
		if err != nil {
			return fmt.Errorf("opening the page: %w", err)
		}
		sessions = append(sessions, token)
	}
	const warmUp = 5
	for i := range warmUp + b.size.logins {
		phone.Token = sessions[i%len(sessions)]
		o, err := agent.login(ctx)
		if err != nil {
			return fmt.Errorf("login %d: %w", i, err)
		}
		if i >= warmUp {
			b.opened[a.kind] = append(b.opened[a.kind], o)
		}
	}
	return nil
}

// wait waits, unless ctx ends.
func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// connect has the computers that will push connect.
func (b *bench) connect(ctx context.Context, a *authority) (err error) {
	progress("%s: %d computers connect", a.kind, b.computers[1])
	do := func() error {
		return each(ctx, b.computers[1], 32, func(ctx context.Context, i int) error { return a.devices[i].connect(ctx) })
	}
	if a.db == nil {
		return do()
	}
	b.arrivals, err = a.usage(ctx, b.computers[1], do)
	return err
}

// upload has computers send their events, as after a login or two.
func (b *bench) upload(ctx context.Context, a *authority) (err error) {
	const batches, inBatch = 2, 10
	progress("%s: %d computers send %d events each", a.kind, b.computers[1], batches*inBatch)
	b.events, err = a.usage(ctx, b.computers[1]*batches*inBatch, func() error {
		return each(ctx, b.computers[1], 32, func(ctx context.Context, i int) error {
			for k := range batches {
				if err := a.devices[i].upload(ctx, k*inBatch, inBatch, a.phones[i].user); err != nil {
					return err
				}
			}
			return nil
		})
	})
	return err
}

// push has n computers push logins, each one after the other, of people who take
// turns.
func (b *bench) push(ctx context.Context, a *authority, n int, whole bool) error {
	progress("%s: %d computers push logins", a.kind, n)
	r := pushes{kind: a.kind, computers: n, whole: whole}
	if b.people%n != 0 {
		return fmt.Errorf("%d people are not shared evenly by %d computers: one would log in at two at once", b.people, n)
	}
	keep := n
	if whole {
		keep = 0
		if err := b.subscribe(ctx, a); err != nil {
			return err
		}
	}
	defer a.use(newClient(keep))()
	rung := b.rings.count.Load()
	var before, after work
	var err error
	if a.db != nil {
		if before, err = a.db.settledWork(ctx); err != nil {
			return err
		}
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var counts, over atomic.Bool
	var mu sync.Mutex
	var workers sync.WaitGroup
	for i := range n {
		workers.Go(func() {
			for turn := i; !over.Load(); turn = (turn + n) % b.people {
				began := time.Now()
				err := a.devices[i].login(ctx, a.phones[turn], whole)
				if errors.Is(err, errOverloaded) {
					mu.Lock()
					r.failed++
					mu.Unlock()
					continue
				}
				if err != nil {
					stop(fmt.Errorf("computer %d: %w", i, err))
					return
				}
				took := time.Since(began)
				mu.Lock()
				r.all++
				if counts.Load() && !over.Load() {
					r.logins = append(r.logins, took)
				}
				mu.Unlock()
			}
		})
	}
	wait(ctx, b.warmUp)
	server, database, own, err := a.cpus()
	if err != nil {
		stop(err)
	}
	began := time.Now()
	counts.Store(true)
	wait(ctx, b.pushing)
	for ctx.Err() == nil { // of a machine that stood still there is nothing to say
		mu.Lock()
		some := len(r.logins) > 0
		mu.Unlock()
		if some {
			break
		}
		wait(ctx, 50*time.Millisecond)
	}
	over.Store(true)
	r.took = time.Since(began)
	if err == nil {
		r.serverCPU, r.databaseCPU, r.ownCPU, err = a.cpus()
		r.serverCPU, r.databaseCPU, r.ownCPU = r.serverCPU-server, r.databaseCPU-database, r.ownCPU-own
	}
	workers.Wait()
	if err := errors.Join(context.Cause(ctx), err); err != nil {
		return err
	}
	r.rings = int(b.rings.count.Load() - rung)
	if r.rss, _, err = a.memory(); err != nil {
		return err
	}
	if a.db != nil {
		if after, err = a.db.settledWork(ctx); err != nil {
			return err
		}
		r.done = after.minus(before)
	}
	b.pushes = append(b.pushes, r)
	return nil
}

// subscribe lets each phone be rung through the push service.
func (b *bench) subscribe(ctx context.Context, a *authority) error {
	defer a.use(newClient(16))()
	return each(ctx, len(a.phones), 16, func(ctx context.Context, i int) error {
		return a.phones[i].Call(ctx, http.MethodPut, "subscription", b.rings.subscription(), nil)
	})
}

// cpus is the processor time used so far by the server, its database's own
// processes, and the bench.
func (a *authority) cpus() (server, database, own time.Duration, err error) {
	if server, err = a.cpu(); err != nil {
		return 0, 0, 0, err
	}
	if a.db != nil {
		if database, err = a.db.cpu(); err != nil {
			return 0, 0, 0, err
		}
	}
	var u syscall.Rusage
	err = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return server, database, time.Duration(u.Utime.Nano() + u.Stime.Nano()), err
}

// many measures what connected computers cost that do nothing.
func (b *bench) many(ctx context.Context) (err error) {
	a, c := b.sqlite, &b.crowd
	c.streams, c.idle, c.stormWindow = b.streams, b.idle, b.firstDelay
	progress("sqlite: %d computers join", b.streams-len(a.devices))
	began := time.Now()
	if err := a.seed(ctx, b.people, b.streams); err != nil {
		return err
	}
	c.seeded = time.Since(began)
	if _, err := a.run(); err != nil {
		return err
	}
	defer func() {
		_ = each(context.WithoutCancel(ctx), len(a.devices), 64, func(_ context.Context, i int) error {
			a.devices[i].hangUp()
			return nil
		})
	}()
	if c.before.rss, c.before.pss, err = a.memory(); err != nil {
		return err
	}
	goroutines, err := a.metric("go_goroutines")
	if err != nil {
		return err
	}
	progress("sqlite: %d computers connect", b.streams)
	cpu, err := a.cpu()
	if err != nil {
		return err
	}
	began = time.Now()
	if err := each(ctx, b.streams, 64, func(ctx context.Context, i int) error { return a.devices[i].connect(ctx) }); err != nil {
		return err
	}
	c.connected = time.Since(began)
	if c.connectCPU, err = a.cpu(); err != nil {
		return err
	}
	c.connectCPU -= cpu

	progress("sqlite: they do nothing for %v", b.idle)
	idleFrom, err := a.cpu()
	if err != nil {
		return err
	}
	wait(ctx, b.idle)
	if c.idleCPU, err = a.cpu(); err != nil {
		return err
	}
	c.idleCPU -= idleFrom
	if c.after.rss, c.after.pss, err = a.memory(); err != nil {
		return err
	}
	for name, to := range map[string]*float64{"go_goroutines": &c.goroutines, "go_memstats_heap_inuse_bytes": &c.heap, "go_memstats_stack_inuse_bytes": &c.stacks} {
		if *to, err = a.metric(name); err != nil {
			return err
		}
	}
	c.goroutines -= goroutines
	for i, d := range a.devices {
		select {
		case <-d.gone:
			return fmt.Errorf("computer %d lost its connection while it did nothing: %w", i, d.why)
		default:
		}
	}
	if err := b.item(ctx, a); err != nil {
		return err
	}
	return b.storm(ctx, a)
}

// item measures how long one signed item takes to all computers.
func (b *bench) item(ctx context.Context, a *authority) error {
	progress("sqlite: an item of 1 KB to all of them")
	file := filepath.Join(b.disk, "policy.toml")
	policy := "[required]\nservices = [\n"
	for i := range 32 { // signed and in base64: 1 KB
		policy += fmt.Sprintf("  \"bench%05d\",\n", i)
	}
	if err := os.WriteFile(file, []byte(policy+"]\n"), 0o600); err != nil {
		return err
	}
	var mu sync.Mutex
	var first, last time.Time
	left, size, all := len(a.devices), 0, make(chan struct{})
	for _, d := range a.devices {
		d.watch(func(kind organisation.Kind, n int) {
			if kind != organisation.KindPolicy {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if last = time.Now(); first.IsZero() {
				first, size = last, n
			}
			if left--; left == 0 {
				close(all)
			}
		})
	}
	began := time.Now()
	if err := a.command(ctx, "", "policy", "set", file); err != nil {
		return err
	}
	select {
	case <-all:
	case <-time.After(60 * time.Second):
		mu.Lock()
		defer mu.Unlock()
		return fmt.Errorf("%d of %d computers did not get the item within a minute", left, len(a.devices))
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	c := &b.crowd
	c.itemBytes, c.itemCommand, c.itemSpread = size, last.Sub(began), last.Sub(first)
	return nil
}

// stormTime is how long the computers are waited for: one that failed often waits
// for minutes.
const stormTime = 90 * time.Second

// storm restarts the server and waits until all computers are back.
func (b *bench) storm(ctx context.Context, a *authority) error {
	c := &b.crowd
	progress("sqlite: the server restarts under %d computers; each comes back at any time within %v", len(a.devices), b.firstDelay)
	began := time.Now()
	stopped := make(chan error, 1)
	go func() { stopped <- a.halt() }()
	var failed atomic.Int64
	var mu sync.Mutex
	var back []time.Time
	all := make(chan error, 1)
	bounded, cancel := context.WithTimeout(ctx, stormTime)
	defer cancel()
	go func() {
		all <- each(bounded, len(a.devices), len(a.devices), func(ctx context.Context, i int) error {
			d := a.devices[i]
			select {
			case <-d.gone:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			d.hangUp()
			n, err := d.comeBack(ctx, b.firstDelay)
			failed.Add(int64(n))
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			back = append(back, time.Now())
			return nil
		})
	}()
	if err := <-stopped; err != nil {
		return err
	}
	c.stopped = time.Since(began)
	var err error
	if c.restarted, err = a.run(); err != nil {
		return err
	}
	ready := time.Now()
	if err := <-all; ctx.Err() != nil || err != nil && bounded.Err() == nil || len(back) == 0 {
		return errors.Join(errors.New("the computers did not come back"), err)
	}
	c.stormBack = len(back)
	c.stormFailed = int(failed.Load())
	c.backAll, c.back99 = back[len(back)-1].Sub(ready), back[min(c.streams*99/100, len(back)-1)].Sub(ready)
	if c.stormCPU, err = a.cpu(); err != nil {
		return err
	}
	c.stormRSS, _, err = a.memory()
	return err
}
