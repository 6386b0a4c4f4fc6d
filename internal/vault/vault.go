// Package vault keeps what the agent must remember: who is enrolled, which code
// was used last, who is locked out, and what happened. It is one bbolt file of
// sealed records with one writer, and it is closed by default: a vault that is
// missing, emptied, damaged, copied from elsewhere or older than it should be is
// an error, never an empty vault, because an empty vault means that nobody is
// asked for a second factor.
//
// In the state directory:
//
//	vault.db              the records, each sealed with AES-256-GCM
//	keychain/record.json  where the key is (package keychain)
//	keychain/key          the key itself, if it is in a file
//	keychain/anchor       how far the vault has come (see testimony)
//	old-TIME/             what 'sallyport vault init' moved out of the way
//	initialising          there only while a new vault is put in place
//	new.tmp/              a new vault being built
//	lock                  on Windows, there only while an agent has the vault
package vault

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"sallyport/internal/clock"
	"sallyport/internal/keychain"
	"sallyport/internal/secret"
	"sallyport/internal/vault/statefile"
)

// Options says where the vault is, and with what it works.
type Options struct {
	Dir        string // the state directory; made if it is not there
	Marker     string // a file outside Dir that remembers that Dir has a vault; "" for none
	Keychain   keychain.Config
	Clock      clock.Clock  // nil is the system's
	EventLimit int          // how many events are kept; 0 is DefaultEventLimit
	Log        *slog.Logger // nil is slog.Default()
	// Implicit: nobody wrote Dir down, it is only the default. Then a vault that
	// the marker remembers anywhere speaks against a first start: the file that
	// named its directory is gone or broken.
	Implicit bool
	// MustExist: a vault that is not there is an error, never a first start.
	MustExist bool
}

// DefaultEventLimit is how many events are kept if nothing else is said.
const DefaultEventLimit = 20000

const (
	keychainName = "keychain"
	anchorName   = "anchor"
	intentName   = "initialising"
	buildName    = "new.tmp"
	oldPrefix    = "old-"
)

// Info describes the vault for status and for the helpdesk.
type Info struct {
	Dir           string            `json:"dir"`
	VaultID       string            `json:"vault_id"`
	Keychain      keychain.Kind     `json:"keychain"`
	KeyID         string            `json:"key_id"`
	Generation    uint64            `json:"generation"`
	Counts        map[string]uint64 `json:"counts"` // records by bucket
	Events        uint64            `json:"events"`
	EventsDropped uint64            `json:"events_dropped"`
	LastSeq       uint64            `json:"last_seq"`
	Highest       time.Time         `json:"highest"`
	ClockBehind   time.Duration     `json:"clock_behind"` // 0 when the clock is not behind Highest
	FileSize      int64             `json:"file_size"`
	MarkerError   string            `json:"marker_error,omitempty"`
	Problem       string            `json:"problem,omitempty"` // why nothing can be stored at present
	Opened        time.Time         `json:"opened"`
}

// Vault is an open vault.
type Vault struct {
	dir        string
	opts       Options
	clock      clock.Clock
	log        *slog.Logger
	eventLimit uint64
	lock       *os.File
	opened     time.Time

	queue   chan *request
	written chan struct{} // closed when the writer has ended
	closing sync.RWMutex
	closed  bool

	// The writer's own. Others read store and keys under storeMu, which the
	// writer takes to change them.
	storeMu  sync.RWMutex
	store    *store // nil while broken
	keys     *keyring
	broken   error // why the store must be opened again before the next commit
	key      *secret.Key
	record   *keychain.Record
	anchor   *anchor
	toggler  *toggler
	meta     meta
	unmarked bool // the anchor's mark is not flushed

	mu          sync.Mutex
	info        Info
	changed     chan struct{}
	markerError string
}

// onStep is for the tests, which copy the directory behind each step of a rekey
// and of an init, as a crash there would leave it.
var onStep = func(step string) {}

// Open opens the vault. On a true first start, when nothing at all hints at an
// earlier vault, it makes one.
func Open(opts Options) (*Vault, error) {
	return start(opts, func(v *Vault) error {
		fresh, err := v.survey()
		if err != nil {
			return err
		}
		if fresh && opts.MustExist {
			return fmt.Errorf("%s holds no vault, and none is made while the configuration is broken: %w", v.dir, ErrMissing)
		}
		if fresh {
			v.log.Info("no vault was ever here: making one", "dir", v.dir)
			return v.initialise()
		}
		return nil
	})
}

// Init makes a new, empty vault on purpose. What was there is moved to old-TIME,
// never deleted.
func Init(opts Options) (*Vault, error) {
	return start(opts, (*Vault).initialise)
}

func start(opts Options, prepare func(*Vault) error) (*Vault, error) {
	v, err := lockDir(opts)
	if err != nil {
		return nil, classify(err)
	}
	if err = prepare(v); err == nil {
		err = v.load()
	}
	if err != nil {
		v.unlock()
		return nil, classify(err)
	}
	return v, nil
}

// lockDir takes the state directory for this process.
func lockDir(opts Options) (*Vault, error) {
	if opts.Dir == "" {
		return nil, errors.New("vault: no directory given")
	}
	dir, err := filepath.Abs(opts.Dir)
	if err != nil {
		return nil, err
	}
	if err := opts.Keychain.Kind.Check(); err != nil {
		return nil, err
	}
	v := &Vault{
		dir: dir, opts: opts, clock: opts.Clock, log: opts.Log, eventLimit: DefaultEventLimit,
		queue: make(chan *request, queueLength), written: make(chan struct{}), changed: make(chan struct{}),
	}
	if v.clock == nil {
		v.clock = clock.System()
	}
	if v.log == nil {
		v.log = slog.Default()
	}
	if opts.EventLimit > 0 {
		v.eventLimit = uint64(opts.EventLimit)
	}
	if err := statefile.EnsureDir(dir); err != nil {
		if errors.Is(err, statefile.ErrUntrusted) {
			return nil, err
		}
		return nil, unwritable(dir, err)
	}
	if err := v.takeLock(lockPatience); err != nil {
		return nil, err
	}
	return v, nil
}

// takeLock takes the state directory for this process.
func (v *Vault) takeLock(patience time.Duration) error {
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		f, err := statefile.Lock(v.dir)
		if err == nil {
			v.lock = f
			return nil
		}
		if !errors.Is(err, statefile.ErrLocked) {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("another agent works on %s; stop it first: %w", v.dir, ErrBusy)
		}
	}
}

func (v *Vault) path(elem ...string) string {
	return filepath.Join(append([]string{v.dir}, elem...)...)
}

// survey says whether this is a true first start, or fails if it looks like one
// but is not.
func (v *Vault) survey() (fresh bool, err error) {
	if there, err := statefile.Exists(v.path(intentName)); err != nil || there {
		// A new vault was being put in place when the agent or the computer
		// stopped. Nobody has used it yet: start over.
		return there, err
	}
	db, err := statefile.Exists(v.path(dbName))
	if err != nil || db {
		return false, err
	}
	entries, err := os.ReadDir(v.dir)
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		name := e.Name()
		if name == keychainName || len(name) > len(oldPrefix) && name[:len(oldPrefix)] == oldPrefix {
			return false, fmt.Errorf("%s is gone, but %s is there; %s: %w", v.path(dbName), v.path(name), restoreAll, ErrMissing)
		}
	}
	return true, v.denyIfMarked()
}

// load opens what is there and checks it.
func (v *Vault) load() error {
	if err := v.open(false); err != nil {
		return err
	}
	if err := v.count(); err != nil {
		v.shut()
		return err
	}
	v.opened = v.clock.Now().Wall
	v.writeMarker(v.meta.Vault)
	v.publish(v.meta, false)
	go v.write()
	return nil
}

// open opens the keychain, the store and the anchor, checks each against the
// others and brings the anchor up to date. With accept it takes another
// computer's record and another time's anchor, but nothing that is damaged.
func (v *Vault) open(accept bool) (err error) {
	dir := v.path(keychainName)
	record, err := keychain.Load(dir, v.opts.Keychain)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is gone, so %s cannot be opened; %s: %w", filepath.Join(dir, keychain.RecordName), v.path(dbName), restoreAll, ErrKeyMissing)
	} else if err != nil {
		return err
	}
	if err := statefile.CheckDir(dir); err != nil {
		return err
	}
	s, err := openStore(v.path(dbName))
	if err != nil {
		return err
	}
	var a *anchor
	defer func() {
		if err != nil {
			_ = s.close()
			if a != nil {
				_ = a.f.Close()
			}
		}
	}()
	p, err := s.readPlain()
	if err != nil {
		return err
	}
	id, err := parseVaultID(p.Vault)
	if err != nil {
		return err
	}
	if p.Vault != record.VaultID() || record.KindOf(p.KeyID) == "" {
		return fmt.Errorf("%s was not sealed with the key of %s: one of them came from another computer or another time; %s: %w", v.path(dbName), dir, restoreAll, ErrCopied)
	}
	if !accept && !record.SameComputer(p.KeyID) {
		return fmt.Errorf("%s was made on a computer with another machine id (%s): the state directory was copied, or the system was installed anew; %s: %w", v.dir, keychain.MachineID, acceptIt, ErrCopied)
	}
	key := v.key
	if key == nil || keychain.ID(key) != p.KeyID {
		fetch := record.Key
		if accept {
			fetch = record.KeyUnchecked
		}
		if key, err = fetch(p.KeyID); err != nil {
			return err
		}
	}
	keys, err := newKeyring(key)
	if err != nil {
		return err
	}
	m, err := s.readMeta(keys)
	if err != nil {
		return err
	}
	if m.Vault != p.Vault {
		return fmt.Errorf("%s names two vaults; %s: %w", v.path(dbName), restoreAll, ErrCorrupt)
	}
	if accept {
		if err := s.unsealAll(keys); err != nil {
			return err
		}
	}
	// What a killed agent left in the kernel's cache must be on the disk before
	// the anchor vouches for it.
	if err := s.sync(); err != nil {
		return err
	}
	path := filepath.Join(dir, anchorName)
	if accept {
		if err := createAnchor(path); err != nil {
			return unwritable(path, err)
		}
		if err := record.Rebind(key, v.log); err != nil {
			return unwritable(dir, err)
		}
	}
	if a, err = openAnchor(path, keys.anchor, id); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is gone, and with it the proof that %s is the latest; %s: %w", path, v.path(dbName), acceptIt, ErrRolledBack)
	} else if err != nil {
		return err
	}
	if !accept {
		if err := a.vouch(m); err != nil {
			return err
		}
		if v.key == nil { // at a start; after a failure, the TPM need not be asked again
			if err := v.checkCounter(record, p.KeyID, m); err != nil {
				return err
			}
		}
	}
	if err := a.settle(m.Generation, m.Digest); err != nil {
		return err
	}
	if err := record.Finish(key, v.log); err != nil {
		return unwritable(dir, err)
	}

	v.storeMu.Lock()
	defer v.storeMu.Unlock()
	v.store, v.keys, v.key, v.record, v.anchor = s, keys, key, record, a
	v.meta, v.toggler, v.broken, v.unmarked = m, keys.toggler(), nil, false
	return nil
}

// vouch checks the vault's account against the anchor.
func (a *anchor) vouch(m meta) error {
	t, err := a.read()
	if err != nil {
		return fmt.Errorf("%s cannot be used (%w); %s: %w", a.f.Name(), err, acceptIt, ErrCorrupt)
	}
	if err := t.accepts(m.Generation); err != nil {
		return fmt.Errorf("%s: %w", dbName, err)
	}
	if slot := t.slots[m.Generation%2]; slot != nil && slot.generation == m.Generation && slot.digest != m.Digest {
		return fmt.Errorf("%s holds another set of users than its anchor says; %s: %w", dbName, restoreAll, ErrCorrupt)
	}
	return nil
}

// usable makes sure that a commit can begin: after a failure the store is opened
// and checked again, as at a start. It runs on the writer.
func (v *Vault) usable() error {
	if v.broken == nil && !v.store.doubtful() {
		return nil
	}
	v.shut()
	if err := v.reopen(); err != nil {
		err = classify(err)
		v.setBroken(err)
		return err
	}
	v.log.Info("the vault can be used again", "dir", v.dir, "generation", v.meta.Generation)
	v.publish(v.meta, false)
	return nil
}

// reopen opens the vault again, from the directory that has its name now.
func (v *Vault) reopen() (err error) {
	if err := statefile.CheckDir(v.dir); err != nil {
		return err
	}
	if err := v.takeLock(0); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			v.unlock()
		}
	}()
	if fresh, err := v.survey(); err != nil {
		return err
	} else if fresh {
		return fmt.Errorf("%s was emptied under the running agent, or its file system is not mounted; mount it, or %s: %w", v.dir, restoreAll, ErrMissing)
	}
	return v.open(false)
}

func (v *Vault) unlock() {
	if v.lock != nil {
		_ = v.lock.Close()
		v.lock = nil
	}
}

// failed ends a transaction that could not be committed, and opens the vault
// again to see what is on the disk.
func (v *Vault) failed(tx *bbolt.Tx, err error) error {
	_ = v.store.rollback(tx) // without effect if the commit did it itself
	if !known(err) {
		err = unwritable(v.path(dbName), err)
	}
	v.log.Error("the vault could not be written; what was asked for is denied", "error", err)
	v.setBroken(err)
	v.shut()
	_ = v.usable()
	return err
}

// shut closes the store and the anchor, and lets the kernel forget what it
// believes to be in them. It holds on to nothing: the file system can be
// unmounted and repaired while the agent denies.
func (v *Vault) shut() {
	v.storeMu.Lock()
	defer v.storeMu.Unlock()
	if v.store == nil {
		return
	}
	if err := v.store.close(); err != nil {
		v.log.Warn("closing the vault", "error", err)
	}
	if err := v.anchor.f.Close(); err != nil {
		v.log.Warn("closing the anchor", "error", err)
	}
	v.store, v.anchor = nil, nil
	v.unlock()
	for _, path := range []string{v.path(dbName), v.path(keychainName, anchorName)} {
		if err := forget(path); err != nil {
			v.log.Warn("the kernel's cache of a file cannot be dropped", "file", path, "error", err)
		}
	}
}

func (v *Vault) setBroken(err error) {
	v.storeMu.Lock()
	v.broken = err
	v.storeMu.Unlock()
	v.mu.Lock()
	v.info.Problem = err.Error()
	v.mu.Unlock()
}

// View calls fn with the vault as it was committed last. It can run while others
// read and while Update commits. fn must not call Update.
func (v *Vault) View(fn func(*Tx) error) error {
	v.storeMu.RLock()
	if v.store == nil && v.broken != nil || v.store != nil && v.store.doubtful() {
		// Perhaps the cause is gone. Only the writer may find out.
		v.storeMu.RUnlock()
		if err := v.enqueue(context.Background(), &request{alone: v.usable, done: make(chan error, 1)}); err != nil {
			return err
		}
		v.storeMu.RLock()
	}
	defer v.storeMu.RUnlock()
	if v.store == nil {
		return cmp.Or(v.broken, ErrClosed)
	}
	s := v.store
	b, err := s.begin(false)
	if err != nil {
		return classify(err)
	}
	defer func() { _ = s.rollback(b) }()
	tx := &Tx{v: v, store: s, bolt: b, keys: v.keys}
	return run(tx, fn)
}

// publish makes the account known to Info and, if there are new events, to
// whoever waits for them. With the first event comes the next channel.
func (v *Vault) publish(m meta, newEvents bool) {
	v.meta = m
	v.mu.Lock()
	defer v.mu.Unlock()
	v.info = Info{
		Dir: v.dir, VaultID: m.Vault, Keychain: v.record.KindOf(v.keys.id), KeyID: v.keys.id,
		Generation: m.Generation, Counts: m.clone().Counts, Events: m.Events, EventsDropped: m.Dropped,
		LastSeq: m.LastSeq, Highest: m.Highest, Opened: v.opened,
	}
	if newEvents {
		close(v.changed)
		v.changed = make(chan struct{})
	}
}

// Info describes the vault.
func (v *Vault) Info() Info {
	v.mu.Lock()
	i := v.info
	i.MarkerError = v.markerError
	v.mu.Unlock()
	now := v.clock.Now()
	now.Highest = i.Highest
	i.ClockBehind = now.Behind()
	if info, err := os.Stat(v.path(dbName)); err == nil {
		i.FileSize = info.Size()
	}
	counts := make(map[string]uint64, len(i.Counts))
	for k, n := range i.Counts {
		counts[k] = n
	}
	i.Counts = counts
	return i
}

// Changed returns a channel that is closed at the next commit that appends an
// event, or when the vault is. Take it before reading, then wait for it.
func (v *Vault) Changed() <-chan struct{} {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.changed
}

// Close finishes what is queued and closes the vault.
func (v *Vault) Close() error {
	v.closing.Lock()
	if v.closed {
		v.closing.Unlock()
		<-v.written
		return nil
	}
	v.closed = true
	v.closing.Unlock()
	close(v.queue)
	<-v.written
	v.mu.Lock()
	close(v.changed) // nobody waits for what will not come
	v.mu.Unlock()

	v.storeMu.Lock()
	defer v.storeMu.Unlock()
	var err error
	if v.store != nil {
		err = errors.Join(v.store.close(), v.anchor.f.Close())
	}
	v.store, v.broken = nil, nil
	v.key.Wipe()
	v.unlock()
	return err
}
