//go:build linux

package enrol_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/authority/enrol"
	"sallyport/authority/store"
	"sallyport/authority/store/storetest"
	"sallyport/internal/clock"
	"sallyport/internal/factor/offline"
)

// bypassKey is what the devices of these tests escrow.
var bypassKey = bytes.Repeat([]byte{0xa5, 0x17}, offline.KeySize/2)

// escrowed is a device of maya and zoe that gave its key as it joined.
func (w *world) escrowed(key []byte) string {
	w.Helper()
	token, _, err := w.CreateToken(w.Context(), "root", enrol.TokenRequest{Users: []string{"maya", "zoe"}})
	w.must(err)
	_, r := w.newcomer(token)
	r.BypassKey = key
	j, err := w.Register(w.Context(), r)
	w.must(err)
	return j.Device
}

func (w *world) people() {
	w.Helper()
	for _, name := range []string{"maya", "zoe", "ben"} {
		w.must(w.AddUser(w.Context(), "root", name))
	}
}

func (w *world) answers(user, device, challenge string, life time.Duration) (string, error) {
	code, err := w.AnswerOffline(w.Context(), "uid:0", user, device, challenge, life, "on a plane")
	return strings.ReplaceAll(code.Reveal(), "-", ""), err
}

func (w *world) wants(device string) (wants bool) {
	w.Helper()
	w.view(func(tx store.Tx) (err error) { wants, err = w.WantsBypassKey(tx, device); return err })
	return wants
}

func TestAChallengeIsAnswered(t *testing.T) {
	each(t, func(w *world) {
		w.people()
		device := w.escrowed(bypassKey)
		if w.wants(device) {
			t.Error("the key came with the registration, and is wanted")
		}
		now := clock.Instant{Wall: w.time, Boot: time.Hour, BootID: "one"}
		open := offline.NewOpen(device, "maya", now)
		for _, life := range offline.Lives {
			code, err := w.answers("maya", device, strings.ToLower(open.Challenge.String()), life)
			w.must(err)
			if right, _ := open.Verify(bypassKey, code, now); !right {
				t.Errorf("the device does not take the answer for %v", life)
			}
			if right, _ := offline.NewOpen(device, "maya", now).Verify(bypassKey, code, now); right {
				t.Error("another challenge's answer")
			}
		}
		w.happened("offline_bypass_answered", 4)
		// The event says who, where, how long and why, and not the code.
		w.view(func(tx store.Tx) error {
			list, _, err := tx.Events(0, "", "maya", 100)
			last := string(list[len(list)-1].JSON)
			code, _ := offline.Answer(bypassKey, device, "maya", open.Challenge, 24*time.Hour)
			for _, want := range []string{`"user":"maya"`, `"by":"uid:0"`, "laptop", device, "24h0m0s", "on a plane"} {
				if !strings.Contains(last, want) {
					t.Errorf("%s is not in %s", want, last)
				}
			}
			for _, secret := range []string{code.Reveal(), strings.ReplaceAll(code.Reveal(), "-", ""), string(open.Challenge), open.Challenge.String(), hex.EncodeToString(bypassKey)} {
				if strings.Contains(last, secret) {
					t.Errorf("%s is in %s", secret, last)
				}
			}
			return err
		})
	})
}

func TestWhoseChallengesAreNotAnswered(t *testing.T) {
	each(t, func(w *world) {
		w.people()
		device, old := w.escrowed(bypassKey), w.join("maya").id
		c := offline.NewChallenge(device, "maya").String()
		for what, f := range map[string]func() error{
			"an unknown user": func() error {
				_, err := w.answers("nobody", device, c, time.Hour)
				return expect(err, store.ErrNotFound)
			},
			"one not allowed": func() error {
				_, err := w.answers("ben", device, offline.NewChallenge(device, "ben").String(), time.Hour)
				return expect(err, enrol.ErrInvalid)
			},
			"an unknown device": func() error { _, err := w.answers("maya", "NONE", c, time.Hour); return expect(err, store.ErrNotFound) },
			"no challenge":      func() error { _, err := w.answers("maya", device, "", time.Hour); return expect(err, enrol.ErrInvalid) },
			"another alphabet": func() error {
				_, err := w.answers("maya", device, "UUUU-UUUU", time.Hour)
				return expect(err, enrol.ErrInvalid)
			},
			"another life": func() error {
				_, err := w.answers("maya", device, c, 2*time.Hour)
				return expect(err, enrol.ErrInvalid)
			},
			"no life": func() error { _, err := w.answers("maya", device, c, 0); return expect(err, enrol.ErrInvalid) },
			"a device that gave none": func() error {
				_, err := w.answers("maya", old, offline.NewChallenge(old, "maya").String(), time.Hour)
				return expect(err, enrol.ErrNoEscrow)
			},
			"no reason": func() error {
				_, err := w.AnswerOffline(t.Context(), "uid:0", "maya", device, c, time.Hour, "")
				return expect(err, enrol.ErrInvalid)
			},
			"a reason with controls": func() error {
				_, err := w.AnswerOffline(t.Context(), "uid:0", "maya", device, c, time.Hour, "a\nb")
				return expect(err, enrol.ErrInvalid)
			},
		} {
			if err := f(); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
		w.must(w.RevokeDevice(t.Context(), "root", device, "stolen"))
		if _, err := w.answers("maya", device, c, time.Hour); err == nil || !strings.Contains(err.Error(), "revoked") {
			t.Errorf("a revoked device: %v", err)
		}
		if _, err := w.Escrow(t.Context(), device, bypassKey); !errors.Is(err, enrol.ErrRevoked) {
			t.Errorf("a revoked device's key: %v", err)
		}
		w.happened("offline_bypass_answered", 0)
	})
}

// expect is nil for the error that is wanted.
func expect(err, want error) error {
	if errors.Is(err, want) {
		return nil
	}
	return errors.Join(errors.New("another error than wanted"), err)
}

// TestAnswersAreLimited for each device, also when they are asked for at once.
func TestAnswersAreLimited(t *testing.T) {
	each(t, func(w *world) {
		w.people()
		device, other := w.escrowed(bypassKey), w.escrowed(bypassKey)
		var mu sync.Mutex
		given, refused := 0, 0
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				_, err := w.answers("maya", device, offline.NewChallenge(device, "maya").String(), time.Hour)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					given++
				case errors.Is(err, enrol.ErrTooManyAnswers):
					refused++
				default:
					t.Error(err)
				}
			})
		}
		all.Wait()
		if given != 10 || refused != 10 {
			t.Errorf("%d given, %d refused", given, refused)
		}
		w.happened("offline_bypass_answered", 10)
		_, err := w.answers("maya", other, offline.NewChallenge(other, "maya").String(), time.Hour)
		w.must(err)
		w.time = w.time.Add(time.Hour)
		_, err = w.answers("maya", device, offline.NewChallenge(device, "maya").String(), time.Hour)
		w.must(err)
	})
}

// TestAKeyIsEscrowedLater by a device that joined before there were any.
func TestAKeyIsEscrowedLater(t *testing.T) {
	each(t, func(w *world) {
		w.people()
		device := w.join("maya").id
		if !w.wants(device) {
			t.Error("not wanted")
		}
		for _, odd := range [][]byte{nil, bypassKey[1:], append(bypassKey[:32:32], 0)} {
			if kept, err := w.Escrow(t.Context(), device, odd); kept || !errors.Is(err, enrol.ErrInvalid) {
				t.Errorf("%d bytes: %v, %v", len(odd), kept, err)
			}
		}
		for range 2 { // the same again is no news
			if kept, err := w.Escrow(t.Context(), device, bypassKey); !kept || err != nil {
				t.Fatal(kept, err)
			}
		}
		if w.wants(device) {
			t.Error("wanted again")
		}
		w.happened("bypass_key_escrowed", 1)
		_, err := w.answers("maya", device, offline.NewChallenge(device, "maya").String(), time.Hour)
		w.must(err)
		if _, err := w.Escrow(t.Context(), "NONE", bypassKey); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("no such device: %v", err)
		}
	})
}

// TestEscrowedKeysAreSealed to one device with a key that is not in the database.
func TestEscrowedKeysAreSealed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "authority.db")
	s := storetest.Open(t, store.Options{SQLite: path, Node: "a"})
	_, k := makeKeys(t)
	w := newWorld(t, s, k)
	w.people()
	one, two := w.escrowed(bypassKey), w.escrowed(bytes.Repeat([]byte{1}, offline.KeySize))
	for _, file := range []string{path, path + "-wal"} {
		if b, err := os.ReadFile(file); err == nil && (bytes.Contains(b, bypassKey) || bytes.Contains(b, []byte(hex.EncodeToString(bypassKey)))) {
			t.Errorf("the key is in %s", file)
		}
	}
	// What is kept of one device is of no use in another's place.
	var e store.Escrow
	w.view(func(tx store.Tx) (err error) { e, err = tx.Escrow(one); return err })
	e.Device = two
	w.must(s.Update(t.Context(), func(tx store.Tx) error { return tx.PutEscrow(e) }))
	if _, err := w.answers("maya", two, offline.NewChallenge(two, "maya").String(), time.Hour); !errors.Is(err, enrol.ErrNoEscrow) {
		t.Errorf("another device's key: %v", err)
	}
	if !w.wants(two) {
		t.Error("what cannot be opened is not asked for again")
	}
	// Another authority's file opens nothing.
	_, other := makeKeys(t)
	v := enrol.New(enrol.Options{Store: s, Keys: other, Settings: settings})
	if _, err := v.AnswerOffline(t.Context(), "uid:0", "maya", one, offline.NewChallenge(one, "maya").String(), time.Hour, "why"); !errors.Is(err, enrol.ErrNoEscrow) {
		t.Errorf("with another file: %v", err)
	}
}

// TestTheEscrowKeyIsMadeOnce: at the first start of an authority that is older, and
// never again, whatever is lost.
func TestTheEscrowKeyIsMadeOnce(t *testing.T) {
	s := storetest.Open(t, store.Options{SQLite: filepath.Join(t.TempDir(), "authority.db"), Node: "a"})
	dir, _ := makeKeys(t)
	file := filepath.Join(dir, "escrow.key")
	start := func() (*world, error) {
		t.Helper()
		k, err := enrol.LoadKeys(dir)
		if err != nil {
			t.Fatalf("without it everything else works: %v", err)
		}
		w := newWorld(t, s, k)
		return w, w.EnsureEscrowKey(t.Context(), dir)
	}
	ok := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ok(t, os.Remove(file)) // an older one
	w, err := start()
	ok(t, err)
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatal(info, err)
	}
	w.people()
	device := w.escrowed(bypassKey)
	before, err := os.ReadFile(file)
	ok(t, err)
	_, err = start()
	ok(t, err)
	if now, _ := os.ReadFile(file); !bytes.Equal(now, before) {
		t.Fatal("it was made again")
	}
	answer := func(w *world) error {
		_, err := w.answers("maya", device, offline.NewChallenge(device, "maya").String(), time.Hour)
		return err
	}
	ok(t, answer(w))

	spoilt := 0
	for what, spoil := range map[string]func() error{
		"lost":                func() error { return os.Remove(file) },
		"empty":               func() error { return os.WriteFile(file, nil, 0o600) },
		"another's":           func() error { other, _ := makeKeys(t); return move(other, dir, "escrow.key") },
		"one others may read": func() error { return os.Chmod(file, 0o640) },
		"too short": func() error {
			return os.WriteFile(file, []byte("-----BEGIN SALLYPORT ESCROW KEY-----\nAAAA\n-----END SALLYPORT ESCROW KEY-----\n"), 0o600)
		},
		"a directory": func() error { return errors.Join(os.Remove(file), os.Mkdir(file, 0o700)) },
	} {
		ok(t, spoil())
		w, err := start()
		if !errors.Is(err, enrol.ErrNoEscrow) || !strings.Contains(err.Error(), "escrow.key") {
			t.Errorf("%s: the start says %v", what, err)
		}
		for name, err := range map[string]error{"an answer": answer(w), "a look": w.CheckEscrowKey(t.Context(), dir)} {
			if !errors.Is(err, enrol.ErrEscrowKey) || !errors.Is(err, enrol.ErrNoEscrow) || !strings.Contains(err.Error(), "escrow.key") {
				t.Errorf("%s: %s: %v", what, name, err)
			}
		}
		spoilt++
		w.happened("escrow_key_unusable", spoilt)
		if err := s.View(t.Context(), func(tx store.Tx) error {
			wants, err := w.WantsBypassKey(tx, device)
			if wants {
				t.Errorf("%s: the computer is to show no challenge any more, which other nodes could answer", what)
			}
			return err
		}); err != nil {
			t.Error(err)
		}
		if kept, err := w.Escrow(t.Context(), device, bypassKey); kept || err != nil {
			t.Errorf("%s: a key that cannot be sealed: kept %v, %v", what, kept, err)
		}
		w.escrowed(bypassKey) // who joins meanwhile joins, and is asked later
		if what == "lost" {
			if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
				t.Error("another one was made")
			}
		}
		ok(t, os.RemoveAll(file))
		ok(t, os.WriteFile(file, before, 0o600))
	}
	w, err = start() // the backup is put back
	ok(t, err)
	ok(t, w.CheckEscrowKey(t.Context(), dir))
	ok(t, answer(w))
}
