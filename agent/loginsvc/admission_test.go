package loginsvc

import (
	"testing"
	"time"

	"sallyport/internal/config"
	"sallyport/internal/identity"
	"sallyport/internal/localsock"
)

// somebody has no account here: the test does not run as them.
const somebody uint32 = 4_000_000_000

var limits = config.Default().Limits

func TestWhoeverHoldsPromptsKeepsNobodyElseOut(t *testing.T) {
	var a admission
	root := localsock.Peer{ID: identity.Root}
	enter := func(key string) bool {
		if _, ok := a.enter(root, limits, 0); !ok {
			t.Fatal("root was not let in")
		}
		_, ok := a.enterAccount(key)
		return ok
	}
	for range perAccount {
		if !enter("uid:1000") {
			t.Fatal("fewer than perAccount")
		}
	}
	if enter("uid:1000") {
		t.Error("more than perAccount")
	}
	if !enter("uid:1001") || !enter("") {
		t.Error("another account, or an unknown name, was kept out")
	}
}

func TestRootTakesAtLeast64AtOnce(t *testing.T) {
	if perAccount < 64 || rootLogins < 64 {
		t.Errorf("%d for one account, %d in all", perAccount, rootLogins)
	}
}

func TestOthersAreBoundedByUserAndInTotal(t *testing.T) {
	var a admission
	stranger := func(n int) localsock.Peer { return localsock.Peer{ID: identity.UID(somebody + uint32(n))} }
	var leave []func()
	for range limits.LoginsPerUID {
		l, ok := a.enter(stranger(0), limits, 0)
		if !ok {
			t.Fatal("fewer than logins_per_uid")
		}
		leave = append(leave, l)
	}
	if _, ok := a.enter(stranger(0), limits, 0); ok {
		t.Error("more than logins_per_uid")
	}
	in := limits.LoginsPerUID
	for n := 1; in < limits.LoginsTotal; n++ {
		for range limits.LoginsPerUID {
			if _, ok := a.enter(stranger(n), limits, 0); ok {
				in++
			}
		}
	}
	if _, ok := a.enter(stranger(1000), limits, 0); ok {
		t.Error("more than logins_total")
	}
	if _, ok := a.enter(localsock.Peer{ID: identity.Root}, limits, 0); !ok {
		t.Error("the total of the others kept root out")
	}
	for _, l := range leave {
		l()
	}
	if _, ok := a.enter(stranger(1000), limits, 0); !ok {
		t.Error("who left still counts")
	}
	if a.Open() != in-len(leave)+2 {
		t.Errorf("%d open, want %d", a.Open(), in-len(leave)+2)
	}
}

func TestAFloodOfLoginsDoesNotPushOutTheEvents(t *testing.T) {
	var a admission
	uid := somebody
	p := localsock.Peer{ID: identity.UID(uid)}
	try := func(now time.Duration) bool {
		leave, ok := a.enter(p, limits, now)
		if ok {
			leave()
		}
		return ok
	}
	n := 0
	for range 1000 {
		if try(time.Hour) {
			n++
		}
	}
	if n != burst {
		t.Errorf("%d logins at one moment, want %d", n, burst)
	}
	if try(time.Hour+pause-1) || !try(time.Hour+pause) {
		t.Error("not one more every pause")
	}
	for range maxSpent + 10 {
		uid++
		p.ID = identity.UID(uid)
		try(2 * time.Hour)
	}
	if len(a.spent) > maxSpent+10 {
		t.Errorf("%d bursts are remembered", len(a.spent))
	}
}
