package link

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"sallyport/authority/enrol"
	"sallyport/authority/store"
	"sallyport/authority/store/storetest"
	factor "sallyport/internal/factor/push"
	"sallyport/internal/testkit/passkey"
	authorityv1 "sallyport/proto/sallyport/authority/v1"
)

// mover is a computer that connects anew, to any node, whenever it likes.
type mover struct {
	nodes   []*world
	devices []*device // the same, at each node
	user    string
	key     *passkey.Key

	wire grpc.BidiStreamingClient[authorityv1.DeviceMessage, authorityv1.AuthorityMessage]
	stop context.CancelFunc
}

func (m *mover) connect(ctx context.Context) (err error) {
	if m.stop != nil {
		m.stop() // not waited for: the new one comes while the old one goes
	}
	d := m.devices[rand.IntN(len(m.devices))]
	ctx, m.stop = context.WithCancel(ctx)
	if m.wire, err = d.client.Connect(ctx); err != nil {
		return err
	}
	return m.wire.Send(d.hello())
}

// until takes what comes until it is wanted; a stream that ends by another's doing
// is opened again.
func (m *mover) until(ctx context.Context, wanted func(*authorityv1.AuthorityMessage) bool) error {
	for {
		got, err := m.wire.Recv()
		switch {
		case ctx.Err() != nil:
			return errors.New("nothing came")
		case err != nil:
			if err := m.connect(ctx); err != nil {
				return err
			}
		case wanted(got):
			return nil
		}
	}
}

// login has one login approved, and moves about it.
func (m *mover) login() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if m.wire == nil || rand.IntN(4) == 0 || m.wire.Context().Err() != nil {
		if err := m.connect(context.Background()); err != nil {
			return err
		}
	}
	b, asked := m.devices[0].request(m.user, m.key), m.wire
	if err := m.wire.Send(&authorityv1.DeviceMessage{Message: &authorityv1.DeviceMessage_PushBegin{PushBegin: b}}); err != nil {
		return nil // the stream had ended: nothing was begun
	}
	gone, refused := false, ""
	err := m.until(ctx, func(x *authorityv1.AuthorityMessage) bool {
		if s := x.GetPushStarted(); s != nil && s.GetId() == b.GetId() {
			refused = s.GetRefused()
			return true
		}
		gone = m.wire != asked // it was asked on another stream, which may have ended before its Welcome
		return gone
	})
	if err != nil {
		return fmt.Errorf("after PushBegin: %w", err)
	}
	if refused != "" || gone {
		return nil
	}
	w := m.nodes[rand.IntN(len(m.nodes))]
	answer := make(chan error, 1)
	go func() {
		time.Sleep(time.Duration(rand.IntN(2000)) * time.Microsecond) // anywhere in what the device does
		var by store.Approver
		err := w.store.View(ctx, func(tx store.Tx) (err error) { by, err = tx.ApproverByCredential(m.key.ID); return err })
		if err == nil {
			err = w.push.Answer(ctx, by, b.GetId(), m.key.Answer(b.GetChallenge(), factor.Approve, "42"))
		}
		answer <- err
	}()
	for range rand.IntN(3) {
		if err := m.connect(context.Background()); err != nil {
			return err
		}
	}
	if err := <-answer; err != nil {
		if errors.Is(err, store.ErrNotFound) {
			return nil // it was not begun, as the stream ended
		}
		return fmt.Errorf("the answer: %w", err)
	}
	// An answer that only comes to who connects again was lost.
	late := time.AfterFunc(patience/2, m.stop)
	defer late.Stop()
	if err := m.until(ctx, func(x *authorityv1.AuthorityMessage) bool { return x.GetPushAnswer().GetId() == b.GetId() }); err != nil {
		return fmt.Errorf("after an answer was taken: %w", err)
	}
	if !late.Stop() {
		return errors.New("an answer that was taken did not come by itself")
	}
	_ = m.wire.Send(&authorityv1.DeviceMessage{Message: &authorityv1.DeviceMessage_PushEnd{PushEnd: &authorityv1.PushEnd{Id: b.GetId(), Outcome: "approved"}}})
	return nil
}

// TestNoAnswerIsLost while computers come and go and move between nodes.
func TestNoAnswerIsLost(t *testing.T) {
	const computers, logins = 24, 12
	storetest.Each(t, func(t *testing.T, open func(string) store.Store) {
		keys, c := makeKeys(t), new(clockwork)
		nodes := []*world{newNode(t, open("a"), keys, c)}
		if nodes[0].store.Kind() == "postgresql" {
			nodes = append(nodes, newNode(t, open("b"), keys, c))
		}
		for _, n := range nodes {
			n.push.Limits = factor.Limits{}
			n.link.rates = ratesOf(1000)
		}
		w := nodes[0]
		var group errgroup.Group
		for i := range computers {
			user := fmt.Sprint("user", i)
			w.users(user)
			m := &mover{nodes: nodes, user: user, key: w.phone(user)}
			d := w.join(enrol.Everyone)
			m.devices = append(m.devices, d)
			if len(nodes) > 1 {
				m.devices = append(m.devices, d.on(nodes[1]))
			}
			group.Go(func() error {
				for range logins {
					if err := m.login(); err != nil {
						return err
					}
				}
				m.stop()
				return nil
			})
		}
		if err := group.Wait(); err != nil {
			t.Error(err)
		}
	})
}

// TestAPushThatFindsNoPlaceAtTheDatabaseIsAnswered: the computer asks for a code
// then, and is not left to wait.
func TestAPushThatFindsNoPlaceAtTheDatabaseIsAnswered(t *testing.T) {
	w := one(t)
	w.link.requestTime = patience / 4 // the node's first look at all streams may come late, and finds no place either
	w.users("maya")
	k := w.phone("maya")
	s := w.join("maya").open()
	s.synced("settings", "")
	for range cap(w.link.database) {
		w.link.database <- struct{}{}
	}
	w.link.beginTime = time.Millisecond
	b := s.request("maya", k)
	s.begin(b)
	if got := s.started(); got.GetId() != b.GetId() || got.GetRefused() != "authority_database_unavailable" {
		t.Errorf("%v", got)
	}
	for range cap(w.link.database) {
		<-w.link.database
	}
	w.link.beginTime = patience
	s.begins("maya", k)
}

// TestAComputerThatCameBackIsNotSentAwayByALateNotice: it was elsewhere meanwhile.
func TestAComputerThatCameBackIsNotSentAwayByALateNotice(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		d := w.join(enrol.Everyone)
		s := d.open()
		s.synced("settings", "")
		w.link.notice(store.Notice{Topic: store.TopicReplaced, Device: d.id})
		s.alive()
		st := w.link.stream(d.id)
		w.eventually("the stream has asked the database", func() bool {
			st.mu.Lock()
			defer st.mu.Unlock()
			return !st.working && st.needs == 0
		})
		s.alive()
	})
}
