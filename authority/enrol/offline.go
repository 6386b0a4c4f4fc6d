package enrol

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"sallyport/authority/store"
	"sallyport/internal/event"
	"sallyport/internal/factor/offline"
	"sallyport/internal/secret"
)

// ErrTooManyAnswers: somebody asks for more offline bypasses than a helpdesk gives.
var ErrTooManyAnswers = errors.New("too many offline bypasses for this computer within the hour")

// ErrNoEscrow: there is no key to answer a challenge with.
var ErrNoEscrow = errors.New("no offline bypass can be given")

// ErrEscrowKey: this node has not got the key that those of the computers are sealed
// with. It is an ErrNoEscrow.
var ErrEscrowKey = fmt.Errorf("%w by this node", ErrNoEscrow)

const (
	// escrowFile seals the keys of offline bypasses in the database: whoever has a
	// copy of that alone can answer no challenge.
	escrowFile = "escrow.key"
	escrowType = "SALLYPORT ESCROW KEY"
	// escrowSetting names the key that they are sealed with, so that no node makes
	// another.
	escrowSetting = "escrow_key"
	escrowDomain  = "sallyport escrow v1\x00"

	// maxAnswers are given for one device within answersEvery.
	maxAnswers   = 10
	answersEvery = time.Hour
)

func newEscrowKey() []byte {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails: crypto/rand
	return pem.EncodeToMemory(&pem.Block{Type: escrowType, Bytes: key})
}

// loadEscrow reads the key; without it everything else works.
func (k *Keys) loadEscrow(dir string) {
	path := filepath.Join(dir, escrowFile)
	k.escrow, k.escrowErr = nil, nil
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		k.escrowErr = fmt.Errorf("%w: %s is not there: put back the backup, or copy it from another node of this authority, and restart this one", ErrEscrowKey, path)
		return
	case err == nil && info.Mode().Perm()&0o077 != 0:
		err = fmt.Errorf("%s can be read by others (mode %#o): chmod 600 it, and think about who may have", path, info.Mode().Perm())
	}
	var key []byte
	if err == nil {
		key, err = readPEM(path, escrowType)
	}
	if err == nil && len(key) != 32 {
		err = fmt.Errorf("%s has %d bytes, not 32", path, len(key))
	}
	if err != nil {
		k.escrowErr = fmt.Errorf("%w: %w", ErrEscrowKey, err)
		return
	}
	k.escrow = key
}

// EnsureEscrowKey makes the key of an authority that is older than offline
// bypasses, and says what is wrong with the one there is. It never makes another:
// what is sealed with the first could not be opened any more. To be called at the
// start, which goes on without: what needs no such key works, and a computer that
// another node has the key of keeps showing challenges. But it is an event.
func (s *Service) EnsureEscrowKey(ctx context.Context, dir string) error {
	err := s.ensureEscrowKey(ctx, dir)
	if !errors.Is(err, ErrNoEscrow) {
		return err
	}
	return errors.Join(err, s.update(ctx, func(store.Tx, time.Time) (event.Event, error) {
		return event.Event{Name: EscrowKeyUnusable, Text: clip("node " + s.store.Node() + ": " + err.Error())}, nil
	}))
}

// CheckEscrowKey says what is wrong with this node's key, of which the server has said
// at its start which one is right.
func (s *Service) CheckEscrowKey(ctx context.Context, dir string) error {
	named, err := s.namedEscrowKey(ctx)
	switch {
	case err != nil || named == nil: // the server makes it, or names it
		return err
	case s.keys.escrow == nil:
		return s.keys.escrowErr
	}
	return s.sameEscrowKey(dir, named)
}

func (s *Service) namedEscrowKey(ctx context.Context) (named []byte, err error) {
	err = s.store.View(ctx, func(tx store.Tx) (err error) {
		if named, err = tx.Setting(escrowSetting); errors.Is(err, store.ErrNotFound) {
			named, err = nil, nil
		}
		return err
	})
	return named, err
}

func (s *Service) sameEscrowKey(dir string, named []byte) error {
	if name := sha256.Sum256(s.keys.escrow); bytes.Equal(named, name[:]) {
		return nil
	}
	return fmt.Errorf("%w: %s is not the key of this authority: put back the backup, or copy it from the node that was first, and restart this one", ErrEscrowKey, filepath.Join(dir, escrowFile))
}

func (s *Service) ensureEscrowKey(ctx context.Context, dir string) error {
	path := filepath.Join(dir, escrowFile)
	if s.keys.escrow == nil {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			return s.keys.escrowErr
		}
	}
	named, err := s.namedEscrowKey(ctx)
	if err != nil {
		return err
	}
	if s.keys.escrow == nil {
		if named != nil {
			return s.keys.escrowErr
		}
		if err := errors.Join(writeNew(path, newEscrowKey()), syncDir(dir)); err != nil {
			return fmt.Errorf("%w: %w", ErrEscrowKey, err)
		}
		if s.keys.loadEscrow(dir); s.keys.escrow == nil {
			return s.keys.escrowErr
		}
	}
	name := sha256.Sum256(s.keys.escrow)
	err = s.store.Update(ctx, func(tx store.Tx) (err error) {
		if named, err = tx.Setting(escrowSetting); errors.Is(err, store.ErrNotFound) {
			named = name[:]
			return tx.PutSetting(escrowSetting, named)
		}
		return err
	})
	if err != nil {
		return err
	}
	if err = s.sameEscrowKey(dir, named); err != nil {
		s.keys.escrow, s.keys.escrowErr = nil, err
	}
	return err
}

// sealed is AES-256-GCM with a random nonce before it; the device is associated
// data, so that the key of one is of no use in the place of another's.
func (k *Keys) sealed(device string, key []byte) ([]byte, error) {
	gcm, err := k.gcm()
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, gcm.NonceSize())
	_, _ = rand.Read(nonce) // never fails: crypto/rand
	return gcm.Seal(nonce, nonce, key, []byte(escrowDomain+device)), nil
}

func (k *Keys) opened(e store.Escrow) ([]byte, error) {
	gcm, err := k.gcm()
	if err != nil {
		return nil, err
	}
	if n := gcm.NonceSize(); len(e.Sealed) > n {
		if key, err := gcm.Open(nil, e.Sealed[:n], e.Sealed[n:], []byte(escrowDomain+e.Device)); err == nil {
			return key, nil
		}
	}
	return nil, fmt.Errorf("%w: what is kept of the computer's key was not sealed with %s", ErrNoEscrow, escrowFile)
}

func (k *Keys) gcm() (cipher.AEAD, error) {
	if k.escrow == nil {
		return nil, k.escrowErr
	}
	block, err := aes.NewCipher(k.escrow)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func checkBypassKey(key []byte) error {
	if len(key) != offline.KeySize {
		return invalid("the key of offline bypasses has %d bytes, not %d", len(key), offline.KeySize)
	}
	return nil
}

// putEscrow keeps a device's key. Without a key to seal it with nothing is kept:
// the device is asked for it again.
func (s *Service) putEscrow(tx store.Tx, device string, key []byte, now time.Time) error {
	if s.keys.escrow == nil {
		return nil
	}
	b, err := s.keys.sealed(device, key)
	if err != nil {
		return err
	}
	return tx.PutEscrow(store.Escrow{Device: device, Sealed: b, Created: now})
}

// WantsBypassKey says whether the device's key is not here, or cannot be opened. One
// that is here a node without the right escrow.key leaves to the others, and to its
// own being mended: the computer goes on showing challenges.
func (s *Service) WantsBypassKey(tx store.Tx, device string) (bool, error) {
	e, err := tx.Escrow(device)
	if errors.Is(err, store.ErrNotFound) {
		return true, nil
	} else if err != nil {
		return false, err
	}
	if s.keys.escrow == nil {
		return false, nil
	}
	_, err = s.keys.opened(e)
	return err != nil, nil
}

// Escrow keeps the key of a device's offline bypasses, and says whether it is kept.
// The device is the one that says so itself, by its certificate.
func (s *Service) Escrow(ctx context.Context, device string, key []byte) (kept bool, err error) {
	if err := checkBypassKey(key); err != nil {
		return false, err
	}
	if s.keys.escrow == nil {
		return false, nil
	}
	err = s.update(ctx, func(tx store.Tx, now time.Time) (event.Event, error) {
		d, err := tx.Device(device)
		if err != nil {
			return event.Event{}, err
		}
		if !d.Revoked.IsZero() {
			return event.Event{}, ErrRevoked
		}
		e, err := tx.Escrow(device)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return event.Event{}, err
		}
		if err == nil {
			if old, err := s.keys.opened(e); err == nil && bytesEqual(old, key) {
				return event.Event{}, nil
			}
		}
		return event.Event{Name: BypassKeyEscrowed, By: "device:" + device, Text: clip(d.Name)}, s.putEscrow(tx, device, key, now)
	})
	return err == nil, err
}

// AnswerOffline answers the challenge on the screen of a computer that no network
// reaches: the code opens one login of that user there. life is one of
// offline.Lives, from when the challenge was made.
func (s *Service) AnswerOffline(ctx context.Context, by, user, device, challenge string, life time.Duration, reason string) (secret.String, error) {
	var none, answer secret.String
	if reason == "" || len(reason) > 200 || !printable(reason) {
		return none, invalid("a bypass needs a reason of 1 to 200 printable bytes: --reason 'lost phone, ticket 123'")
	}
	err := s.update(ctx, func(tx store.Tx, now time.Time) (event.Event, error) {
		var e event.Event
		d, err := s.target(tx, user, device)
		if err != nil {
			return e, err
		}
		c, err := offline.ParseChallenge(challenge, d.ID, user)
		if err != nil {
			return e, invalid("%v", err)
		}
		kept, err := tx.Escrow(d.ID)
		if errors.Is(err, store.ErrNotFound) {
			if s.keys.escrow == nil {
				return e, s.keys.escrowErr
			}
			return e, fmt.Errorf("%w: %s has not escrowed its key; an agent of this version does so when it is next online", ErrNoEscrow, d.Name)
		} else if err != nil {
			return e, err
		}
		key, err := s.keys.opened(kept)
		if err != nil {
			return e, err
		}
		if now.Sub(kept.Began) >= answersEvery || now.Before(kept.Began) {
			kept.Began, kept.Answers = now, 0
		}
		if kept.Answers++; kept.Answers > maxAnswers {
			return e, fmt.Errorf("%w: %d at most", ErrTooManyAnswers, maxAnswers)
		}
		if answer, err = offline.Answer(key, d.ID, user, c, life); err != nil {
			return e, invalid("%v", err)
		}
		return event.Event{Name: OfflineBypassAnswered, By: by, User: user, Text: clip("on " + d.Name + " (" + d.ID + "), for " + life.String() + ": " + reason)},
			tx.PutEscrow(kept)
	})
	if err != nil {
		return none, err
	}
	return answer, nil
}

// target is the device that something is issued for, and the user on it.
func (s *Service) target(tx store.Tx, user, device string) (store.Device, error) {
	if err := s.known(tx, user); err != nil {
		return store.Device{}, err
	}
	d, err := tx.Device(device)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return d, fmt.Errorf("no device %q: see sallyport-authority device list: %w", device, err)
	case err != nil:
		return d, err
	case !d.Revoked.IsZero():
		return d, invalid("the device %s is revoked", d.Name)
	case !Allowed(d, user):
		return d, invalid("%s is not allowed on %s: sallyport-authority device allow", user, d.Name)
	}
	return d, nil
}
