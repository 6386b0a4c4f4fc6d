package vault

import (
	"errors"
	"fmt"

	"sallyport/internal/keychain"
)

// A TPM's counter is the witness that no backup holds. The vault keeps what it
// has counted to, and has it count on at the first start after each boot:
//
//  1. the vault commits "about to count", with the present value n
//  2. the TPM counts to n+1
//  3. the vault commits n+1
//
// A crash leaves, after 1, the vault at n and about to count, the TPM at n; after
// 2, the same vault and the TPM at n+1; after 3, both at n+1. Everything else is
// a vault of another time: one from an earlier boot was not about to count. A
// restart within the boot does not count, as a TPM's memory wears and an agent
// may crash in a loop; what is restored within one boot is restored by someone
// who is root here, whom the vault does not keep out.

// checkCounter compares the vault with the TPM, if there is one that counts.
func (v *Vault) checkCounter(record *keychain.Record, keyID string, m meta) error {
	if !record.Counts(keyID) {
		return nil
	}
	n, err := record.Counter(keyID)
	switch {
	case errors.Is(err, keychain.ErrCounter):
		return fmt.Errorf("%w: the TPM no longer counts for %s; %s: %w", err, v.path(dbName), acceptIt, ErrRolledBack)
	case err != nil:
		return fmt.Errorf("%w: %w", err, ErrKeyMissing)
	case n == m.Counter, n == m.Counter+1 && m.Counting:
		return nil
	}
	return fmt.Errorf("%s has counted to %d, the TPM to %d: the state directory was replaced by an older copy as a whole; %s: %w", v.path(dbName), m.Counter, n, acceptIt, ErrRolledBack)
}

// count has the TPM count, once each boot. It runs before the writer does.
func (v *Vault) count() error {
	id := v.keys.id
	boot := v.clock.Now().BootID
	if !v.record.Counts(id) || !v.meta.Counting && boot != "" && boot == v.meta.CounterBoot {
		return nil
	}
	n, err := v.record.Counter(id)
	if err != nil {
		return fmt.Errorf("%w: %w", err, ErrKeyMissing)
	}
	if n == v.meta.Counter {
		if err := v.amend(func(m *meta) { m.Counting = true }); err != nil {
			return err
		}
		onStep(stepCounting)
		if err := v.record.Advance(id); err != nil {
			// TPMs bound how often they write (TPM_RC_NV_RATE). The vault stays
			// about to count, which is a state that opens.
			v.log.Warn("the TPM does not count at present; it is tried again at the next start", "error", err)
			return nil
		}
		onStep(stepCounted)
		if n, err = v.record.Counter(id); err != nil {
			return fmt.Errorf("%w: %w", err, ErrKeyMissing)
		}
	}
	return v.amend(func(m *meta) { m.Counter, m.CounterBoot, m.Counting = n, boot, false })
}

// amend commits a change of the vault's account alone.
func (v *Vault) amend(change func(*meta)) error {
	next := v.meta.clone()
	change(&next)
	bolt, err := v.store.begin(true)
	if err == nil {
		err = guard(func() error { return v.finish(bolt, &next) })
	}
	if err == nil {
		err = v.flush(bolt, next)
	}
	if err != nil {
		_ = v.store.rollback(bolt)
		if !known(err) {
			err = unwritable(v.path(dbName), err)
		}
		return err
	}
	v.publish(next, next.LastSeq != v.meta.LastSeq)
	return nil
}
