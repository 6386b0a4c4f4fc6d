package vault

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"sallyport/internal/vault/statefile"
)

// The buckets of records.
const (
	Users    = "users"    // one for each enrolled user, by "uid:N"
	Pending  = "pending"  // what waits to be confirmed or used
	Settings = "settings" // what the agent itself must remember
)

// The buckets of the vault's own.
const (
	bucketEvents = "events"
	bucketMeta   = "meta"
)

var recordBuckets = []string{Users, Pending, Settings}

var (
	keyPlain = []byte("plain")
	keyMeta  = []byte("meta")
)

const (
	dbName  = "vault.db"
	dirPerm = 0o700

	// growBy is how much the file grows at a time; growing costs a flush.
	growBy = 1 << 20
)

// lockPatience is how long an agent that is just stopping may take to let go.
var lockPatience = 3 * time.Second

// store is the open vault.db.
type store struct {
	db   *bbolt.DB
	file *os.File // the one db uses

	dead    atomic.Bool // bbolt may hold its locks for ever: hands off
	suspect atomic.Bool // a page could not be read: check everything again
}

// doubtful says whether the store must be opened again before it is used.
func (s *store) doubtful() bool { return s.dead.Load() || s.suspect.Load() }

// boltOptions never let bbolt create the file: it would take a missing or an
// empty one for a new database, in which nobody is enrolled. The freelist is
// kept on the disk: rebuilding it makes bbolt walk the pages in a goroutine of
// its own, where a damaged page ends the process.
func boltOptions(open func() (*os.File, error)) *bbolt.Options {
	return &bbolt.Options{
		Timeout:         lockPatience,
		FreelistType:    bbolt.FreelistMapType,
		InitialMmapSize: mapSize,
		NoStatistics:    true,
		OpenFile:        func(string, int, os.FileMode) (*os.File, error) { return open() },
	}
}

func openStore(path string) (*store, error) {
	s := &store{}
	err := guard(func() (err error) {
		s.db, err = bbolt.Open(path, 0o600, boltOptions(func() (*os.File, error) {
			f, err := statefile.Open(path, os.O_RDWR, statefile.Private)
			if err != nil {
				return nil, err
			}
			s.file = f
			info, err := f.Stat()
			if err != nil {
				return nil, err
			}
			if info.Size() == 0 {
				return nil, fmt.Errorf("%s has 0 bytes; %s: %w", path, restoreAll, ErrEmptied)
			}
			if err := checkPages(f, info.Size()); err != nil {
				return nil, fmt.Errorf("%s: %w; %s: %w", path, err, restoreAll, ErrCorrupt)
			}
			return f, nil
		}))
		return err
	})
	if err == nil {
		s.db.AllocSize = growBy
		return s, nil
	}
	if s.file != nil {
		_ = s.file.Close() // bbolt has, unless it panicked
	}
	switch {
	case known(err):
		return nil, err
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, fmt.Errorf("%s: %w", path, ErrBusy)
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s is gone; %s: %w", path, restoreAll, ErrMissing)
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum), errors.Is(err, bolterrors.ErrVersionMismatch):
		return nil, fmt.Errorf("%s is no vault (%w); %s: %w", path, err, restoreAll, ErrCorrupt)
	case remedy(err) != "":
		return nil, unwritable(path, err)
	}
	return nil, classify(fmt.Errorf("cannot open %s: %w", path, err))
}

// createStore makes a vault.db with empty buckets and the content that fill
// puts in, under another name until all of it is on the disk.
func createStore(path string, fill func(*bbolt.Tx) error) error {
	tmp := path + ".new"
	if err := statefile.Remove(tmp); err != nil {
		return err
	}
	opts := boltOptions(func() (*os.File, error) { return statefile.Create(tmp) })
	opts.InitialMmapSize = 0
	db, err := bbolt.Open(tmp, 0o600, opts)
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, name := range append([]string{bucketEvents, bucketMeta}, recordBuckets...) {
			if _, err := tx.CreateBucket([]byte(name)); err != nil {
				return err
			}
		}
		return fill(tx)
	})
	if err == nil {
		err = db.Sync()
	}
	if cerr := db.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	if err := statefile.Rename(tmp, path); err != nil {
		return err
	}
	return statefile.SyncDir(filepath.Dir(path))
}

// begin starts a transaction. bbolt reads its meta pages with its locks held, and
// would hold them for ever if that raised a fault, so the pages are tried first.
// Should it happen all the same, the store is dead: nothing may touch db again.
func (s *store) begin(writable bool) (tx *bbolt.Tx, err error) {
	var head [pageHeader + 64]byte
	sound := false
	for _, at := range []int64{0, int64(os.Getpagesize())} {
		if _, err := s.file.ReadAt(head[:], at); err == nil {
			_, ok := parseBoltMeta(head[:])
			sound = sound || ok
		}
	}
	if !sound || s.dead.Load() {
		s.dead.Store(true)
		return nil, fmt.Errorf("%s was damaged while the agent was using it; %s: %w", s.file.Name(), restoreAll, ErrCorrupt)
	}
	err = guard(func() error {
		tx, err = s.db.Begin(writable)
		return err
	})
	if errors.Is(err, ErrCorrupt) {
		s.dead.Store(true)
	}
	return tx, err
}

// rollback ends a transaction without its changes. If even that panics, bbolt
// may hold locks.
func (s *store) rollback(tx *bbolt.Tx) error {
	if tx == nil || s.dead.Load() {
		return nil
	}
	err := guard(tx.Rollback)
	if errors.Is(err, ErrCorrupt) {
		s.dead.Store(true)
	}
	return err
}

// close closes the file, and of a dead store only that: the mapping stays until
// the process ends, and would keep the file locked.
func (s *store) close() error {
	if s.dead.Load() {
		return errors.Join(unlock(s.file), s.file.Close())
	}
	return s.db.Close()
}

// sync flushes the file, and with it whatever a killed agent left in the
// kernel's cache.
func (s *store) sync() error {
	if err := s.file.Sync(); err != nil {
		return unwritable(s.file.Name(), err)
	}
	return nil
}

// readPlain reads what vault.db says in the clear.
func (s *store) readPlain() (p plain, err error) {
	path := s.file.Name()
	err = s.view(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(bucketMeta))
		if b == nil || b.Get(keyPlain) == nil || b.Get(keyMeta) == nil {
			return fmt.Errorf("%s is an empty database, not a vault; %s: %w", path, restoreAll, ErrEmptied)
		}
		if p, err = decodePlain(b.Get(keyPlain)); errors.Is(err, ErrNewer) {
			return fmt.Errorf("%s: %w; %s", path, err, updateIt)
		} else if err != nil {
			return fmt.Errorf("%s: %w; %s: %w", path, err, restoreAll, ErrCorrupt)
		}
		return nil
	})
	return p, err
}

// readMeta unseals the account of the vault, and checks the records against it.
func (s *store) readMeta(k *keyring) (m meta, err error) {
	err = s.view(func(tx *bbolt.Tx) error {
		if m, err = metaOf(tx, k); err != nil {
			return err
		}
		return verify(tx, k, m)
	})
	if err != nil {
		return meta{}, fmt.Errorf("%s: %w", s.file.Name(), err)
	}
	return m, nil
}

func metaOf(tx *bbolt.Tx, k *keyring) (m meta, err error) {
	b := tx.Bucket([]byte(bucketMeta))
	if b == nil {
		return meta{}, fmt.Errorf("no account of the vault: %w", ErrEmptied)
	}
	raw, err := k.open(bucketMeta, keyMeta, b.Get(keyMeta))
	if err == nil {
		err = json.Unmarshal(raw, &m)
	}
	if err != nil {
		return meta{}, fmt.Errorf("the account of the vault cannot be unsealed with its own key; %s: %w: %w", restoreAll, err, ErrCorrupt)
	}
	if m.Counts == nil {
		m.Counts = map[string]uint64{}
	}
	return m, nil
}

// verify recomputes what m says about the set of records and the events.
func verify(tx *bbolt.Tx, k *keyring, m meta) error {
	var digest setDigest
	t := k.toggler()
	for _, name := range recordBuckets {
		b := tx.Bucket([]byte(name))
		if b == nil {
			return fmt.Errorf("bucket %q is gone; %s: %w", name, restoreAll, ErrCorrupt)
		}
		var n uint64
		c := b.Cursor()
		for key, _ := c.First(); key != nil; key, _ = c.Next() {
			t.toggle(&digest, name, key)
			n++
		}
		if n != m.Counts[name] {
			return fmt.Errorf("bucket %q holds %d records, not %d; %s: %w", name, n, m.Counts[name], restoreAll, ErrCorrupt)
		}
	}
	if digest != m.Digest {
		return fmt.Errorf("the set of records is not the one that was committed; %s: %w", restoreAll, ErrCorrupt)
	}
	b := tx.Bucket([]byte(bucketEvents))
	if b == nil {
		return fmt.Errorf("bucket %q is gone; %s: %w", bucketEvents, restoreAll, ErrCorrupt)
	}
	c := b.Cursor()
	first, _ := c.First()
	last, _ := c.Last()
	if (m.Events == 0) != (first == nil) ||
		m.Events > 0 && (!bytes.Equal(first, seqKey(m.firstSeq())) || !bytes.Equal(last, seqKey(m.LastSeq))) {
		return fmt.Errorf("the events are not the ones that were committed; %s: %w", restoreAll, ErrCorrupt)
	}
	return nil
}

func (s *store) view(fn func(*bbolt.Tx) error) error {
	tx, err := s.begin(false)
	if err != nil {
		return err
	}
	defer func() { _ = s.rollback(tx) }()
	return guard(func() error { return fn(tx) })
}

var errPage = errors.New("a page cannot be read")

// guard turns the panics of bbolt on a damaged page, and the faults of its
// mapping on a truncated or unreadable file, into ErrCorrupt.
func guard(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w (%.200s); %s: %w", errPage, fmt.Sprint(p), restoreAll, ErrCorrupt)
		}
	}()
	return fn()
}

func seqKey(seq uint64) []byte { return binary.BigEndian.AppendUint64(nil, seq) }
