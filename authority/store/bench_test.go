//go:build linux

package store_test

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/authority/store"
	"sallyport/authority/store/storetest"
	"sallyport/internal/clock"
	"sallyport/internal/factor/push"
)

// BenchmarkPushLogins measures whole push logins as the authority sees them: a
// challenge is counted, kept and its phone looked up; it is answered and its
// device's node told; it ends. Each of the three is on disk before the next.
func BenchmarkPushLogins(b *testing.B) {
	const people, atOnce = 1000, 128
	for name, open := range map[string]func(b *testing.B) store.Store{
		"sqlite": func(b *testing.B) store.Store {
			return storetest.Open(b, store.Options{SQLite: filepath.Join(b.TempDir(), "authority.db"), Node: "a"})
		},
		"postgresql": func(b *testing.B) store.Store {
			return storetest.Open(b, store.Options{PostgreSQL: storetest.PostgreSQL(b).URL(), Node: "a"})
		},
	} {
		b.Run(name, func(b *testing.B) {
			s := open(b)
			now := time.Now()
			ctx := b.Context()
			for n := range s.Listen(ctx) {
				if n.Topic == store.TopicResync {
					break
				}
			}
			for first := 0; first < people; first += 100 {
				update(b, s, func(tx store.Tx) error {
					for i := first; i < first+100; i++ {
						user, device := fmt.Sprint("user", i), fmt.Sprint("device", i)
						if err := tx.CreateUser(store.User{Name: user, Created: now}); err != nil {
							return err
						}
						if err := tx.PutDevice(store.Device{ID: device, Name: device, Users: []string{user}, Created: now}); err != nil {
							return err
						}
						if err := tx.PutApprover(store.Approver{ID: user, User: user, Approver: push.Approver{CredentialID: []byte(user), PublicKey: make([]byte, 91), Phone: "phone"}}); err != nil {
							return err
						}
						if _, err := tx.Attach(device, now); err != nil {
							return err
						}
						if err := tx.PutPushState(user, device, push.State{}); err != nil {
							return err
						}
					}
					return nil
				})
			}
			var next atomic.Int64
			var wg sync.WaitGroup
			b.ResetTimer()
			for range atOnce {
				wg.Go(func() {
					for {
						n := next.Add(1)
						if n > int64(b.N) {
							return
						}
						if err := pushLogin(ctx, s, fmt.Sprint("user", n%people), fmt.Sprint("device", n%people), now); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "logins/s")
		})
	}
}

// pushLogin is what the authority writes for one login.
func pushLogin(ctx context.Context, s store.Store, user, device string, now time.Time) error {
	limits, instant := push.Limits{Concurrent: 1}, clock.Instant{Wall: now}
	c := store.Challenge{ID: push.NewID(), Device: device, User: user, Resource: "sshd", Bytes: make([]byte, 400),
		CredentialIDs: [][]byte{[]byte(user)}, Created: now, Expires: now.Add(time.Minute)}
	err := s.Change(ctx, func(tx store.Tx) error {
		state, err := tx.PushState(user, device)
		if err != nil {
			return err
		}
		if r := state.Begin(c.ID, c.Resource, instant, limits); r != "" {
			return fmt.Errorf("%s: %s", user, r)
		}
		if len(state.Begun) > 3 { // an hour's
			state.Begun = state.Begun[len(state.Begun)-3:]
		}
		if _, err := tx.Approvers(user); err != nil {
			return err
		}
		if err := tx.PutPushState(user, device, state); err != nil {
			return err
		}
		return tx.CreateChallenge(c)
	})
	if err != nil {
		return err
	}
	answer := push.Answer{Decision: push.Approve, Assertion: push.Assertion{CredentialID: []byte(user), AuthenticatorData: make([]byte, 37),
		ClientData: make([]byte, 150), Signature: make([]byte, 71)}}
	err = s.Change(ctx, func(tx store.Tx) error {
		if err := tx.Answer(c.ID, answer, now); err != nil {
			return err
		}
		return tx.Notify(store.Notice{Topic: store.TopicAnswer, Device: device, ID: c.ID})
	})
	if err != nil {
		return err
	}
	return s.Change(ctx, func(tx store.Tx) error {
		state, err := tx.PushState(user, device)
		if err != nil {
			return err
		}
		state.End(c.ID, push.Approved, instant, limits)
		if err := tx.PutPushState(user, device, state); err != nil {
			return err
		}
		return tx.EndChallenge(c.ID, "approved", now)
	})
}

func update(t testing.TB, s store.Store, fn func(tx store.Tx) error) {
	t.Helper()
	if err := s.Update(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}
