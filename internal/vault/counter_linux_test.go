package vault

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"

	"sallyport/internal/keychain"
	"sallyport/internal/keychain/keychaintest"
)

// reboot gives the clock another boot id.
func reboot(o Options) {
	c := o.Clock.(*fakeClock)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now.BootID += "'"
}

// TestWholeDirectoryRolledBackIsNoticedByTheTPM restores everything that is on the
// disk, which no witness on the disk can notice.
func TestWholeDirectoryRolledBackIsNoticedByTheTPM(t *testing.T) {
	o := options(t)
	o.Keychain.Kind = keychain.TPM
	o.Keychain.TPMDevice, _ = keychaintest.SWTPM(t, t.TempDir())
	v := mustOpen(t, o)
	put(t, v, "uid:1000", user{"alice", 1})
	mustClose(t, v)
	var old []string
	for step := int64(2); step < 5; step++ {
		old = append(old, snapshot(t, o.Dir))
		reboot(o)
		for range 3 { // within a boot nothing is counted
			v = mustOpen(t, o)
			put(t, v, "uid:1000", user{"alice", step})
			mustClose(t, v)
		}
	}
	latest := snapshot(t, o.Dir)
	for _, dir := range old {
		restore(t, dir, o.Dir)
		mustDeny(t, o, ErrRolledBack)
		reboot(o)
		mustDeny(t, o, ErrRolledBack)
	}
	restore(t, latest, o.Dir)
	v = mustOpen(t, o)
	if u, _ := get(t, v, "uid:1000"); u.Step != 4 {
		t.Errorf("%v", u)
	}
	mustClose(t, v)

	// On purpose.
	restore(t, old[1], o.Dir)
	must(t, Accept(o))
	v = mustOpen(t, o)
	if u, _ := get(t, v, "uid:1000"); u.Step != 2 {
		t.Errorf("%v", u)
	}
	put(t, v, "uid:1000", user{"alice", 10})
	mustClose(t, v)
	restore(t, latest, o.Dir)
	mustDeny(t, o, ErrRolledBack)
}

// TestCountingCutShortAnywhereOpens copies the directory behind each step of
// counting; the TPM itself goes on.
func TestCountingCutShortAnywhereOpens(t *testing.T) {
	for _, at := range []string{stepCounting, stepCounted} {
		t.Run(at, func(t *testing.T) {
			o := options(t)
			o.Keychain.Kind = keychain.TPM
			o.Keychain.TPMDevice, _ = keychaintest.SWTPM(t, t.TempDir())
			mustClose(t, mustOpen(t, o))
			reboot(o)
			cut := ""
			type crash struct{}
			stepping(t, func(step string) {
				if step == at {
					cut = snapshot(t, o.Dir)
					panic(crash{}) // so that the TPM counts no further
				}
			})
			func() {
				defer func() { _ = recover() }()
				_, err := Open(o)
				t.Errorf("did not crash: %v", err)
			}()
			stepping(t, func(string) {})
			before := cut
			o.Dir = cut
			for range 3 {
				v := mustOpen(t, o)
				put(t, v, "uid:1000", user{"alice", 1})
				mustClose(t, v)
				reboot(o)
			}
			o.Dir = before
			v := mustOpen(t, o)
			if v.meta.Counting {
				t.Error("still about to count")
			}
		})
	}
}

// A TPM whose counter was removed no longer vouches for the vault, until an
// administrator accepts that.
func TestCounterRemovedFromTheTPMDenies(t *testing.T) {
	o := options(t)
	o.Keychain.Kind = keychain.TPM
	o.Keychain.TPMDevice, _ = keychaintest.SWTPM(t, t.TempDir())
	v := mustOpen(t, o)
	put(t, v, "uid:1000", user{"alice", 1})
	sealedAt := snapshot(t, o.Dir)
	must(t, v.Rekey(context.Background(), keychain.TPM)) // removes the first counter
	mustClose(t, v)
	restore(t, sealedAt, o.Dir)
	mustDeny(t, o, ErrRolledBack)
	must(t, Accept(o))
	for range 2 {
		v = mustOpen(t, o)
		if u, _ := get(t, v, "uid:1000"); u.Step != 1 || !v.record.Counts(v.keys.id) {
			t.Errorf("%v", u)
		}
		mustClose(t, v)
		reboot(o)
	}
	// The TPM's memory is given back: it has room for a few dozen counters.
	v = mustOpen(t, o)
	for n := range 150 {
		if err := v.Rekey(context.Background(), keychain.TPM); err != nil || !v.record.Counts(v.keys.id) {
			t.Fatal(fmt.Sprint(n), err)
		}
	}
}

// TestWipeGivesTheTPMItsCounterBack; where the TPM does not answer the record stays, or
// nobody would know what is left in it.
func TestWipeGivesTheTPMItsCounterBack(t *testing.T) {
	o := options(t)
	o.Keychain.Kind = keychain.TPM
	state := t.TempDir()
	var stop func()
	o.Keychain.TPMDevice, stop = keychaintest.SWTPM(t, state)
	v := mustOpen(t, o)
	id := v.Info().KeyID
	mustClose(t, v)
	copied := snapshot(t, o.Dir)
	counter := func() error {
		record, err := keychain.Load(filepath.Join(copied, "keychain"), o.Keychain)
		must(t, err)
		_, err = record.Counter(id)
		return err
	}
	stop()
	fails(t, ErrUnwritable, Wipe(o))
	o.Keychain.TPMDevice, _ = keychaintest.SWTPM(t, state)
	must(t, counter())

	must(t, Wipe(o))
	fails(t, keychain.ErrCounter, counter())
	mustDeny(t, o, ErrKeyMissing)
	restore(t, copied, o.Dir)
	must(t, Wipe(o)) // of what is gone already
}
