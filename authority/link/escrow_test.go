//go:build linux

package link

import (
	"bytes"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"sallyport/authority/store"
	"sallyport/internal/factor/offline"
	factor "sallyport/internal/factor/push"
	authorityv1 "sallyport/proto/sallyport/authority/v1"
)

var bypassKey = bytes.Repeat([]byte{0x5a, 0x13}, offline.KeySize/2)

func escrowOf(key []byte) *authorityv1.DeviceMessage {
	return &authorityv1.DeviceMessage{Message: &authorityv1.DeviceMessage_Escrow{Escrow: &authorityv1.Escrow{BypassKey: key}}}
}

// escrowed says whether the helpdesk could answer.
func (d *device) escrowed() error {
	_, err := d.enrol.AnswerOffline(d.ctx(), "uid:0", "maya", d.id, offline.NewChallenge(d.id, "maya").String(), time.Hour, "a test")
	return err
}

// afterThem waits until what was sent before is done: requests are done in order,
// and this one is answered.
func (s *session) afterThem() {
	s.Helper()
	id := factor.NewID()
	s.send(&authorityv1.DeviceMessage{Message: &authorityv1.DeviceMessage_EnrolmentBegin{EnrolmentBegin: &authorityv1.EnrolmentBegin{Id: id, User: "nobody",
		Expires: timestamppb.New(s.now().Add(time.Minute))}}})
	if e := wait(s, (*authorityv1.AuthorityMessage).GetEnrolmentStarted); e.GetId() != id || e.GetRefused() == "" {
		s.Errorf("%v", e)
	}
}

// TestAKeyIsAskedForUntilItIsThere, of an agent that joined without one.
func TestAKeyIsAskedForUntilItIsThere(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.users("maya")
		d := w.join("maya") // as an older agent does
		s := d.connect(d.hello())
		if m := s.next().GetWelcome(); !m.GetWantsBypassKey() || !m.GetTakesReports() {
			t.Fatalf("%v", m)
		}
		s.stop()
		s.ends()
		if err := d.escrowed(); err == nil {
			t.Fatal("answered without a key")
		}

		s = d.connect(d.hello())
		s.next()
		s.send(escrowOf(bypassKey))
		if m := wait(s, (*authorityv1.AuthorityMessage).GetWelcome); m.GetWantsBypassKey() || len(m.GetUsers()) != 1 {
			t.Fatalf("it does not say that it has the key: %v", m)
		}
		w.must(d.escrowed())
		// Once on a stream: each would be an event.
		for range 10 {
			s.send(escrowOf(bytes.Repeat([]byte{1}, offline.KeySize)))
		}
		s.afterThem()
		s.stop()
		s.ends()
		if n := w.events("bypass_key_escrowed"); n != 1 {
			t.Errorf("%d events", n)
		}

		s = d.connect(d.hello())
		if m := s.next().GetWelcome(); m.GetWantsBypassKey() {
			t.Error("it is asked for again")
		}
	})
}

func TestAKeyComesWithTheRegistration(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.users("maya")
		client, conn := w.dial(nil)
		defer conn.Close()
		for _, odd := range [][]byte{bypassKey[1:], append(bypassKey[:32:32], 1), bytes.Repeat([]byte{1}, 4000)} {
			r := w.registration(w.token([]string{"maya"}, ""), newKey(w))
			r.BypassKey = odd
			if _, err := client.Register(w.ctx(), r); status.Code(err) != codes.InvalidArgument {
				t.Errorf("%d bytes: %v", len(odd), err)
			}
		}
		d := &device{world: w, key: newKey(w), vault: "vault-1", generation: 1}
		r := w.registration(w.token([]string{"maya"}, ""), d.key)
		r.BypassKey = bypassKey
		joined, err := client.Register(w.ctx(), r)
		w.must(err)
		d.id, d.chain = joined.GetDeviceId(), joined.GetChain()
		d.redial()
		s := d.connect(d.hello())
		if m := s.next().GetWelcome(); m.GetWantsBypassKey() {
			t.Error("it is asked for though it came")
		}
		w.must(d.escrowed())
		// HAZARD: a copy of the certificate replaces the key, and no answer is right any more.
		s.send(escrowOf(bytes.Repeat([]byte{1}, offline.KeySize)))
		s.afterThem()
		c := offline.NewChallenge(d.id, "maya")
		got, err := d.enrol.AnswerOffline(d.ctx(), "uid:0", "maya", d.id, c.String(), time.Hour, "a test")
		w.must(err)
		if right, err := offline.Answer(bypassKey, d.id, "maya", c, time.Hour); err != nil || got.Reveal() != right.Reveal() {
			t.Error("a key that was not asked for replaced the first")
		}
	})
}

// TestAMalformedKeyIsNotKept, and the stream goes on.
func TestAMalformedKeyIsNotKept(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.users("maya")
		d := w.join("maya")
		s := d.connect(d.hello())
		s.next()
		s.send(escrowOf([]byte("short")))
		s.afterThem()
		if err := d.escrowed(); err == nil {
			t.Error("kept")
		}
		w.update(func(tx store.Tx) error {
			if _, err := tx.Escrow(d.id); err == nil {
				t.Error("kept")
			}
			return nil
		})
	})
}
