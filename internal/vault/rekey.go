package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"

	"sallyport/internal/event"
	"sallyport/internal/keychain"
)

// The steps of a rekey, and of counting with a TPM, in order.
const (
	stepRecorded = "the record names both keys"
	stepAnchored = "the anchor has a note under the new key"
	stepResealed = "the vault is sealed with the new key"
	stepFinished = "the old key is gone"

	stepCounting = "the vault is about to count"
	stepCounted  = "the TPM has counted"
)

// Rekey gives the vault a new key in the given kind of keychain. It holds up
// everyone else for as long as it takes to seal every record again.
//
// A configuration that names the old kind must be changed before the next start,
// which otherwise is refused with ErrKeychain.
//
// A crash leaves a vault that opens: record.json names both keys until the end,
// and vault.db says, in the transaction that seals everything again, which of
// them it is sealed with.
func (v *Vault) Rekey(ctx context.Context, kind keychain.Kind) error {
	return v.enqueue(ctx, &request{alone: func() error { return v.rekey(kind) }, done: make(chan error, 1)})
}

// OpenToRekey opens a vault whose key is in another keychain than configured, and
// moves the key to the given kind: what ErrKeychain tells an administrator to do.
func OpenToRekey(ctx context.Context, opts Options, kind keychain.Kind) (*Vault, error) {
	opts.Keychain.Kind = keychain.Auto // whichever is recorded
	v, err := Open(opts)
	if err != nil {
		return nil, err
	}
	if v.Info().Keychain == kind {
		return v, nil
	}
	if err := v.Rekey(ctx, kind); err != nil {
		return nil, errors.Join(err, v.Close())
	}
	return v, nil
}

func (v *Vault) rekey(kind keychain.Kind) (err error) {
	if err := v.usable(); err != nil {
		return err
	}
	if err := v.record.Finish(v.key, v.log); err != nil { // of an earlier rekey
		return unwritable(v.path(keychainName), err)
	}
	from := v.record.KindOf(v.keys.id)
	next, err := v.record.Begin(v.key, kind, v.log)
	if err != nil {
		return classify(err)
	}
	defer func() {
		if err != nil {
			next.Wipe()
		}
	}()
	onStep(stepRecorded)
	keys, err := newKeyring(next)
	if err != nil {
		return err
	}

	// From here to the end nobody may read: a record's key changes under it.
	v.storeMu.Lock()
	m, bolt, err := v.reseal(keys, from, kind)
	if err == nil {
		old := v.key
		v.keys, v.key, v.anchor.key, v.toggler = keys, next, keys.anchor, keys.toggler()
		if v.opts.Keychain.Kind != "" {
			v.opts.Keychain.Kind = kind
		}
		old.Wipe()
	}
	v.storeMu.Unlock()
	if err != nil {
		return v.failed(bolt, err)
	}
	v.publish(m, true)
	if err := v.anchor.mark(m.Generation); err != nil {
		v.setBroken(err)
		return err
	}
	v.unmarked = true
	onStep(stepResealed)
	if err := v.record.Finish(next, v.log); err != nil {
		return fmt.Errorf("the vault has its new key, but the old one could not be removed (restart the agent to try again): %w", unwritable(v.path(keychainName), err))
	}
	v.publish(m, false)
	onStep(stepFinished)
	return nil
}

// reseal seals everything with other keys, in one commit.
func (v *Vault) reseal(keys *keyring, from, to keychain.Kind) (m meta, bolt *bbolt.Tx, err error) {
	m = v.meta.clone()
	m.Digest = setDigest{}
	if m.Counter, err = v.record.Counter(keys.id); err != nil {
		return m, nil, fmt.Errorf("%w: %w", err, ErrKeyMissing)
	}
	m.CounterBoot, m.Counting = v.clock.Now().BootID, false
	if bolt, err = v.store.begin(true); err != nil {
		return m, nil, err
	}
	err = guard(func() error {
		t := keys.toggler()
		for _, name := range append([]string{bucketEvents}, recordBuckets...) {
			if err := resealBucket(bolt.Bucket([]byte(name)), name, v.keys, keys); err != nil {
				return err
			}
			if name == bucketEvents {
				continue
			}
			c := bolt.Bucket([]byte(name)).Cursor()
			for k, _ := c.First(); k != nil; k, _ = c.Next() {
				t.toggle(&m.Digest, name, k)
			}
		}
		raw, err := json.Marshal(event.Event{
			Seq: m.LastSeq + 1, Time: v.clock.Now().Wall, Name: event.VaultRekeyed,
			Text: fmt.Sprintf("the key moved from %s to %s", from, to),
		})
		if err != nil {
			return err
		}
		if err := putEvent(bolt, keys, &m, raw); err != nil {
			return err
		}
		if err := dropEvents(bolt, &m, v.eventLimit); err != nil {
			return err
		}
		m.Generation++
		if err := putPlain(bolt, plain{plainFormat, m.Vault, keys.id}); err != nil {
			return err
		}
		return putMeta(bolt, keys, m)
	})
	if err != nil {
		return m, bolt, err
	}
	// The other slot's note is under the old key and counts for nothing once the
	// vault is under the new one, so here the anchor is on the disk first.
	a := anchor{f: v.anchor.f, key: keys.anchor, vault: v.anchor.vault}
	if err := a.prepare(m.Generation, m.Digest); err != nil {
		return m, bolt, err
	}
	onStep(stepAnchored)
	return m, bolt, guard(bolt.Commit)
}

// resealBucket replaces every value of a bucket. It goes in strides, because
// bbolt's cursors do not bear changes under them.
func resealBucket(b *bbolt.Bucket, name string, from, to *keyring) error {
	const stride = 1000
	type pair struct{ key, sealed []byte }
	var after []byte
	for {
		var pairs []pair
		c := b.Cursor()
		k, sealed := c.Seek(after)
		for ; k != nil && len(pairs) < stride; k, sealed = c.Next() {
			plain, err := from.open(name, k, sealed)
			if err != nil {
				return err
			}
			pairs = append(pairs, pair{append([]byte(nil), k...), to.seal(name, k, plain)})
			clear(plain)
		}
		for _, p := range pairs {
			if err := b.Put(p.key, p.sealed); err != nil {
				return err
			}
		}
		if len(pairs) < stride {
			return nil
		}
		after = append(pairs[len(pairs)-1].key, 0)
	}
}

// Accept takes the vault that is there for the present one, on this computer: an
// administrator says so after restoring a backup, or after the machine id has
// changed. Every record must still unseal, and the set of records be the one
// that was committed with them. The agent must be stopped.
func Accept(opts Options) (err error) {
	v, err := lockDir(opts)
	if err != nil {
		return classify(err)
	}
	defer v.unlock()
	if fresh, err := v.survey(); err != nil {
		return classify(err)
	} else if fresh {
		return fmt.Errorf("%s holds no vault to accept: %w", v.dir, ErrMissing)
	}
	if err := v.open(true); err != nil {
		return classify(err)
	}
	defer v.shut()
	n, err := v.record.Counter(v.keys.id)
	if err != nil {
		return classify(err)
	}
	if err := v.amend(func(m *meta) { m.Counter, m.CounterBoot, m.Counting = n, "", false }); err != nil {
		return err
	}
	v.writeMarker(v.meta.Vault)
	v.log.Warn("the vault was accepted as it is", "dir", v.dir, "vault", v.meta.Vault, "generation", v.meta.Generation)
	v.key.Wipe()
	return nil
}

// unsealAll fails if there is a value that does not unseal.
func (s *store) unsealAll(k *keyring) error {
	err := s.view(func(tx *bbolt.Tx) error {
		for _, name := range append([]string{bucketEvents}, recordBuckets...) {
			if err := tx.Bucket([]byte(name)).ForEach(func(key, sealed []byte) error {
				_, err := k.open(name, key, sealed)
				return err
			}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%s: %w", s.file.Name(), err)
	}
	return nil
}
