// Package link is this computer's connection to the authority: one long-lived
// stream that takes challenges to phones and brings back what they answered, what
// the organisation signed, and the events that go up.
//
// It decides no login. Without it everything else works: whoever waits for the
// authority waits 1.5 s at most. Nothing of the authority is believed that is not
// signed by the organisation key which this computer pinned when it joined.
package link

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"sallyport/agent/adminsvc"
	"sallyport/agent/loginsvc"
	"sallyport/agent/store"
	"sallyport/internal/accounts"
	"sallyport/internal/clock"
	"sallyport/internal/config"
	"sallyport/internal/event"
	"sallyport/internal/vault"
	authorityv1 "sallyport/proto/sallyport/authority/v1"
)

const (
	// firstWindow and maxWindow bound the wait before the next attempt, which is
	// any time within the window: the many that lost an authority at one moment
	// must not come back at one moment.
	firstWindow = time.Second
	maxWindow   = 5 * time.Minute
	// waitingWindow bounds it while a login or an enrolment waits for an answer.
	waitingWindow = 2 * time.Second
	// slowWindow is that of an authority which refuses this computer on purpose:
	// half of it to all of it.
	slowWindow = 2 * time.Hour
	// stableAfter is how long a connection must have held for the next attempts to
	// begin with short waits again.
	stableAfter = time.Minute
	// minGap keeps attempts apart that logins ask for.
	minGap = 200 * time.Millisecond
	// refusalEvery bounds the reports of one thing that the authority does.
	refusalEvery = time.Hour
	// maxText bounds what the authority says, in logs and on screens.
	maxText = 200
)

// Names is who is who on this computer.
type Names interface {
	Lookup(ctx context.Context, name string) (accounts.User, error)
}

// Options are what a Link works with.
type Options struct {
	Store    *store.Store
	Clock    clock.Clock
	Log      *slog.Logger
	Names    Names
	Settings func() config.Config
	Version  string // of the agent
	Platform string // "linux/amd64"
	Serial   string // the machine's; "" when unknown
}

// Link is the connection. It is an adminsvc.Link and a loginsvc.Courier.
type Link struct {
	o Options
	// after and jitter are time.After and a random part of a window, but for tests.
	after  func(time.Duration) <-chan time.Time
	jitter func(time.Duration) time.Duration
	// probe and dead are probeTime and deadAfter, but for tests.
	probe, dead time.Duration

	unjoined string // why the last attempt at an invitation failed; Run's own

	// standing is how this computer stands; nil: the authority is not told. looked is
	// when it was last asked for, since boot. Of one session at a time.
	standing func(context.Context) (*adminsvc.Standing, error)
	looked   *time.Duration

	membership sync.Mutex    // one Join or Leave at a time
	changed    chan struct{} // joined or left
	kick       chan struct{} // somebody waits for a connection

	mu         sync.Mutex
	current    *session      // connected or connecting
	live       *session      // connected; nil: not
	failures   uint64        // attempts that failed
	turn       chan struct{} // closed when live or failures change
	state      adminsvc.LinkState
	alone      bool                     // no authority was joined
	slow       bool                     // the authority refuses this computer: logins do not wait for it
	raised     map[string]time.Duration // what was reported, when since boot: see seldom
	pushes     map[string]*pending
	enrolments map[string]*enrolment
	ends       map[string]ended
	sent       position
	saved      position

	refusals refusals
}

var (
	_ adminsvc.Link    = (*Link)(nil)
	_ loginsvc.Courier = (*Link)(nil)
)

// New returns a link, which Run connects.
func New(o Options) *Link {
	l := &Link{o: o, after: time.After, jitter: jitter, probe: probeTime, dead: deadAfter,
		changed: make(chan struct{}, 1), kick: make(chan struct{}, 1), turn: make(chan struct{}),
		raised: map[string]time.Duration{}, pushes: map[string]*pending{}, enrolments: map[string]*enrolment{}, ends: map[string]ended{},
	}
	l.state.Since = o.Clock.Now().Wall
	return l
}

// jitter is a random part of a window.
func jitter(window time.Duration) time.Duration {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand
	return time.Duration(binary.BigEndian.Uint64(b[:]) % uint64(window))
}

// window is the one to wait in after so many failed attempts.
func window(failed int) time.Duration {
	if failed > 9 {
		return maxWindow
	}
	return min(firstWindow<<failed, maxWindow)
}

// ending is how a session, or the attempt at one, ended.
type ending struct {
	err     error  // for people
	again   bool   // connect again at once
	stable  bool   // it had held for a while
	crowd   bool   // others lost it at the same moment
	slow    bool   // trying again soon is of no use
	refused string // the authority ended it on purpose: a stable word
}

// Run keeps the connection until ctx ends.
func (l *Link) Run(ctx context.Context) {
	failed := 0
	var carry carrying
	for ctx.Err() == nil {
		carry.contact(ctx, l)
		drain(l.changed) // what it tells of is read now
		a, vaultChanged, err := l.joined()
		if err == nil && a == nil {
			if !l.notJoined() {
				continue
			}
			var again <-chan time.Time
			if l.follow(ctx) {
				again, vaultChanged = l.after(l.jitter(window(failed))), nil
				failed++
			} else {
				failed = 0
			}
			select {
			case <-ctx.Done():
			case <-l.changed:
				failed = 0
			case <-vaultChanged: // another vault, perhaps
			case <-again:
			}
			continue
		}
		drain(l.kick) // this is the attempt that was asked for
		var end ending
		if err != nil {
			end.err = fmt.Errorf("what is known of the authority cannot be read: %w", err)
		} else {
			end = l.session(ctx, a)
		}
		l.savePosition()
		if ctx.Err() != nil {
			end = ending{}
		}
		l.note(end)
		if end.stable {
			failed = 0
			if end.crowd {
				failed = 4
			}
		}
		if end.again {
			continue
		}
		wait := l.jitter(window(failed))
		if l.waitedFor() {
			wait = min(wait, l.jitter(waitingWindow))
		}
		if end.slow {
			wait = slowWindow/2 + l.jitter(slowWindow/2)
		}
		failed++
		select {
		case <-ctx.Done():
		case <-l.after(wait):
		case <-l.changed:
			failed = 0
		case <-l.kick:
			select {
			case <-ctx.Done():
			case <-l.after(minGap):
			}
		}
	}
}

func drain(c <-chan struct{}) {
	select {
	case <-c:
	default:
	}
}

func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// joined reads what the vault has of the authority; nil when there is none. The
// channel is closed when that may have changed.
func (l *Link) joined() (*store.Authority, <-chan struct{}, error) {
	v, err := l.o.Store.Vault()
	if err != nil {
		return nil, nil, err
	}
	changed := v.Changed()
	var a *store.Authority
	err = v.View(func(tx *vault.Tx) (err error) { a, err = store.JoinedTo(tx); return err })
	return a, changed, err
}

// waitedFor says whether a login or an enrolment waits for the authority.
func (l *Link) waitedFor() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.prune()
	return len(l.pushes)+len(l.enrolments) > 0
}

// note makes known how a session ended.
func (l *Link) note(end ending) {
	now := l.o.Clock.Now()
	l.mu.Lock()
	if l.state.Connected {
		l.state.Connected, l.state.Since = false, now.Wall
	}
	before := l.state.LastError
	l.slow = end.slow
	if end.refused != "" {
		l.state.Refused = end.refused
	}
	if end.err != nil {
		l.state.LastError = end.err.Error()
	}
	l.failures++
	l.broadcast()
	l.mu.Unlock()
	if end.err == nil {
		return
	}
	if end.refused != "" || end.slow {
		l.raise(end.refused, end.err.Error())
	} else if before != end.err.Error() {
		l.o.Log.Warn("there is no connection to the authority", "reason", end.err.Error())
	}
}

// seldom says whether to report something: each once in a while.
func (l *Link) seldom(what string) bool {
	boot := l.o.Clock.Now().Boot
	l.mu.Lock()
	defer l.mu.Unlock()
	last, known := l.raised[what]
	if known && boot-last < refusalEvery {
		return false
	}
	if len(l.raised) > 16 {
		clear(l.raised)
	}
	l.raised[what] = boot
	return true
}

// raise makes the event of a refusal, of each reason once in a while.
func (l *Link) raise(reason, text string) {
	if !l.seldom(reason) {
		return
	}
	l.o.Store.Record(context.Background(), event.Event{Name: event.AuthorityRefused, Reason: reason, Text: text})
}

// notJoined makes known that there is no authority, unless somebody has joined one
// since Run looked: who asks from then on is to wait for the connection.
func (l *Link) notJoined() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.changed) > 0 {
		return false
	}
	l.forget()
	return true
}

// forget is what is known of an authority that is not ours any more; with mu held.
func (l *Link) forget() {
	l.state, l.slow, l.alone = adminsvc.LinkState{Since: l.o.Clock.Now().Wall}, false, true
	clear(l.ends)
	clear(l.raised)
	l.failures++
	l.broadcast()
}

// broadcast wakes whoever waits for a connection; with mu held.
func (l *Link) broadcast() {
	close(l.turn)
	l.turn = make(chan struct{})
}

// State says how the link is.
func (l *Link) State() adminsvc.LinkState {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.state // Users is replaced, never changed
	s.SentDevice, s.SentVault, s.Sent = l.sent.device, l.sent.vault, l.sent.seq
	return s
}

// The reasons why there is no connection, for whoever waits for one.
var (
	errNotJoined = errors.New("this computer has joined no authority")
	errTooLate   = errors.New("the authority did not answer in time")
)

// await returns the live session. Without one it has an attempt made, and waits
// for that until ctx ends.
func (l *Link) await(ctx context.Context) (*session, error) {
	for tries := 0; ; tries++ {
		l.mu.Lock()
		s, turn, alone, slow, why := l.live, l.turn, l.alone, l.slow, l.state.LastError
		l.mu.Unlock()
		switch {
		case s != nil:
			return s, nil
		case alone:
			return nil, errNotJoined
		case slow, tries == 2: // the first attempt to fail may have begun before this call
			return nil, errors.New(cmp.Or(why, "there is no connection to the authority"))
		}
		poke(l.kick)
		select {
		case <-turn:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// ended is the last word on a push or an enrolment. It is kept while the
// authority may not have it.
type ended struct {
	message *authorityv1.DeviceMessage
	until   clock.Deadline
}

// maxEnds bounds what is kept for an authority that cannot be reached. All of it is
// said at once when it can be, and the authority takes no flood.
const maxEnds = 64

// deliver sends a last word, and again after each reconnection until then.
func (l *Link) deliver(id string, m *authorityv1.DeviceMessage, until clock.Deadline) {
	l.mu.Lock()
	l.prune()
	if len(l.ends) < maxEnds {
		l.ends[id] = ended{m, until}
	}
	s := l.live
	l.mu.Unlock()
	if s != nil {
		s.send(m)
	}
}

// prune forgets what is over; with mu held.
func (l *Link) prune() {
	now := l.o.Clock.Now()
	for id, e := range l.ends {
		if e.until.Passed(now) {
			delete(l.ends, id)
		}
	}
	for id, p := range l.pushes {
		if p.until.Passed(now) {
			delete(l.pushes, id)
		}
	}
}

// clean is text of the authority that can be shown and logged.
func clean(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\ufffd' || r >= 0x80 && r < 0xa0 || r >= 0x2028 && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "") + "..."
	}
	return s
}

// certificate parses this computer's.
func certificate(a *store.Authority) (*x509.Certificate, error) {
	if len(a.Chain) == 0 {
		return nil, errors.New("no certificate is kept")
	}
	return x509.ParseCertificate(a.Chain[0])
}
