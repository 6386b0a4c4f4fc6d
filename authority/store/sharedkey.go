package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
)

// SharedKey is a key of 32 bytes that all nodes have, kept under a setting and made
// when it is first needed. Safe for concurrent use.
type SharedKey struct {
	Setting string

	mu  sync.Mutex
	key []byte // once it was read
}

// Get returns the key.
func (k *SharedKey) Get(ctx context.Context, s Store) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.key != nil {
		return k.key, nil
	}
	fresh := make([]byte, 32)
	_, _ = rand.Read(fresh) // never fails: crypto/rand
	var key []byte
	err := s.Update(ctx, func(tx Tx) (err error) {
		key, err = tx.Setting(k.Setting)
		if errors.Is(err, ErrNotFound) {
			key = fresh
			return tx.PutSetting(k.Setting, key)
		}
		return err
	})
	if err == nil && len(key) != len(fresh) {
		err = fmt.Errorf("the setting %s is damaged", k.Setting)
	}
	if err != nil {
		return nil, err
	}
	k.key = key
	return key, nil
}
