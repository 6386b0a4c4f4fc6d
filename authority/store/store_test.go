//go:build linux

package store_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/authority/store"
	"sallyport/authority/store/storetest"
	"sallyport/internal/clock"
	"sallyport/internal/factor/push"
	"sallyport/internal/organisation"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 123456789, time.UTC)

func view(t testing.TB, s store.Store, fn func(tx store.Tx) error) {
	t.Helper()
	if err := s.View(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

// get is one value, read in a snapshot.
func get[T any](t testing.TB, s store.Store, fn func(tx store.Tx) (T, error)) T {
	t.Helper()
	var v T
	view(t, s, func(tx store.Tx) (err error) { v, err = fn(tx); return err })
	return v
}

// want is the error of one Update.
func want(t testing.TB, s store.Store, target error, fn func(tx store.Tx) error) {
	t.Helper()
	if err := s.Update(t.Context(), fn); !errors.Is(err, target) {
		t.Errorf("%v, want %v", err, target)
	}
}

func same(t testing.TB, what string, got, wanted any) {
	t.Helper()
	if !reflect.DeepEqual(got, wanted) {
		t.Errorf("%s:\n%+v, want\n%+v", what, got, wanted)
	}
}

func device(id string, users ...string) store.Device {
	return store.Device{ID: id, Name: "name of " + id, Users: users, Created: noon}
}

func approver(id, user string) store.Approver {
	return store.Approver{ID: id, User: user, Approver: push.Approver{CredentialID: []byte("credential of " + id), PublicKey: []byte("key"), Phone: "phone"}, Created: noon}
}

func challenge(id, device, user string, at time.Time) store.Challenge {
	return store.Challenge{ID: id, Device: device, User: user, Resource: "sshd", Bytes: []byte(`{"type":"x"}`), CredentialIDs: [][]byte{{1}, {2, 3}},
		Created: at, Expires: at.Add(time.Minute)}
}

var approve = push.Answer{Decision: push.Approve, Assertion: push.Assertion{CredentialID: []byte{1}, AuthenticatorData: []byte{2}, ClientData: []byte(`{}`), Signature: []byte{0xff, 0}}}

// atOnce runs fn n times at the same instant, and returns how often it returned
// nil and how often refused; any other error fails the test.
func atOnce(t *testing.T, n int, refused error, fn func(i int) error) (passed int) {
	t.Helper()
	var wg sync.WaitGroup
	var ok, no atomic.Int64
	gate := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-gate
			switch err := fn(i); {
			case err == nil:
				ok.Add(1)
			case errors.Is(err, refused):
				no.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	close(gate)
	wg.Wait()
	if int(ok.Load()+no.Load()) != n {
		t.Errorf("%d passed and %d were refused of %d", ok.Load(), no.Load(), n)
	}
	return int(ok.Load())
}

func TestEverythingComesBackAsItWas(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func(string) store.Store) {
		a := open("a")
		later := noon.Add(time.Hour)
		d := store.Device{ID: "d1", Name: "Maya's laptop ü:%/\n", Serial: "S", Platform: "linux/amd64", Version: "1", SealingKey: []byte{0, 1}, Users: []string{"maya", `corp\maya`},
			KeyHash: []byte{9}, Expires: later, Created: noon, Seen: noon, Revoked: later, Why: "lost", VaultID: "v", Generation: 1<<63 - 1}
		ap := store.Approver{ID: "a1", User: "maya", Device: "d1", Pending: true, Counter: 1<<32 - 1, Created: noon,
			Approver: push.Approver{CredentialID: []byte{0}, PublicKey: []byte{1}, Phone: "📱", Synced: true}}
		se := store.Session{Hash: []byte{7}, Approver: "a1", Subscription: []byte(`{"endpoint":"https://x"}`), Created: noon, Seen: later}
		to := store.Token{Hash: []byte{5}, Users: []string{"*"}, Serial: "S", Created: noon, Expires: later, By: "uid:0"}
		ch := challenge("c1", "d1", "maya", noon)
		en := store.Enrolment{ID: "e1", User: "maya", Device: "d1", Secret: []byte("secret"), Created: noon, Expires: later}
		it := store.Item{Kind: organisation.KindApprovers, User: "maya", Version: 1<<63 - 1, Envelope: []byte("{}")}
		st := push.State{Misses: 2, Reported: true, Counters: map[string]uint32{"x": 1}, Begun: []push.Request{{ID: "c1", Resource: "sshd"}}}
		update(t, a, func(tx store.Tx) error {
			return errors.Join(tx.PutSetting("k", []byte{0, 255}), tx.PutSetting("empty", nil), tx.CreateToken(to), tx.PutDevice(d), tx.CreateUser(store.User{Name: "maya", Created: noon}),
				tx.PutApprover(ap), tx.PutSession(se), tx.CreateChallenge(ch), tx.PutPushState("maya", "d1", st), tx.CreateEnrolment(en), tx.PutItem(it))
		})
		b := open("b")
		for _, s := range []store.Store{a, b} {
			view(t, s, func(tx store.Tx) error {
				check := func(what string, wanted any) func(got any, err error) {
					return func(got any, err error) {
						t.Helper()
						if err != nil {
							t.Errorf("%s: %v", what, err)
						}
						same(t, what, got, wanted)
					}
				}
				ask := func(got any, err error) func() (any, error) { return func() (any, error) { return got, err } }
				for _, c := range []struct {
					what   string
					get    func() (any, error)
					wanted any
				}{
					{"setting", ask(tx.Setting("k")), []byte{0, 255}},
					{"empty setting", ask(tx.Setting("empty")), []byte(nil)},
					{"tokens", ask(tx.Tokens()), []store.Token{to}},
					{"device", ask(tx.Device("d1")), d},
					{"devices", ask(tx.Devices("")), []store.Device{d}},
					{"devices of a user", ask(tx.Devices(`corp\maya`)), []store.Device{d}},
					{"devices of another", ask(tx.Devices("mayo")), []store.Device(nil)},
					{"user", ask(tx.User("maya")), store.User{Name: "maya", Created: noon}},
					{"users", ask(tx.Users()), []store.User{{Name: "maya", Created: noon}}},
					{"approver", ask(tx.Approver("a1")), ap},
					{"by credential", ask(tx.ApproverByCredential([]byte{0})), ap},
					{"approvers", ask(tx.Approvers("")), []store.Approver{ap}},
					{"approvers of a user", ask(tx.Approvers("maya")), []store.Approver{ap}},
					{"session", ask(tx.Session([]byte{7})), se},
					{"sessions", ask(tx.Sessions("a1")), []store.Session{se}},
					{"challenge", ask(tx.Challenge("c1")), ch},
					{"push state", ask(tx.PushState("maya", "d1")), st},
					{"no push state", ask(tx.PushState("maya", "d2")), push.State{}},
					{"enrolment", ask(tx.Enrolment("e1")), en},
					{"item", ask(tx.Item(organisation.KindApprovers, "", "maya")), it},
				} {
					check(c.what, c.wanted)(c.get())
				}
				for what, err := range map[string]error{
					"setting": second(tx.Setting("x")), "device": second(tx.Device("x")), "user": second(tx.User("x")), "approver": second(tx.Approver("x")),
					"credential": second(tx.ApproverByCredential(nil)), "session": second(tx.Session([]byte{8})), "challenge": second(tx.Challenge("x")),
					"enrolment": second(tx.Enrolment("x")), "item": second(tx.Item(organisation.KindPolicy, "", "maya")),
				} {
					if err != store.ErrNotFound {
						t.Errorf("no such %s: %v", what, err)
					}
				}
				return nil
			})
		}
		// Replaced, not added to.
		d.Users, d.Name, ap.Pending, se.Subscription = []string{"noor"}, "new", false, nil
		update(t, b, func(tx store.Tx) error {
			return errors.Join(tx.PutSetting("k", []byte("2")), tx.PutDevice(d), tx.PutApprover(ap), tx.PutSession(se), tx.PutPushState("maya", "d1", push.State{}))
		})
		view(t, a, func(tx store.Tx) error {
			k, _ := tx.Setting("k")
			same(t, "setting", string(k), "2")
			l, _ := tx.Devices("maya")
			same(t, "devices of who was allowed", l, []store.Device(nil))
			l, _ = tx.Devices("noor")
			same(t, "devices of who is", l, []store.Device{d})
			g, _ := tx.Approver("a1")
			same(t, "approver", g, ap)
			e, _ := tx.Session([]byte{7})
			same(t, "session", e, se)
			st, _ := tx.PushState("maya", "d1")
			same(t, "push state", st, push.State{})
			return nil
		})
		if a.Node() != "a" || b.Node() != "b" || a.Kind() != b.Kind() || !slices.Contains([]string{"sqlite", "postgresql"}, a.Kind()) {
			t.Errorf("%s %s, %s %s", a.Node(), a.Kind(), b.Node(), b.Kind())
		}
		if err := a.Ping(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func second[T any](_ T, err error) error { return err }

// TestEnrolmentTokenReuse: a token buys one certificate, whoever comes at the
// same time, on whichever node.
func TestEnrolmentTokenReuse(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func(string) store.Store) {
		nodes := []store.Store{open("a"), open("b")}
		update(t, nodes[0], func(tx store.Tx) error {
			return errors.Join(tx.CreateToken(store.Token{Hash: []byte{1}, Users: []string{"maya"}, Created: noon, Expires: noon.Add(time.Hour)}),
				tx.CreateToken(store.Token{Hash: []byte{2}, Created: noon, Expires: noon.Add(time.Hour)}))
		})
		want(t, nodes[0], store.ErrExists, func(tx store.Tx) error { return tx.CreateToken(store.Token{Hash: []byte{1}}) })
		var winner atomic.Value
		n := atOnce(t, 32, store.ErrUsed, func(i int) error {
			return nodes[i%2].Update(t.Context(), func(tx store.Tx) error {
				k, err := tx.UseToken([]byte{1}, fmt.Sprint("d", i), noon)
				if err == nil {
					winner.Store(k)
				}
				return err
			})
		})
		if n != 1 {
			t.Errorf("%d used the token", n)
		}
		kept := get(t, nodes[1], store.Tx.Tokens)[0]
		same(t, "the token", kept, winner.Load())
		if kept.Device == "" || !kept.Used.Equal(noon) || kept.Users[0] != "maya" {
			t.Errorf("%+v", kept)
		}
		use := func(hash byte, at time.Time) func(store.Tx) error {
			return func(tx store.Tx) error { return second(tx.UseToken([]byte{hash}, "d", at)) }
		}
		want(t, nodes[0], store.ErrUsed, use(2, noon.Add(time.Hour))) // expired to the instant
		want(t, nodes[0], store.ErrNotFound, use(3, noon))
		want(t, nodes[0], nil, use(2, noon.Add(time.Hour-1)))
	})
}

// TestPushBombing: of 32 logins that ask for the same person on the same
// computer at once, one rings the phone.
func TestPushBombing(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func(string) store.Store) {
		nodes := []store.Store{open("a"), open("b")}
		errTooMany := errors.New("too many")
		limits := push.Limits{Concurrent: 1, Gap: time.Minute}
		instant := clock.Instant{Wall: noon}
		round := func() int {
			return atOnce(t, 32, errTooMany, func(i int) error {
				return nodes[i%2].Update(t.Context(), func(tx store.Tx) error {
					s, err := tx.PushState("maya", "d")
					if err != nil {
						return err
					}
					id := fmt.Sprint("c", i)
					if r := s.Begin(id, "sshd", instant, limits); r != "" {
						return fmt.Errorf("%w: %s", errTooMany, r)
					}
					return tx.PutPushState("maya", "d", s)
				})
			})
		}
		if n := round(); n != 1 {
			t.Errorf("%d of 32 began when there was no state", n)
		}
		update(t, nodes[0], func(tx store.Tx) error { return tx.PutPushState("maya", "d", push.State{Misses: 1}) })
		if n := round(); n != 1 {
			t.Errorf("%d of 32 began when there was one", n)
		}
		if s := get(t, nodes[0], func(tx store.Tx) (push.State, error) { return tx.PushState("maya", "d") }); len(s.Begun) != 1 || s.Misses != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// TestSecondAnswerIsRefused: a challenge is answered once, in time.
func TestSecondAnswerIsRefused(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func(string) store.Store) {
		nodes := []store.Store{open("a"), open("b")}
		s := nodes[0]
		update(t, s, func(tx store.Tx) error {
			return errors.Join(tx.CreateChallenge(challenge("c1", "d", "maya", noon)), tx.CreateChallenge(challenge("c2", "d", "maya", noon)), tx.CreateChallenge(challenge("c3", "d", "maya", noon)))
		})
		want(t, s, store.ErrExists, func(tx store.Tx) error { return tx.CreateChallenge(challenge("c1", "other", "noor", noon)) })
		n := atOnce(t, 32, store.ErrUsed, func(i int) error {
			return nodes[i%2].Update(t.Context(), func(tx store.Tx) error {
				a := approve
				a.Signature = []byte{byte(i)}
				return tx.Answer("c1", a, noon.Add(time.Second))
			})
		})
		if n != 1 {
			t.Errorf("%d answers were taken", n)
		}
		c := get(t, s, func(tx store.Tx) (store.Challenge, error) { return tx.Challenge("c1") })
		if c.Answer == nil || c.Answer.Decision != push.Approve || len(c.Answer.Signature) != 1 || !c.Answered.Equal(noon.Add(time.Second)) || c.Device != "d" {
			t.Errorf("%+v", c)
		}
		answer := func(id string, at time.Time) func(store.Tx) error {
			return func(tx store.Tx) error { return tx.Answer(id, approve, at) }
		}
		want(t, s, store.ErrUsed, answer("c2", noon.Add(time.Minute))) // expired to the instant
		want(t, s, store.ErrNotFound, answer("c4", noon))
		update(t, s, func(tx store.Tx) error { return tx.EndChallenge("c3", "code", noon.Add(time.Second)) })
		want(t, s, store.ErrUsed, answer("c3", noon.Add(2*time.Second)))
	})
}

func TestChallengesFromOpenToLast(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func(string) store.Store) {
		s := open("a")
		at := func(seconds int) time.Time { return noon.Add(time.Duration(seconds) * time.Second) }
		update(t, s, func(tx store.Tx) error {
			return errors.Join(tx.CreateChallenge(challenge("c1", "d1", "maya", at(0))), tx.CreateChallenge(challenge("c2", "d2", "maya", at(1))),
				tx.CreateChallenge(challenge("c3", "d1", "maya", at(2))), tx.CreateChallenge(challenge("c4", "d1", "noor", at(3))))
		})
		ids := func(list []store.Challenge, err error) string {
			t.Helper()
			if err != nil {
				t.Error(err)
			}
			var b []string
			for _, c := range list {
				b = append(b, c.ID)
			}
			return strings.Join(b, " ")
		}
		lists := func(when time.Time, openOnes, last, undelivered string) {
			t.Helper()
			view(t, s, func(tx store.Tx) error {
				same(t, "open", ids(tx.OpenChallenges("maya", when)), openOnes)
				same(t, "last", ids(tx.LastChallenges("maya", 2, when)), last)
				same(t, "undelivered", ids(tx.Undelivered("d1", when)), undelivered)
				return nil
			})
		}
		lists(at(4), "c3 c2 c1", "", "")
		update(t, s, func(tx store.Tx) error { return tx.Answer("c1", approve, at(4)) })
		lists(at(5), "c3 c2", "", "c1")
		update(t, s, func(tx store.Tx) error { return tx.EndChallenge("c1", "approved", at(5)) })
		lists(at(6), "c3 c2", "c1", "")
		update(t, s, func(tx store.Tx) error { return tx.EndChallenge("c3", "code", at(6)) })
		// The first outcome stays.
		update(t, s, func(tx store.Tx) error { return tx.EndChallenge("c3", "approved", at(7)) })
		lists(at(6), "c2", "c3 c1", "")
		lists(at(61), "", "c3 c2", "")
		c := get(t, s, func(tx store.Tx) (store.Challenge, error) { return tx.Challenge("c3") })
		if c.Outcome != "code" || !c.Ended.Equal(at(6)) {
			t.Errorf("%+v", c)
		}
		want(t, s, store.ErrNotFound, func(tx store.Tx) error { return tx.EndChallenge("c5", "code", noon) })
	})
}

func TestEnrolmentTakesOneKey(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func(string) store.Store) {
		s := open("a")
		for _, id := range []string{"e1", "e2", "e3"} {
			update(t, s, func(tx store.Tx) error {
				return tx.CreateEnrolment(store.Enrolment{ID: id, User: "maya", Device: "d", Secret: []byte("secret"), Created: noon, Expires: noon.Add(time.Minute)})
			})
		}
		want(t, s, store.ErrExists, func(tx store.Tx) error { return tx.CreateEnrolment(store.Enrolment{ID: "e1", User: "mallory"}) })
		n := atOnce(t, 8, store.ErrUsed, func(i int) error {
			return s.Update(t.Context(), func(tx store.Tx) error {
				return tx.PostKey("e1", push.Registration{CredentialID: []byte{byte(i)}, Phone: "p"}, []byte("mac"), []byte("session"), noon)
			})
		})
		if n != 1 {
			t.Errorf("%d keys were taken", n)
		}
		openOnes := func(when time.Time) []store.Enrolment {
			return get(t, s, func(tx store.Tx) ([]store.Enrolment, error) { return tx.OpenEnrolments("d", when) })
		}
		list := openOnes(noon)
		if len(list) != 1 || list[0].ID != "e1" || list[0].Registration.Phone != "p" || string(list[0].MAC) != "mac" || string(list[0].Session) != "session" {
			t.Errorf("%+v", list)
		}
		if l := openOnes(noon.Add(time.Minute)); len(l) != 0 {
			t.Errorf("expired: %+v", l)
		}
		post := func(id string, at time.Time) func(store.Tx) error {
			return func(tx store.Tx) error { return tx.PostKey(id, push.Registration{}, nil, nil, at) }
		}
		want(t, s, store.ErrUsed, post("e2", noon.Add(time.Minute)))
		want(t, s, store.ErrNotFound, post("e4", noon))
		end := func(id string) func(store.Tx) error {
			return func(tx store.Tx) error { return tx.EndEnrolment(id, true, "") }
		}
		want(t, s, nil, end("e1"))
		want(t, s, store.ErrUsed, end("e1"))
		want(t, s, store.ErrNotFound, end("e4"))
		want(t, s, nil, func(tx store.Tx) error { return tx.EndEnrolment("e3", false, "no") })
		want(t, s, store.ErrUsed, post("e3", noon))
		if l := openOnes(noon); len(l) != 0 {
			t.Errorf("ended: %+v", l)
		}
		view(t, s, func(tx store.Tx) error {
			e1, _ := tx.Enrolment("e1")
			e3, _ := tx.Enrolment("e3")
			if !e1.Done || !e1.Accepted || !e3.Done || e3.Accepted || e3.Reason != "no" {
				t.Errorf("%+v %+v", e1, e3)
			}
			if len(e1.Secret) != 0 || len(e3.Secret) != 0 {
				t.Error("the secret of an enrolment outlives it")
			}
			return nil
		})
	})
}

// TestRemovedUserIsGoneEverywhere: neither a phone that is just enrolling nor a
// challenge that is open lets a removed person in.
func TestRemovedUserIsGoneEverywhere(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func(string) store.Store) {
		s := open("a")
		update(t, s, func(tx store.Tx) error {
			return errors.Join(tx.CreateUser(store.User{Name: "maya"}), tx.CreateUser(store.User{Name: "noor"}),
				tx.PutApprover(approver("a1", "maya")), tx.PutApprover(approver("a2", "noor")),
				tx.PutSession(store.Session{Hash: []byte{1}, Approver: "a1"}), tx.PutSession(store.Session{Hash: []byte{2}, Approver: "a2"}),
				tx.CreateChallenge(challenge("c1", "d", "maya", noon)), tx.CreateChallenge(challenge("c2", "d", "maya", noon)), tx.CreateChallenge(challenge("c3", "d", "noor", noon)),
				tx.EndChallenge("c2", "approved", noon),
				tx.CreateEnrolment(store.Enrolment{ID: "e1", User: "maya", Expires: noon.Add(time.Hour)}),
				tx.PutPushState("maya", "d", push.State{Reported: true}))
		})
		want(t, s, store.ErrExists, func(tx store.Tx) error { return tx.CreateUser(store.User{Name: "maya"}) })
		update(t, s, func(tx store.Tx) error { return tx.RemoveUser("maya") })
		want(t, s, store.ErrNotFound, func(tx store.Tx) error { return tx.RemoveUser("maya") })
		view(t, s, func(tx store.Tx) error {
			for what, err := range map[string]error{"user": second(tx.User("maya")), "approver": second(tx.Approver("a1")), "session": second(tx.Session([]byte{1})),
				"challenge": second(tx.Challenge("c1")), "enrolment": second(tx.Enrolment("e1"))} {
				if err != store.ErrNotFound {
					t.Errorf("the removed user's %s: %v", what, err)
				}
			}
			for what, err := range map[string]error{"user": second(tx.User("noor")), "approver": second(tx.Approver("a2")), "session": second(tx.Session([]byte{2})),
				"challenge": second(tx.Challenge("c3")), "own ended challenge": second(tx.Challenge("c2"))} {
				if err != nil {
					t.Errorf("%s: %v", what, err)
				}
			}
			if st, err := tx.PushState("maya", "d"); err != nil || !st.Reported {
				t.Errorf("whoever is made anew is not locked any more: %+v %v", st, err)
			}
			return nil
		})
		update(t, s, func(tx store.Tx) error { return errors.Join(tx.RemoveSession([]byte{2}), tx.RemoveApprover("a2")) })
		want(t, s, store.ErrNotFound, func(tx store.Tx) error { return tx.RemoveApprover("a2") })
		want(t, s, store.ErrNotFound, func(tx store.Tx) error { return tx.RemoveSession([]byte{2}) })
		want(t, s, store.ErrNotFound, func(tx store.Tx) error { return tx.PutSession(store.Session{Hash: []byte{3}, Approver: "a2"}) })
	})
}

// TestOnePasskeyIsOneApprover: a phone that is given out under another's
// credential takes nothing over.
func TestOnePasskeyIsOneApprover(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func(string) store.Store) {
		s := open("a")
		update(t, s, func(tx store.Tx) error { return tx.PutApprover(approver("a1", "maya")) })
		stolen := approver("a2", "mallory")
		stolen.CredentialID = approver("a1", "").CredentialID
		want(t, s, store.ErrExists, func(tx store.Tx) error { return tx.PutApprover(stolen) })
		a := get(t, s, func(tx store.Tx) (store.Approver, error) { return tx.ApproverByCredential(stolen.CredentialID) })
		same(t, "the approver", a, approver("a1", "maya"))
	})
}

func TestAPhoneHasSoManySessions(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func(string) store.Store) {
		s := open("a")
		update(t, s, func(tx store.Tx) error { return tx.PutApprover(approver("a1", "maya")) })
		for i := range store.MaxSessions + 1 {
			update(t, s, func(tx store.Tx) error {
				return tx.PutSession(store.Session{Hash: []byte{byte(i)}, Approver: "a1", Created: noon, Seen: noon.Add(time.Duration(100-i) * time.Second)})
			})
		}
		list := get(t, s, func(tx store.Tx) ([]store.Session, error) { return tx.Sessions("a1") })
		if len(list) != store.MaxSessions {
			t.Errorf("%d sessions", len(list))
		}
		// The newest stays, though it was seen before all others; of those the last.
		view(t, s, func(tx store.Tx) error {
			if second(tx.Session([]byte{store.MaxSessions})) != nil || second(tx.Session([]byte{0})) != nil || second(tx.Session([]byte{store.MaxSessions - 1})) != store.ErrNotFound {
				t.Errorf("%+v", list)
			}
			return nil
		})
	})
}

// TestOlderManifestIsRefused: a version only rises.
func TestOlderManifestIsRefused(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func(string) store.Store) {
		s := open("a")
		item := func(kind organisation.Kind, device, user string, version uint64) store.Item {
			return store.Item{Kind: kind, Device: device, User: user, Version: version, Envelope: fmt.Appendf(nil, "%s/%s/%s/%d", kind, device, user, version)}
		}
		put := func(i store.Item) func(store.Tx) error {
			return func(tx store.Tx) error { return tx.PutItem(i) }
		}
		update(t, s, func(tx store.Tx) error {
			return errors.Join(tx.PutDevice(device("d1", "maya")), tx.PutDevice(device("d2", "*")), tx.PutDevice(device("d3")))
		})
		a := organisation.KindApprovers
		want(t, s, nil, put(item(a, "", "maya", 2)))
		want(t, s, store.ErrExists, put(item(a, "", "maya", 2)))
		want(t, s, store.ErrExists, put(item(a, "", "maya", 1)))
		want(t, s, nil, put(item(a, "", "maya", 3)))
		want(t, s, nil, put(item(a, "", "noor", 1)))
		want(t, s, nil, put(item(organisation.KindSettings, "", "", 1)))
		want(t, s, nil, put(item(organisation.KindTOTP, "d1", "maya", 1)))
		want(t, s, nil, put(item(organisation.KindTOTP, "d1", "noor", 1))) // addressed to it, allowed or not
		want(t, s, nil, put(item(organisation.KindTOTP, "d2", "maya", 1)))
		all := map[string][]string{
			"d1": {"approvers//maya/3", "settings///1", "totp/d1/maya/1", "totp/d1/noor/1"},
			"d2": {"approvers//maya/3", "approvers//noor/1", "settings///1", "totp/d2/maya/1"},
			"d3": {"settings///1"},
		}
		view(t, s, func(tx store.Tx) error {
			for d, wanted := range all {
				list, err := tx.Items(d)
				if err != nil {
					t.Error(err)
				}
				var got []string
				for _, i := range list {
					got = append(got, string(i.Envelope))
				}
				same(t, "items of "+d, got, wanted)
			}
			if _, err := tx.Items("d4"); err != store.ErrNotFound {
				t.Errorf("items of no device: %v", err)
			}
			return nil
		})
		refused := func(version uint64) string {
			update(t, s, func(tx store.Tx) error { return tx.ItemRefused(a, "", "maya", version, "because") })
			return get(t, s, func(tx store.Tx) (store.Item, error) { return tx.Item(a, "", "maya") }).Refused
		}
		if r := refused(2); r != "" {
			t.Errorf("what was said of an older one: %q", r)
		}
		if r := refused(3); r != "because" {
			t.Errorf("refused: %q", r)
		}
		want(t, s, nil, put(item(a, "", "maya", 4)))
		if i := get(t, s, func(tx store.Tx) (store.Item, error) { return tx.Item(a, "", "maya") }); i.Version != 4 || i.Refused != "" {
			t.Errorf("%+v", i)
		}
		// Of 16 who sign the same version at once one is kept.
		n := atOnce(t, 16, store.ErrExists, func(int) error { return s.Update(t.Context(), put(item(a, "", "maya", 5))) })
		if n != 1 {
			t.Errorf("%d were kept", n)
		}
	})
}

// TestAFailureUndoesOnlyItsOwn: callers share commits, not fates.
func TestAFailureUndoesOnlyItsOwn(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func(string) store.Store) {
		s := open("a")
		errOdd := errors.New("odd")
		n := atOnce(t, 64, errOdd, func(i int) error {
			return s.Update(t.Context(), func(tx store.Tx) error {
				if err := tx.CreateUser(store.User{Name: fmt.Sprintf("user%02d", i)}); err != nil {
					return err
				}
				if i%2 == 1 {
					return errOdd
				}
				return nil
			})
		})
		users := get(t, s, store.Tx.Users)
		if n != 32 || len(users) != 32 {
			t.Errorf("%d succeeded, %d are there", n, len(users))
		}
		for _, u := range users {
			if u.Name[5]%2 == 1 { // the digits' parity is the number's
				t.Errorf("%s is there", u.Name)
			}
		}
	})
}

// TestWhoPanicsChangesNothing: nor does whoever ends its goroutine, and the
// store goes on.
func TestWhoPanicsChangesNothing(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func(string) store.Store) {
		s := open("a")
		for name, leave := range map[string]func(){"panic": func() { panic("at the disco") }, "exit": runtime.Goexit} {
			var wg sync.WaitGroup
			wg.Go(func() {
				defer func() { _ = recover() }()
				_ = s.Update(t.Context(), func(tx store.Tx) error {
					if err := tx.CreateUser(store.User{Name: name}); err != nil {
						t.Error(err)
					}
					leave()
					return nil
				})
				t.Error("it came back")
			})
			wg.Wait()
		}
		update(t, s, func(tx store.Tx) error { return tx.CreateUser(store.User{Name: "after"}) })
		same(t, "users", get(t, s, store.Tx.Users), []store.User{{Name: "after"}})
	})
}

// TestRevocationIsNotLost: a node that notes what a device said does not bring
// back the device as it was before it was revoked elsewhere.
func TestRevocationIsNotLost(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func(string) store.Store) {
		a, b := open("a"), open("b")
		for i := range 10 {
			id := fmt.Sprint("d", i)
			update(t, a, func(tx store.Tx) error { return tx.PutDevice(device(id)) })
			change := func(s store.Store, fn func(*store.Device)) error {
				return s.Update(t.Context(), func(tx store.Tx) error {
					d, err := tx.Device(id)
					if err != nil {
						return err
					}
					fn(&d)
					return tx.PutDevice(d)
				})
			}
			n := atOnce(t, 8, nil, func(i int) error {
				if i == 3 {
					return change(b, func(d *store.Device) { d.Revoked, d.Why = noon, "stolen" })
				}
				return change(a, func(d *store.Device) { d.Generation++ })
			})
			d := get(t, a, func(tx store.Tx) (store.Device, error) { return tx.Device(id) })
			if n != 8 || d.Revoked.IsZero() || d.Generation != 7 {
				t.Errorf("%+v", d)
			}
		}
	})
}

// TestTwoNodesMakeOneKey: whoever finds a setting missing and makes it does not
// replace another's.
func TestTwoNodesMakeOneKey(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func(string) store.Store) {
		nodes := []store.Store{open("a"), open("b")}
		var mu sync.Mutex
		keys := map[string]bool{}
		atOnce(t, 16, nil, func(i int) error {
			var mine string
			err := nodes[i%2].Update(t.Context(), func(tx store.Tx) error {
				v, err := tx.Setting("ca")
				if errors.Is(err, store.ErrNotFound) {
					v = fmt.Append(nil, "key ", i)
					err = tx.PutSetting("ca", v)
				}
				mine = string(v)
				return err
			})
			mu.Lock()
			defer mu.Unlock()
			keys[mine] = true
			return err
		})
		if len(keys) != 1 {
			t.Errorf("%d keys: %v", len(keys), keys)
		}
	})
}

func TestViewIsASnapshotAndChangesNothing(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func(string) store.Store) {
		a, b := open("a"), open("b")
		update(t, a, func(tx store.Tx) error { return tx.CreateUser(store.User{Name: "one"}) })
		view(t, b, func(tx store.Tx) error {
			if l, err := tx.Users(); err != nil || len(l) != 1 {
				t.Errorf("%v %v", l, err)
			}
			update(t, a, func(tx store.Tx) error { return tx.CreateUser(store.User{Name: "two"}) })
			if l, err := tx.Users(); err != nil || len(l) != 1 {
				t.Errorf("it sees what came after it began: %v %v", l, err)
			}
			return nil
		})
		if l := get(t, b, store.Tx.Users); len(l) != 2 {
			t.Errorf("after Update has returned another node sees %v", l)
		}
		err := a.View(t.Context(), func(tx store.Tx) error { return tx.CreateUser(store.User{Name: "three"}) })
		if err == nil || !strings.Contains(err.Error(), "within View") {
			t.Errorf("a write within View: %v", err)
		}
		if err := a.View(t.Context(), func(tx store.Tx) error { return tx.Notify(store.Notice{Topic: store.TopicSync}) }); err == nil {
			t.Error("a notice within View is lost without a word")
		}
		var kept store.Tx
		update(t, a, func(tx store.Tx) error { kept = tx; return nil })
		if _, err := kept.Users(); err == nil {
			t.Error("a Tx works after its transaction")
		}
		boom := errors.New("boom")
		if err := a.View(t.Context(), func(store.Tx) error { return boom }); err != boom {
			t.Errorf("%v", err)
		}
	})
}

// TestHostileNames: what one database takes the other takes, as it is.
func TestHostileNames(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func(string) store.Store) {
		s := open("a")
		for _, name := range []string{"a:b", "a\nb", "a\rb", "%s", "../x", strings.Repeat("x", 300), `'; DROP TABLE users; --`, "$1", "*", "ALICE", "alice", "Ä", "A\u0308", ""} {
			update(t, s, func(tx store.Tx) error {
				return errors.Join(tx.CreateUser(store.User{Name: name}), tx.PutPushState(name, name, push.State{Misses: 1}))
			})
			if u := get(t, s, func(tx store.Tx) (store.User, error) { return tx.User(name) }); u.Name != name {
				t.Errorf("%q came back as %q", name, u.Name)
			}
		}
		if n := len(get(t, s, store.Tx.Users)); n != 14 {
			t.Errorf("%d users", n)
		}
		users := get(t, s, store.Tx.Users)
		if !slices.IsSortedFunc(users, func(a, b store.User) int { return strings.Compare(a.Name, b.Name) }) {
			t.Errorf("not by bytes: %v", users)
		}
		for _, name := range []string{"a\x00b", "\xff", strings.Repeat("x", 2<<20)} {
			want(t, s, store.ErrInvalid, func(tx store.Tx) error { return tx.CreateUser(store.User{Name: name}) })
			if err := s.View(t.Context(), func(tx store.Tx) error { return second(tx.User(name)) }); !errors.Is(err, store.ErrInvalid) {
				t.Errorf("looking up %.10q: %v", name, err)
			}
		}
		want(t, s, store.ErrInvalid, func(tx store.Tx) error { return tx.PutSetting("k", make([]byte, 2<<20)) })
		// An error that the function keeps to itself ends the transaction all the same.
		want(t, s, store.ErrInvalid, func(tx store.Tx) error {
			_ = tx.CreateUser(store.User{Name: "\xff"})
			_ = tx.CreateUser(store.User{Name: "half"})
			return nil
		})
		if err := s.View(t.Context(), func(tx store.Tx) error { return second(tx.User("half")) }); err != store.ErrNotFound {
			t.Errorf("half done: %v", err)
		}
	})
}

func TestWhoGivesUpIsNotRun(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func(string) store.Store) {
		s := open("a")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for _, call := range []func(context.Context, func(store.Tx) error) error{s.Update, s.View} {
			if err := call(ctx, func(store.Tx) error { t.Error("it ran"); return nil }); !errors.Is(err, context.Canceled) {
				t.Errorf("%v", err)
			}
		}
		// In the middle: nothing of it stays.
		ctx, cancel = context.WithCancel(t.Context())
		defer cancel()
		err := s.Update(ctx, func(tx store.Tx) error {
			if err := tx.CreateUser(store.User{Name: "one"}); err != nil {
				return err
			}
			cancel()
			return ctx.Err()
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		if l := get(t, s, store.Tx.Users); len(l) != 0 {
			t.Errorf("%v", l)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		for _, call := range []func(context.Context, func(store.Tx) error) error{s.Update, s.View} {
			if err := call(t.Context(), func(store.Tx) error { return nil }); !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("after Close: %v", err)
			}
		}
	})
}

func TestSweep(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func(string) store.Store) {
		s := open("a")
		old := noon.Add(-time.Hour)
		update(t, s, func(tx store.Tx) error {
			return errors.Join(tx.CreateChallenge(challenge("old", "d", "maya", old)), tx.CreateChallenge(challenge("new", "d", "maya", noon)),
				tx.CreateEnrolment(store.Enrolment{ID: "old", Expires: old}), tx.CreateEnrolment(store.Enrolment{ID: "new", Expires: noon}),
				tx.CreateToken(store.Token{Hash: []byte("old"), Expires: old}), tx.CreateToken(store.Token{Hash: []byte("new"), Expires: noon}),
				tx.PutDevice(device("d")), tx.Notify(store.Notice{Topic: store.TopicSync}))
		})
		update(t, s, func(tx store.Tx) error { return second(tx.Attach("d", noon)) })
		update(t, s, func(tx store.Tx) error { return tx.Sweep(noon) })
		view(t, s, func(tx store.Tx) error {
			if second(tx.Challenge("old")) != store.ErrNotFound || second(tx.Challenge("new")) != nil {
				t.Error("challenges")
			}
			if second(tx.Enrolment("old")) != store.ErrNotFound || second(tx.Enrolment("new")) != nil {
				t.Error("enrolments")
			}
			if l, err := tx.Tokens(); err != nil || len(l) != 1 || string(l[0].Hash) != "new" {
				t.Errorf("tokens: %v %v", l, err)
			}
			if o, err := tx.Online(time.Now()); err != nil || o["d"] != "a" {
				t.Errorf("a living node's stream was swept: %v %v", o, err)
			}
			return nil
		})
	})
}
