package link

import (
	"context"
	"errors"
	"io"
	"math"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"sallyport/authority/enrol"
	"sallyport/authority/store"
	"sallyport/internal/event"
	"sallyport/internal/organisation"
	authorityv1 "sallyport/proto/sallyport/authority/v1"
)

// needs is what a stream has to read from the database.
type needs uint8

const (
	needAnswers needs = 1 << iota
	needEnrolments
	needSync
	needAttach
	needNamed // the answers of the challenges named
)

// Bounds of one stream.
const (
	maxQueue   = 800 // messages that wait to be sent
	syncQueue  = 8   // and to how many of them an item is added
	maxJobs    = 128 // requests that wait for the database
	maxRetries = 32
	maxHave    = 5000
	maxNamed   = 8             // challenges that are read one by one; if more are answered, all of the device's
	maxNumber  = math.MaxInt64 // of what a device counts: the databases have no more
)

// Rates of one device, as bursts and gaps. Those of pushes are a setting, as a
// host that hundreds log in to through is one device; each push is three messages.
const (
	pushesPerSecond      = 20 // unless Options say otherwise
	burstSeconds         = 5
	messagesPerPush      = 4
	enrolBurst, enrolGap = 10, 30 * time.Second
)

// rates are what a device may send.
type rates struct {
	pushes, messages struct {
		burst int
		gap   time.Duration
	}
}

func ratesOf(perSecond int) (r rates) {
	r.pushes.burst, r.pushes.gap = burstSeconds*perSecond, time.Second/time.Duration(perSecond)
	r.messages.burst, r.messages.gap = messagesPerPush*r.pushes.burst, r.pushes.gap/messagesPerPush
	return r
}

// job is a request that needs the database.
type job struct {
	// do takes its own place at the database, and answers the device also when it
	// gets none.
	do func(ctx context.Context) error
	// durable: it is tried again while the database is away, until then.
	until time.Time
}

// item names what is signed.
type item struct {
	kind organisation.Kind
	user string
}

// stream is one device's.
type stream struct {
	s      *Service
	device string
	who    *caller
	ctx    context.Context
	wire   grpc.BidiStreamingServer[authorityv1.DeviceMessage, authorityv1.AuthorityMessage]
	tasks  sync.WaitGroup // sending and working

	mu        sync.Mutex
	queue     []*authorityv1.AuthorityMessage
	sending   bool
	room      chan struct{} // closed when something was sent; nil: nobody waits
	ending    bool          // goodbye is on its way: nothing else is taken or sent
	jobs      []job
	retries   []job
	needs     needs
	named     []string // challenges that were answered
	postponed needs    // until catchUp comes
	working   bool
	users     []string        // as the device was told
	have      map[item]uint64 // versions that the device has

	// Of the receiving goroutine only.
	messages, begins, enrolments bucket
	escrowed                     bool // the key of its offline bypasses came
	// Of the working goroutine only: what was sent on this stream.
	answered map[string]struct{}
	keyed    map[string]struct{}
	wantsKey bool // the key of its offline bypasses is not here
}

var errMalformed = status.Error(codes.InvalidArgument, "a message is malformed")

// Connect is the device's stream.
func (s *Service) Connect(wire grpc.BidiStreamingServer[authorityv1.DeviceMessage, authorityv1.AuthorityMessage]) error {
	who, err := callerOf(wire.Context())
	if err != nil {
		return err
	}
	hurry := time.AfterFunc(s.hurry, who.cancel)
	first, err := wire.Recv()
	hurry.Stop()
	if err != nil {
		return err
	}
	hello := first.GetHello()
	if hello == nil {
		return errMalformed
	}
	st := &stream{s: s, device: who.Device, who: who, ctx: wire.Context(), wire: wire}
	var opened bool
	if apart(func() { opened, err = st.open(hello) }); err != nil || !opened {
		return err
	}
	defer st.close()
	for {
		m, err := wire.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err // who.cancel's too: gRPC has sent the status by now, so Goodbye says why
		}
		st.receive(m)
	}
}

// apart runs fn on a stack of its own: that of a stream, which lies idle for days,
// stays small.
func apart(fn func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		fn()
	}()
	<-done
}

// open judges Hello, and makes this the device's one stream; false: it is over.
func (st *stream) open(h *authorityv1.Hello) (bool, error) {
	s := st.s
	switch {
	case len(h.GetVaultId()) == 0 || len(h.GetVaultId()) > 64 || !plain(h.GetVaultId()), h.GetVaultGeneration() > maxNumber, len(h.GetHave()) > maxHave:
		return false, errMalformed
	}
	if err := enrol.CheckAgent(h.GetVersion(), h.GetPlatform()); err != nil {
		return false, err
	}
	if why := wrongProtocol(h.GetProtocolVersion(), h.GetVersion(), s.version); why != "" {
		s.log.Warn("a device speaks another version of the protocol", "device", st.device, "why", why)
		return false, st.wire.Send(goodbye("version", why))
	}
	for _, x := range h.GetHave() {
		if len(x.GetKind()) > 32 || len(x.GetUser()) > 320 || x.GetVersion() > maxNumber {
			return false, errMalformed
		}
		if st.have == nil {
			st.have = make(map[item]uint64, len(h.GetHave()))
		}
		st.have[item{organisation.Kind(x.GetKind()), x.GetUser()}] = x.GetVersion()
	}
	ctx, cancel := context.WithTimeout(st.ctx, s.requestTime)
	defer cancel()
	var err error
	rolledBack := false
	report := s.rollbacks
	s.inOrder(st.device, func() {
		now := s.now()
		tell := false
		err = use(ctx, s.connects, func() error {
			return s.store.Change(ctx, func(tx store.Tx) error {
				rolledBack = false
				d, err := tx.Device(st.device)
				if err != nil {
					return err
				}
				if !d.Revoked.IsZero() {
					return enrol.ErrRevoked
				}
				if rolledBack = d.VaultID != "" && h.GetVaultGeneration() < d.Generation; rolledBack {
					// Once in a while: the device tries again and again.
					if !tell {
						if tell = report.take(st.device, now); !tell {
							return nil
						}
					}
					return enrol.Record(tx, now, event.Event{Name: enrol.VaultRolledBack, By: "device:" + d.ID,
						Text: d.Name + ": its vault is older than one it had before, or a copy; it gets no push"})
				}
				d.VaultID, d.Generation, d.Version, d.Platform = h.GetVaultId(), h.GetVaultGeneration(), h.GetVersion(), h.GetPlatform()
				if err := tx.PutDevice(d); err != nil {
					return err
				}
				st.users = slices.Clone(d.Users)
				if st.wantsKey, err = s.enrol.WantsBypassKey(tx, st.device); err != nil {
					return err
				}
				_, err = tx.Attach(st.device, now)
				return err
			})
		})
		if err != nil || rolledBack {
			return
		}
		s.mu.Lock()
		before := s.streams[st.device]
		s.streams[st.device] = st
		s.mu.Unlock()
		if before != nil {
			before.end("replaced", "the device has connected again")
		}
	})
	switch {
	case err != nil:
		return false, err
	case rolledBack:
		s.log.Warn("a device's vault was rolled back or copied", "device", st.device)
		return false, st.wire.Send(goodbye("vault_rolled_back", "this computer's vault is older than one it had before, or a copy"))
	}
	if s.stopping.Load() {
		st.end("stopping", "the authority stops")
	}
	st.send(st.welcome(st.users))
	st.need(needAnswers | needEnrolments | needSync)
	return true, nil
}

// plain says whether s is printable ASCII.
func plain(s string) bool {
	return !slices.ContainsFunc([]byte(s), func(c byte) bool { return c <= ' ' || c > '~' })
}

// close ends what the stream had going on, and tells the database.
func (st *stream) close() {
	s := st.s
	st.mu.Lock()
	st.ending = true
	st.mu.Unlock()
	st.who.cancel()
	st.tasks.Wait()
	s.mu.Lock()
	delete(s.stale, st)
	s.mu.Unlock()
	s.inOrder(st.device, func() {
		s.mu.Lock()
		mine := s.streams[st.device] == st
		if mine {
			delete(s.streams, st.device)
		}
		s.mu.Unlock()
		if !mine || s.stopping.Load() { // the store's Close ends all of a node's at once
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), s.requestTime)
		defer cancel()
		if err := use(ctx, s.database, func() error {
			return s.store.Change(ctx, func(tx store.Tx) error { return tx.Detach(st.device, s.now()) })
		}); err != nil {
			s.log.Warn("that a device is gone cannot be written", "device", st.device, "err", err)
		}
	})
}

// use runs fn in one of the places at the database.
func use(ctx context.Context, places chan struct{}, fn func() error) error {
	select {
	case places <- struct{}{}:
	case <-ctx.Done():
		return store.ErrUnavailable
	}
	defer func() { <-places }()
	return fn()
}

// Sending.

func goodbye(reason, text string) *authorityv1.AuthorityMessage {
	return &authorityv1.AuthorityMessage{Message: &authorityv1.AuthorityMessage_Goodbye{Goodbye: &authorityv1.Goodbye{Reason: reason, Text: text}}}
}

// send queues a message. A device that lets too many lie is cut off.
func (st *stream) send(m *authorityv1.AuthorityMessage) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.ending {
		return
	}
	if len(st.queue) >= maxQueue {
		st.cutOff()
		return
	}
	st.push(m)
}

// cutOff ends the stream of a device that reads nothing.
func (st *stream) cutOff() {
	st.s.log.Warn("a device does not read what it is sent; its stream is ended", "device", st.device)
	st.who.cancel()
}

// push has st.mu.
func (st *stream) push(m *authorityv1.AuthorityMessage) {
	st.queue = append(st.queue, m)
	if !st.sending {
		st.sending = true
		st.tasks.Go(st.drain)
	}
}

// sendWhenThereIsRoom is for what comes in any number; false when the stream ends.
func (st *stream) sendWhenThereIsRoom(m *authorityv1.AuthorityMessage) bool {
	for {
		st.mu.Lock()
		if st.ending {
			st.mu.Unlock()
			return false
		}
		if len(st.queue) < syncQueue {
			st.push(m)
			st.mu.Unlock()
			return true
		}
		if st.room == nil {
			st.room = make(chan struct{})
		}
		room := st.room
		st.mu.Unlock()
		select {
		case <-room:
		case <-st.ctx.Done():
			return false
		}
	}
}

// end says goodbye and ends the stream: from now on nothing is taken from it.
func (st *stream) end(reason, text string) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.ending {
		return
	}
	st.ending = true
	st.needs, st.postponed, st.named = 0, 0, nil
	st.queue = nil // what is queued is not for a device that goes
	st.push(goodbye(reason, text))
	// A device that does not read is not waited for.
	time.AfterFunc(st.s.goodbye, st.who.cancel)
}

// drain sends what is queued, and is over when there is nothing.
func (st *stream) drain() {
	stuck := time.AfterFunc(sendTimeout, st.cutOff)
	defer stuck.Stop()
	for {
		st.mu.Lock()
		if len(st.queue) == 0 {
			st.sending, st.queue = false, nil
			ending := st.ending
			st.mu.Unlock()
			if ending {
				st.who.cancel()
			}
			return
		}
		m := st.queue[0]
		st.queue = st.queue[1:]
		if st.room != nil {
			close(st.room)
			st.room = nil
		}
		st.mu.Unlock()
		stuck.Reset(sendTimeout)
		if err := st.wire.Send(m); err != nil {
			st.who.cancel()
			st.mu.Lock()
			st.sending, st.queue = false, nil
			st.mu.Unlock()
			return
		}
	}
}

// Working.

// need has the stream read from the database.
func (st *stream) need(what needs) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.ending {
		return
	}
	st.needs |= what
	st.start()
}

// needAnswer has the stream read the answer of one challenge.
func (st *stream) needAnswer(challenge string) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.ending {
		return
	}
	if len(st.named) < maxNamed && challenge != "" {
		st.needs |= needNamed
		st.named = append(st.named, challenge)
	} else {
		st.needs |= needAnswers
	}
	st.start()
}

// start has st.mu.
func (st *stream) start() {
	if !st.working {
		st.working = true
		st.tasks.Go(func() { st.work() })
	}
}

// add queues a request; false when too many wait.
func (st *stream) add(j job) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.ending {
		return true
	}
	if len(st.jobs) >= maxJobs {
		return false
	}
	st.jobs = append(st.jobs, j)
	st.start()
	return true
}

// resume does what was postponed, in the caller's goroutine; false when the
// database failed again.
func (st *stream) resume() bool {
	st.mu.Lock()
	if st.ending {
		st.mu.Unlock()
		return true
	}
	st.needs |= st.postponed
	st.jobs = append(st.jobs, st.retries...)
	st.postponed, st.retries = 0, nil
	if st.working {
		st.mu.Unlock()
		return true
	}
	st.working = true
	st.tasks.Add(1)
	st.mu.Unlock()
	defer st.tasks.Done()
	return st.work()
}

// work does what there is to do, and is over when there is nothing. Requests that
// came are finished even when the stream is over: they are the device's word.
func (st *stream) work() (ok bool) {
	ok = true
	for {
		st.mu.Lock()
		var j job
		var what needs
		var named []string
		switch {
		case len(st.jobs) > 0:
			j, st.jobs = st.jobs[0], st.jobs[1:]
		case st.needs != 0 && !st.ending:
			what, st.needs = st.needs, 0
			named, st.named = st.named, nil
		default:
			st.working, st.jobs = false, nil
			st.mu.Unlock()
			return ok
		}
		st.mu.Unlock()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(st.ctx), st.s.requestTime)
		var err error
		if j.do != nil {
			if err = j.do(ctx); unavailable(err) && st.s.now().Before(j.until) {
				st.mu.Lock()
				if len(st.retries) < maxRetries {
					st.retries = append(st.retries, j)
				}
				st.mu.Unlock()
				st.s.later(st, 0)
			}
		} else if err = st.refresh(ctx, what, named); err != nil {
			if what&needNamed != 0 {
				what = what&^needNamed | needAnswers
			}
			st.s.later(st, what)
		}
		cancel()
		if err != nil {
			st.s.log.Warn("a device's request, or what it waits for, failed", "device", st.device, "err", err)
			if ok = ok && !unavailable(err); !ok {
				// Nobody is left to wait for the rest.
				st.mu.Lock()
				if st.ending {
					st.jobs = nil
				}
				st.mu.Unlock()
			}
		}
	}
}

// refresh reads what the stream needs and sends what is new to it.
func (st *stream) refresh(ctx context.Context, what needs, named []string) error {
	s := st.s
	now := s.now()
	var answers []store.Challenge
	var enrolments []store.Enrolment
	var items []store.Item
	var device store.Device
	read := func() error {
		return s.store.View(ctx, func(tx store.Tx) (err error) {
			answers = nil
			if what&needAnswers != 0 {
				if answers, err = tx.Undelivered(st.device, now); err != nil {
					return err
				}
			} else {
				for _, id := range named {
					c, err := tx.Challenge(id)
					if err == nil && c.Device == st.device && c.Answer != nil && c.Ended.IsZero() && c.Expires.After(now) {
						answers = append(answers, c)
					} else if err != nil && !errors.Is(err, store.ErrNotFound) {
						return err
					}
				}
			}
			if what&needEnrolments != 0 {
				if enrolments, err = tx.OpenEnrolments(st.device, now); err != nil {
					return err
				}
			}
			if what&needSync != 0 {
				if device, err = tx.Device(st.device); err != nil {
					return err
				}
				items, err = st.newer(tx)
			}
			return err
		})
	}
	var err error
	if what&needAttach != 0 {
		err = st.attach(ctx)
	}
	if err == nil && what != needAttach {
		err = use(ctx, s.database, read)
	}
	switch {
	case errors.Is(err, store.ErrNotFound):
		st.end("unknown", "this device is not known any more")
		return nil
	case err != nil:
		return err
	case what&needSync != 0 && !device.Revoked.IsZero():
		st.end("revoked", "this device is revoked")
		return nil
	}
	for _, c := range answers {
		if _, sent := st.answered[c.ID]; !sent && c.Answer != nil {
			if st.answered == nil {
				st.answered = map[string]struct{}{}
			}
			if !st.sendWhenThereIsRoom(answerMessage(c)) {
				return nil
			}
			st.answered[c.ID] = struct{}{}
		}
	}
	for _, e := range enrolments {
		if _, sent := st.keyed[e.ID]; !sent && e.Registration != nil {
			if st.keyed == nil {
				st.keyed = map[string]struct{}{}
			}
			st.keyed[e.ID] = struct{}{}
			st.send(keyMessage(e))
		}
	}
	if what&needSync == 0 {
		return nil
	}
	st.mu.Lock()
	told := slices.Equal(st.users, device.Users)
	st.users = slices.Clone(device.Users)
	st.mu.Unlock()
	if !told {
		st.send(st.welcome(device.Users))
	}
	for _, i := range items {
		m := &authorityv1.AuthorityMessage{Message: &authorityv1.AuthorityMessage_Sync{Sync: &authorityv1.Sync{Envelope: i.Envelope}}}
		if !st.sendWhenThereIsRoom(m) {
			return nil
		}
		st.mu.Lock()
		if st.have == nil {
			st.have = map[item]uint64{}
		}
		st.have[item{i.Kind, i.User}] = i.Version
		st.mu.Unlock()
	}
	return nil
}

// newer are the items that the device does not have: its own, and newer versions
// of whatever it has, also of users that are not allowed on it any more.
func (st *stream) newer(tx store.Tx) ([]store.Item, error) {
	items, err := tx.Items(st.device)
	if err != nil {
		return nil, err
	}
	st.mu.Lock()
	var old []item
	for k := range st.have {
		if k.kind == organisation.KindApprovers && !slices.ContainsFunc(items, func(i store.Item) bool { return i.Kind == k.kind && i.User == k.user }) {
			old = append(old, k)
		}
	}
	st.mu.Unlock()
	for _, k := range old {
		if enrol.CheckUser(k.user) != nil {
			continue
		}
		i, err := tx.Item(k.kind, "", k.user)
		if err == nil {
			items = append(items, i)
		} else if !errors.Is(err, store.ErrNotFound) {
			return nil, err
		}
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	now := st.s.now()
	return slices.DeleteFunc(items, func(i store.Item) bool { return !sendable(i, st.have[item{i.Kind, i.User}], now) }), nil
}

// concerns says whether an item of that user is one for this device.
func (st *stream) concerns(user string) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	_, has := st.have[item{organisation.KindApprovers, user}]
	return has || enrol.Allowed(store.Device{Users: st.users}, user)
}

// attach says again that the stream is here; it is over when another node has the
// device's.
func (st *stream) attach(ctx context.Context) (err error) {
	s := st.s
	moved := false
	s.inOrder(st.device, func() {
		if s.stream(st.device) != st {
			return
		}
		// The place comes after the order, as close has it: whoever has a place never
		// waits for another of this device.
		err = use(ctx, s.database, func() error {
			return s.store.Change(ctx, func(tx store.Tx) error {
				now := s.now()
				node, err := tx.StreamNode(st.device, now)
				if moved = node != "" && node != s.store.Node(); err != nil || moved {
					return err
				}
				_, err = tx.Attach(st.device, now)
				return err
			})
		})
	})
	if err == nil && moved {
		st.end("replaced", "the device has connected to another server")
	}
	return err
}
