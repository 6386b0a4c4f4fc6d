package vault

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"

	"sallyport/internal/event"
	"sallyport/internal/keychain"
	"sallyport/internal/vault/statefile"
)

// initialise makes a new vault. It is built aside, so that a keychain that does
// not work leaves the old one alone; from the intent on, a crash is followed by
// another initialise at the next start.
func (v *Vault) initialise() error {
	build := v.path(buildName)
	if err := os.RemoveAll(build); err != nil {
		return unwritable(build, err)
	}
	id, err := v.build(build)
	if err != nil {
		return err
	}
	onStep("built")
	if err := statefile.Write(v.path(intentName), []byte(id+"\n")); err != nil {
		return unwritable(v.path(intentName), err)
	}
	onStep("intended")
	if err := v.moveAside(); err != nil {
		return err
	}
	onStep("moved aside")
	for _, name := range []string{keychainName, dbName} {
		if err := statefile.Rename(filepath.Join(build, name), v.path(name)); err != nil {
			return unwritable(v.path(name), err)
		}
		onStep(name + " in place")
	}
	if err := os.Remove(build); err != nil {
		return unwritable(build, err)
	}
	if err := statefile.SyncDir(v.dir); err != nil {
		return unwritable(v.dir, err)
	}
	v.writeMarker(id)
	onStep("marked")
	if err := statefile.Remove(v.path(intentName)); err != nil {
		return unwritable(v.path(intentName), err)
	}
	onStep("done")
	v.log.Info("a new, empty vault is in place", "dir", v.dir, "vault", id)
	return nil
}

// build makes a complete vault of one commit in dir.
func (v *Vault) build(dir string) (string, error) {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	name := hex.EncodeToString(id[:])
	kdir := filepath.Join(dir, keychainName)
	for _, d := range []string{dir, kdir} {
		if err := statefile.EnsureDir(d); err != nil {
			return "", unwritable(d, err)
		}
	}
	record, key, err := keychain.Create(kdir, name, v.opts.Keychain, v.log)
	if err != nil {
		return "", err
	}
	defer key.Wipe()
	keys, err := newKeyring(key)
	if err != nil {
		return "", err
	}
	counter, err := record.Counter(keys.id)
	if err != nil {
		return "", err
	}
	now := v.clock.Now().Wall
	m := meta{
		Vault: name, Generation: 1, Counts: map[string]uint64{}, Highest: now,
		Counter: counter, CounterBoot: v.clock.Now().BootID,
	}
	err = createStore(filepath.Join(dir, dbName), func(tx *bbolt.Tx) error {
		raw, err := json.Marshal(event.Event{Seq: 1, Time: now, Name: event.VaultInitialised})
		if err != nil {
			return err
		}
		if err := putEvent(tx, keys, &m, raw); err != nil {
			return err
		}
		if err := putPlain(tx, plain{plainFormat, name, keys.id}); err != nil {
			return err
		}
		return putMeta(tx, keys, m)
	})
	if err != nil {
		return "", unwritable(filepath.Join(dir, dbName), err)
	}
	path := filepath.Join(kdir, anchorName)
	if err := createAnchor(path); err != nil {
		return "", unwritable(path, err)
	}
	a, err := openAnchor(path, keys.anchor, id)
	if err != nil {
		return "", err
	}
	return name, errors.Join(a.settle(m.Generation, m.Digest), a.f.Close())
}

func putPlain(tx *bbolt.Tx, p plain) error {
	raw, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return tx.Bucket([]byte(bucketMeta)).Put(keyPlain, raw)
}

// moveAside puts what is left of an earlier vault into a directory of its own.
func (v *Vault) moveAside() error {
	var old string
	for _, name := range []string{dbName, keychainName} {
		there, err := statefile.Exists(v.path(name))
		if err != nil {
			return unwritable(v.path(name), err)
		}
		if !there {
			continue
		}
		if old == "" {
			if old, err = v.makeOld(); err != nil {
				return err
			}
		}
		if err := statefile.Rename(v.path(name), filepath.Join(old, name)); err != nil {
			return unwritable(old, err)
		}
		v.log.Warn("moved out of the way of a new vault", "file", v.path(name), "to", old)
		if name == keychainName {
			if record, err := keychain.Load(filepath.Join(old, name), v.opts.Keychain); err == nil {
				record.Retire(v.log)
			}
		}
	}
	if old == "" {
		return nil
	}
	return errors.Join(statefile.SyncDir(old), statefile.SyncDir(v.dir))
}

func (v *Vault) makeOld() (string, error) {
	base := v.path(oldPrefix + v.clock.Now().Wall.UTC().Format("20060102T150405Z"))
	for n := 1; ; n++ {
		old := base
		if n > 1 {
			old = fmt.Sprintf("%s-%d", base, n)
		}
		err := os.Mkdir(old, dirPerm)
		if err == nil {
			return old, nil
		}
		if !errors.Is(err, os.ErrExist) {
			return "", unwritable(old, err)
		}
	}
}
