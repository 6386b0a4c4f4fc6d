package link

import (
	"bytes"
	"context"
	"testing"
	"time"

	"sallyport/agent/store"
	"sallyport/internal/factor/offline"
	"sallyport/internal/vault"
	authorityv1 "sallyport/proto/sallyport/authority/v1"
)

// contact is what the vault has of it.
func (c *computer) contact() (k offline.Contact) {
	c.t.Helper()
	if err := c.store.View(func(tx *vault.Tx) (err error) { k, err = store.Contact(tx); return err }); err != nil {
		c.t.Fatal(err)
	}
	return k
}

func (c *computer) since() time.Duration { return c.contact().Since(c.store.Now()) }

func welcome(w *authorityv1.Welcome) *authorityv1.AuthorityMessage {
	return &authorityv1.AuthorityMessage{Message: &authorityv1.AuthorityMessage_Welcome{Welcome: w}}
}

// welcomes has the authority begin each stream so.
func (a *authority) welcomes(w *authorityv1.Welcome) {
	w.Users = []string{"*"}
	a.set(func() { a.welcome = welcome(w) })
}

// escrow is the key that comes next; reports are passed over.
func (d *devStream) escrow() *authorityv1.Escrow {
	d.t.Helper()
	for {
		if e := receive(d.t, d.in, "the key").GetEscrow(); e != nil {
			return e
		}
	}
}

// quiet waits until the connection has nothing more to say: its events are up. What
// was on its way could be heard after the line was cut.
func (c *computer) quiet() {
	c.t.Helper()
	c.eventually("the events are up", func() bool { l := c.events(); return c.link.State().Sent == l[len(l)-1].Seq })
}

func TestContactIsWrittenDown(t *testing.T) {
	c := newComputer(t)
	a := newAuthority(t, c.clock)
	if c.contact().Known() {
		t.Error("before it joined")
	}
	c.join(a)
	joined := c.contact()
	if !joined.Known() || c.since() != 0 {
		t.Errorf("joined: %+v", joined)
	}
	c.clock.advance(5 * 24 * time.Hour)
	if d := c.since(); d != 5*24*time.Hour {
		t.Errorf("five days later: %v", d)
	}
	c.run()
	d := a.stream()
	c.eventually("a contact of its own", func() bool { k := c.contact(); return k.Serial == joined.Serial+1 && c.since() == 0 })
	if !c.link.Online() || !c.link.Reach(t.Context()) {
		t.Error("not online")
	}
	c.clock.advance(10 * time.Minute)
	d.end() // which is heard: until then there was contact
	c.eventually("it is written down again at the end", func() bool { return c.since() == 0 })
	a.stream()
	c.stop()

	if err := c.link.Leave(t.Context(), "uid:0"); err != nil {
		t.Fatal(err)
	}
	if c.contact().Known() {
		t.Error("after it left")
	}
}

// TestAConnectionThatWentDeadUnnoticedIsNoContact: a computer that slept, or whose
// cable was cut, is not online until that is noticed.
func TestAConnectionThatWentDeadUnnoticedIsNoContact(t *testing.T) {
	c := newComputer(t)
	a := newAuthority(t, c.clock)
	p := newProxy(t, a.addr)
	if err := c.link.Join(t.Context(), "uid:0", "https://"+p.addr, a.token().String(), "laptop"); err != nil {
		t.Fatal(err)
	}
	c.run()
	a.stream()
	c.until("connected", func() bool { return c.link.State().Connected })
	c.quiet()
	p.freeze(true)
	c.eventually("not online", func() bool { c.clock.advance(time.Hour); return !c.link.Online() })
	if !c.link.State().Connected {
		t.Fatal("it was noticed")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if c.link.Reach(ctx) {
		t.Error("reached")
	}
	c.stop()
	if d := c.since(); d < time.Hour {
		t.Errorf("there was contact until it was noticed: %v", d)
	}
}

// TestAComputerThatWakesIsOnlineAtOnce where it can be: the connection of before is
// asked, and a dead one replaced.
func TestAComputerThatWakesIsOnlineAtOnce(t *testing.T) {
	c := newComputer(t)
	a := newAuthority(t, c.clock)
	p := newProxy(t, a.addr)
	if err := c.link.Join(t.Context(), "uid:0", "https://"+p.addr, a.token().String(), "laptop"); err != nil {
		t.Fatal(err)
	}
	c.run()
	a.stream()
	c.until("connected", func() bool { return c.link.State().Connected })
	reach := func() bool {
		t.Helper()
		c.eventually("not online", func() bool { c.clock.advance(time.Hour); return !c.link.Online() })
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		return c.link.Reach(ctx)
	}
	c.quiet()
	if !reach() || a.count(&a.connects) != 1 {
		t.Errorf("a connection that lives: connected %d times", a.count(&a.connects))
	}
	c.link.mu.Lock()
	live := c.link.live
	c.link.mu.Unlock()
	c.eventually("all of the answer to the probe", func() bool { return live.heard.Load() == 1 })
	p.freeze(false)
	c.inRealTime()
	if !reach() || a.count(&a.connects) != 2 {
		t.Errorf("one that died: connected %d times", a.count(&a.connects))
	}
}

// TestTheTimeGoesOnWithoutContact, at most an hour at a time, whatever the clock is
// set to before the next start.
func TestTheTimeGoesOnWithoutContact(t *testing.T) {
	c := newComputer(t)
	a := newAuthority(t, c.clock)
	c.join(a)
	a.set(func() { a.refuse = context.DeadlineExceeded })
	var k carrying
	for range 30 * 24 {
		c.clock.advance(time.Hour)
		c.clock.mu.Lock()
		c.clock.now.Wall = epoch // somebody sets it back all the time
		c.clock.mu.Unlock()
		k.contact(t.Context(), c.link)
	}
	c.clock.mu.Lock()
	c.clock.now.Boot, c.clock.now.BootID = time.Minute, "another boot"
	c.clock.mu.Unlock()
	if d := c.since(); d < 29*24*time.Hour {
		t.Errorf("after 30 days: %v", d)
	}
}

// TestAComputerThatJoinedBeforeThereWasACountBeginsOne.
func TestAComputerThatJoinedBeforeThereWasACountBeginsOne(t *testing.T) {
	c := newComputer(t)
	a := newAuthority(t, c.clock)
	c.join(a)
	if err := c.store.Update(t.Context(), func(tx *vault.Tx) error { return tx.Delete(vault.Settings, "contact") }); err != nil {
		t.Fatal(err)
	}
	new(carrying).contact(t.Context(), c.link)
	if !c.contact().Known() {
		t.Error("none was begun")
	}
}

// TestTheKeyOfOfflineBypasses comes with the registration, or when it is asked for,
// and ends with the membership.
func TestTheKeyOfOfflineBypasses(t *testing.T) {
	c := newComputer(t)
	a := newAuthority(t, c.clock)
	var registered []byte
	a.register = func(r *authorityv1.RegisterRequest) (*authorityv1.RegisterResponse, error) {
		registered = r.GetBypassKey()
		return a.goodRegister(r), nil
	}
	c.join(a)
	first := c.authorityKept()
	if len(registered) != offline.KeySize || !bytes.Equal(registered, first.BypassKey) || first.Escrowed {
		t.Fatalf("%d bytes were registered; escrowed %v", len(registered), first.Escrowed)
	}
	a.welcomes(&authorityv1.Welcome{TakesReports: true})
	c.run()
	d := a.stream()
	c.eventually("it knows that the authority has it", func() bool { return c.authorityKept().Escrowed })

	t.Log("an authority that lost it asks, and says when it has it")
	a.welcomes(&authorityv1.Welcome{TakesReports: true, WantsBypassKey: true})
	d.end()
	d = a.stream()
	e := d.escrow()
	if !bytes.Equal(e.GetBypassKey(), registered) {
		t.Error("another key")
	}
	if c.authorityKept().Escrowed {
		t.Error("it is in escrow before the authority says so")
	}
	d.send(welcome(&authorityv1.Welcome{Users: []string{"*"}, TakesReports: true}))
	c.eventually("it is in escrow", func() bool { return c.authorityKept().Escrowed })

	t.Log("an older authority has none, and is sent none")
	a.welcomes(&authorityv1.Welcome{})
	d.end()
	d = a.stream()
	c.eventually("it knows that it has none", func() bool { return !c.authorityKept().Escrowed })
	c.stop()
	for len(d.in) > 0 {
		if m := <-d.in; m.GetEscrow() != nil {
			t.Error("an older authority was sent a key, for which it would cut the stream")
		}
	}

	t.Log("joining again makes another")
	if err := c.link.Leave(t.Context(), "uid:0"); err != nil {
		t.Fatal(err)
	}
	c.join(a)
	if bytes.Equal(c.authorityKept().BypassKey, first.BypassKey) {
		t.Error("the key outlived the membership")
	}
}

// TestWhoJoinedBeforeThereWasAKeyMakesOne, on disk before it is sent.
func TestWhoJoinedBeforeThereWasAKeyMakesOne(t *testing.T) {
	c := newComputer(t)
	a := newAuthority(t, c.clock)
	c.join(a)
	k := c.authorityKept()
	k.BypassKey = nil
	if err := c.store.Update(t.Context(), func(tx *vault.Tx) error { return store.PutAuthority(tx, k) }); err != nil {
		t.Fatal(err)
	}
	a.welcomes(&authorityv1.Welcome{TakesReports: true, WantsBypassKey: true})
	c.run()
	e := a.stream().escrow()
	if kept := c.authorityKept().BypassKey; len(kept) != offline.KeySize || !bytes.Equal(e.GetBypassKey(), kept) {
		t.Error("what was sent is not what was kept")
	}
}

// HAZARD: an authority that was broken into says welcome without end; each would be
// a write to the vault.
func TestWelcomesThatSayNothingNewAreNotWritten(t *testing.T) {
	c := newComputer(t)
	a := newAuthority(t, c.clock)
	c.join(a)
	a.welcomes(&authorityv1.Welcome{TakesReports: true})
	c.run()
	a.stream()
	c.eventually("it knows that the authority has the key", func() bool { return c.authorityKept().Escrowed })
	generation := func() uint64 {
		v, err := c.store.Vault()
		if err != nil {
			t.Fatal(err)
		}
		return v.Info().Generation
	}
	c.link.mu.Lock()
	live := c.link.live
	c.link.mu.Unlock()
	again := func() {
		t.Helper()
		if !live.note(false, &authorityv1.Welcome{TakesReports: true}) {
			t.Fatal("it was not taken")
		}
	}
	again() // behind it the first one's write is over, and counted
	before := generation()
	for range 20 {
		again()
	}
	if n := generation() - before; n != 0 {
		t.Errorf("%d writes", n)
	}
}
