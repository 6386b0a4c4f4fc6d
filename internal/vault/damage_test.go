package vault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"sallyport/internal/event"
)

// Hazard: an older agent is put back over a newer vault. It is not taken for damaged,
// which would tell people to enrol everyone again.
func TestAVaultOfANewerVersionSaysSo(t *testing.T) {
	o := options(t)
	mustClose(t, mustOpen(t, o))
	inBolt(t, o.Dir, func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(bucketMeta))
		return b.Put(keyPlain, bytes.Replace(b.Get(keyPlain), []byte(`"format":1`), []byte(`"format":7`), 1))
	})
	_, err := Open(o)
	if !errors.Is(err, ErrNewer) || errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "its format is version 7, this agent's 1") || !strings.Contains(err.Error(), "install that version again") {
		t.Error(err)
	}
}

// TestOneDamagedRecordDeniesOneUser flips a bit in a sealed record. Whoever it
// belongs to is not "unknown" but an error; everyone else gets in.
func TestOneDamagedRecordDeniesOneUser(t *testing.T) {
	o := options(t)
	v := mustOpen(t, o)
	put(t, v, "uid:1000", user{"alice", 1})
	put(t, v, "uid:1001", user{"bob", 1})
	mustClose(t, v)
	inBolt(t, o.Dir, func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(Users))
		sealed := append([]byte(nil), b.Get([]byte("uid:1000"))...)
		sealed[len(sealed)/2] ^= 4
		return b.Put([]byte("uid:1000"), sealed)
	})
	v = mustOpen(t, o)
	var u user
	for what, do := range map[string]func(func(*Tx) error) error{
		"View":   v.View,
		"Update": func(fn func(*Tx) error) error { return v.Update(context.Background(), fn) },
	} {
		if err := do(func(tx *Tx) error { _, err := tx.Get(Users, "uid:1000", &u); return err }); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s, alice: %v", what, err)
		}
		// Also for a caller who overlooks the error.
		if err := do(func(tx *Tx) error { _, _ = tx.Get(Users, "uid:1000", &u); return nil }); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s, alice, overlooked: %v", what, err)
		}
		if err := do(func(tx *Tx) error {
			found, err := tx.Get(Users, "uid:1001", &u)
			if !found {
				t.Errorf("%s: bob is gone", what)
			}
			return err
		}); err != nil {
			t.Errorf("%s, bob: %v", what, err)
		}
	}
	// The helpdesk can enrol alice again.
	put(t, v, "uid:1000", user{"alice", 9})
	if u, _ := get(t, v, "uid:1000"); u.Step != 9 {
		t.Errorf("%v", u)
	}
}

// A record is bound to its place: one user's secret under another's name does not
// unseal.
func TestRecordMovedToAnotherUserIsRefused(t *testing.T) {
	o := options(t)
	v := mustOpen(t, o)
	put(t, v, "uid:1000", user{"alice", 1})
	put(t, v, "uid:1001", user{"bob", 1})
	mustClose(t, v)
	inBolt(t, o.Dir, func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(Users))
		return b.Put([]byte("uid:1000"), append([]byte(nil), b.Get([]byte("uid:1001"))...))
	})
	v = mustOpen(t, o)
	var u user
	if err := v.View(func(tx *Tx) error { _, err := tx.Get(Users, "uid:1000", &u); return err }); !errors.Is(err, ErrCorrupt) {
		t.Errorf("%v %v", u, err)
	}
}

// TestFlippedByteNowhereUnenrolsAnyone damages one byte of a vault.db of several
// levels of pages, anywhere. Either the vault is refused, or every user is found
// unharmed or is an error. It never panics, and nobody becomes unknown.
func TestFlippedByteNowhereUnenrolsAnyone(t *testing.T) {
	const users = 400
	o := options(t)
	v := mustOpen(t, o)
	fill(t, v, users)
	for i := range 300 { // and some free pages, and events
		must(t, login(v, fmt.Sprint("uid:", i)))
	}
	mustClose(t, v)
	sound := snapshot(t, o.Dir)
	path := filepath.Join(o.Dir, "vault.db")
	whole := readFile(t, path)
	m, ok := parseBoltMeta(whole)
	if !ok {
		t.Fatal("no meta page")
	}
	used := int(m.high) * int(m.pageSize)
	rounds := 600
	if testing.Short() {
		rounds = 60
	}
	var refused, harmed int
	for n := range rounds {
		at := rand.IntN(used)
		if n%2 == 0 { // page and element headers are where it hurts
			at = at/4096*4096 + rand.IntN(200)
		}
		was := whole[at]
		whole[at] ^= byte(1 << rand.IntN(8))
		restore(t, sound, o.Dir, "keychain")
		must(t, os.WriteFile(path, whole, 0o600))
		whole[at] = was
		v, err := Open(o)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrRolledBack) && !errors.Is(err, ErrCopied) && !errors.Is(err, ErrEmptied) {
				t.Errorf("byte %d: %v", at, err)
			}
			refused++
			continue
		}
		bad := 0
		for i := range users {
			var r benchRecord
			err := v.View(func(tx *Tx) error {
				found, err := tx.Get(Users, fmt.Sprint("uid:", i), &r)
				if err == nil && (!found || r.Name != fmt.Sprint("user", i)) {
					t.Errorf("byte %d: user %d: found %v, %q", at, i, found, r.Name)
				}
				return err
			})
			if err != nil {
				bad++
			}
		}
		if bad > 0 {
			harmed++
		}
		if err := v.Update(context.Background(), func(tx *Tx) error {
			tx.Append(event.Event{Name: event.LoginAttempt})
			return tx.Put(Users, "uid:0", benchUser(0))
		}); err != nil {
			t.Errorf("byte %d: %v", at, err)
		}
		mustClose(t, v)
	}
	t.Logf("%d flips: %d refused at the start, %d an error for some users", rounds, refused, harmed)
}

// TestFlippedBranchKeyHidesNobody damages the keys by which bbolt finds its way
// down to a record. A walk still finds every record, so only the check of the
// pages' order notices that a search would not.
func TestFlippedBranchKeyHidesNobody(t *testing.T) {
	const users = 400
	o := options(t)
	v := mustOpen(t, o)
	fill(t, v, users)
	mustClose(t, v)
	path := filepath.Join(o.Dir, "vault.db")
	whole := readFile(t, path)
	refused := 0
	for page := 2; (page+1)*4096 <= len(whole); page++ {
		b := whole[page*4096:]
		if native.Uint16(b[8:]) != flagBranch || native.Uint64(b) != uint64(page) {
			continue
		}
		for i := range int(native.Uint16(b[10:])) {
			at := pageHeader + i*element
			key := b[at+int(native.Uint32(b[at:])):][:native.Uint32(b[at+4:])]
			for _, n := range []int{0, len(key) - 1} {
				key[n] ^= 0x40
				must(t, os.WriteFile(path, whole, 0o600))
				key[n] ^= 0x40
				v, err := Open(o)
				if err != nil {
					refused++
					continue
				}
				for i := range users {
					if err := v.View(func(tx *Tx) error {
						found, err := tx.Get(Users, fmt.Sprint("uid:", i), &benchRecord{})
						if err == nil && !found {
							t.Errorf("user %d is unknown", i)
						}
						return err
					}); err != nil {
						t.Error(err)
					}
				}
				mustClose(t, v)
			}
		}
	}
	if refused == 0 {
		t.Error("no branch page was found")
	}
}
