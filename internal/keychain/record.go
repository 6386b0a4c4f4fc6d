package keychain

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"

	"sallyport/internal/secret"
	"sallyport/internal/vault/statefile"
)

// RecordName is the file that says where the key is.
const RecordName = "record.json"

const (
	recordVersion = 1
	recordLimit   = 16 << 10
)

// Record says where the vault's key is, for which vault, and on which computer.
// It is authenticated with the key that it leads to.
type Record struct {
	dir string
	cfg Config
	content
	raw  []byte            // content as it was read
	macs map[string][]byte // of raw, by key id
}

type content struct {
	Version int    `json:"version"`
	Vault   string `json:"vault"`
	Machine string `json:"machine,omitempty"`
	Current entry  `json:"current"`
	Next    *entry `json:"next,omitempty"` // while a rekey is under way
}

// onDisk is the file: the content as it was authenticated, and the MACs of it.
type onDisk struct {
	Content json.RawMessage   `json:"content"`
	MACs    map[string][]byte `json:"macs"`
}

// Create makes the key of a new vault and its record in dir, which must exist
// and hold neither.
func Create(dir, vault string, cfg Config, log *slog.Logger) (*Record, *secret.Key, error) {
	if err := statefile.CheckDir(dir); err != nil {
		return nil, nil, err
	}
	e, key, err := choose(site{dir, vault, cfg}, log)
	if err != nil {
		return nil, nil, err
	}
	r := &Record{dir: dir, cfg: cfg, content: content{Version: recordVersion, Vault: vault, Machine: cfg.machine(), Current: e}}
	if err := r.write(key); err != nil {
		key.Wipe()
		return nil, nil, err
	}
	return r, key, nil
}

// Load reads the record in dir. Nothing in it is proven before Key has returned.
// Without a record the error is fs.ErrNotExist.
func Load(dir string, cfg Config) (*Record, error) {
	path := filepath.Join(dir, RecordName)
	b, err := statefile.Read(path, recordLimit, statefile.Private)
	if err != nil {
		return nil, err
	}
	r, err := parse(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; restore it from a backup together with the vault: %w", path, err, ErrRecord)
	}
	r.dir, r.cfg = dir, cfg
	return r, nil
}

func parse(b []byte) (*Record, error) {
	var d onDisk
	if err := strict(b, &d); err != nil {
		return nil, err
	}
	r := &Record{raw: d.Content, macs: d.MACs}
	if err := strict(d.Content, &r.content); err != nil {
		return nil, err
	}
	if r.Version != recordVersion {
		return nil, fmt.Errorf("version %d, this agent knows %d", r.Version, recordVersion)
	}
	for _, e := range r.entries() {
		// The name is used as a path before anything is authenticated.
		if e.Kind == File && !isFileName(e.File) {
			return nil, fmt.Errorf("%.40q is no name for a key file", e.File)
		}
	}
	return r, nil
}

func strict(b []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if d.More() {
		return errors.New("something follows the end")
	}
	return nil
}

func (r *Record) site() site { return site{r.dir, r.Vault, r.cfg} }

func (r *Record) entries() []*entry {
	if r.Next != nil {
		return []*entry{&r.Current, r.Next}
	}
	return []*entry{&r.Current}
}

func (r *Record) entry(id string) *entry {
	for _, e := range r.entries() {
		if e.ID == id {
			return e
		}
	}
	return nil
}

// VaultID is the vault that the record belongs to.
func (r *Record) VaultID() string { return r.Vault }

// KindOf is the kind that holds the key with that id, "" if none does.
func (r *Record) KindOf(id string) Kind {
	if e := r.entry(id); e != nil {
		return e.Kind
	}
	return ""
}

// Key fetches the key with that id, from the recorded kind and no other, and
// checks the record with it.
func (r *Record) Key(id string) (*secret.Key, error) { return r.key(id, true) }

// KeyUnchecked is Key without a check of the record: for an administrator who
// accepts what is there, and for no one else.
func (r *Record) KeyUnchecked(id string) (*secret.Key, error) { return r.key(id, false) }

func (r *Record) key(id string, check bool) (*secret.Key, error) {
	path := filepath.Join(r.dir, RecordName)
	e := r.entry(id)
	if e == nil {
		return nil, fmt.Errorf("%s knows no key %.16q: %w", path, id, ErrForeign)
	}
	if want := r.cfg.Kind; want != "" && want != Auto && want != e.Kind {
		return nil, fmt.Errorf("the configuration asks for the keychain %q, but the vault's key is in %q (%s); move it with 'sallyport vault rekey --to %s', or change the configuration: %w", want, e.Kind, path, want, ErrKind)
	}
	key, err := e.key(r.site())
	if err != nil {
		return nil, err
	}
	if check && !hmac.Equal(mac(key, r.raw), r.macs[id]) {
		key.Wipe()
		return nil, fmt.Errorf("%s was changed by something else than the agent; restore it from a backup, or take it as it is with 'sallyport vault accept': %w", path, ErrRecord)
	}
	return key, nil
}

// SameComputer says whether the record was made on this computer. A key that a
// TPM sealed proves that by itself; any other could have been copied.
func (r *Record) SameComputer(id string) bool {
	return r.KindOf(id) == TPM || r.Machine == "" || r.Machine == r.cfg.machine()
}

// Rebind makes the record one of this computer, of its TPM's counter and, again,
// of its key.
func (r *Record) Rebind(key *secret.Key, log *slog.Logger) error {
	r.Machine = r.cfg.machine()
	r.recount(ID(key), log)
	return r.write(key)
}

// Begin makes a new key in the given kind and records it beside the present one.
// From here until Finish the vault decides by key id which of them counts, so a
// crash at any point leaves a vault that opens.
func (r *Record) Begin(present *secret.Key, kind Kind, log *slog.Logger) (*secret.Key, error) {
	if r.Next != nil {
		return nil, fmt.Errorf("%s: an earlier rekey is unfinished; restart the agent, which finishes it", filepath.Join(r.dir, RecordName))
	}
	if kind == Auto || kind == "" {
		return nil, fmt.Errorf("say which keychain the key shall move to: %s: %w", choice(), ErrKind)
	}
	name := firstFile
	if r.Current.File == name {
		name = secondFile
	}
	e, next, err := create(r.site(), kind, name, log)
	if err != nil {
		return nil, err
	}
	if e.ID == r.Current.ID {
		next.Wipe()
		return nil, fmt.Errorf("the %s already holds the vault's present key", kind)
	}
	r.Next = &e
	r.Machine = r.cfg.machine() // the key is at hand here, whichever kind proved that
	if err := r.write(present, next); err != nil {
		next.Wipe()
		r.Next = nil
		return nil, errors.Join(err, kind.holder().drop(r.site(), e))
	}
	log.Info("a new key for the vault is recorded", "keychain", string(kind), "key", e.ID)
	return next, nil
}

// Finish keeps the given key and forgets, and destroys, the other. Without an
// unfinished rekey it only destroys a key that no record leads to.
func (r *Record) Finish(key *secret.Key, log *slog.Logger) error {
	if r.Next != nil {
		before, keep, drop := r.content, r.Current, *r.Next
		if drop.ID == ID(key) {
			keep, drop = drop, keep
		}
		r.Current, r.Next = keep, nil
		if err := r.write(key); err != nil {
			r.content = before
			return err
		}
		r.cfg.Kind = Auto // the configuration, read before, may still name the old kind
		r.retire(drop, log)
	}
	for _, h := range holders {
		if w, ok := h.holder.(sweeper); ok {
			if err := w.sweep(r.site(), r.Current, log); err != nil {
				return err
			}
		}
	}
	return nil
}

// Counts says whether a TPM counts for the key with that id.
func (r *Record) Counts(id string) bool {
	e := r.entry(id)
	return e != nil && e.Counter != 0
}

// Counter is what the TPM has counted to.
func (r *Record) Counter(id string) (uint64, error) {
	e := r.entry(id)
	if e == nil || e.Counter == 0 {
		return 0, nil
	}
	c, ok := e.Kind.holder().(counter)
	if !ok {
		return 0, ErrCounter
	}
	return c.count(r.site(), *e)
}

// Advance has the TPM count one further.
func (r *Record) Advance(id string) error {
	e := r.entry(id)
	c, ok := e.Kind.holder().(counter)
	if !ok {
		return ErrCounter
	}
	return c.advance(r.site(), *e)
}

// Retire gives the TPM its memory back for a record that is moved out of use. Its
// keys stay: the vault that they open is kept, too.
func (r *Record) Retire(log *slog.Logger) {
	for _, e := range r.entries() {
		r.retire(*e, log)
	}
}

// Wipe destroys the keys and what a TPM keeps for them. The record goes only with all
// of it: without it nobody would know what is left where.
func (r *Record) Wipe() error {
	for _, e := range r.entries() {
		h := e.Kind.holder()
		if h == nil {
			return fmt.Errorf("%s names the keychain %q, which %s does not have: %w", filepath.Join(r.dir, RecordName), e.Kind, runtime.GOOS, ErrRecord)
		}
		if err := h.drop(r.site(), *e); err != nil {
			return err
		}
	}
	return statefile.Remove(filepath.Join(r.dir, RecordName))
}

// retire takes back what an entry uses in a TPM. What cannot be given back is only
// a waste.
func (r *Record) retire(e entry, log *slog.Logger) {
	h := e.Kind.holder()
	if _, ok := h.(counter); !ok {
		return
	}
	if err := h.drop(r.site(), e); err != nil {
		log.Warn("what the old key used in the TPM is left behind", "error", err)
	}
}

// recount makes a new counter in place of one that is gone. Without one the
// vault works, less well protected.
func (r *Record) recount(id string, log *slog.Logger) {
	e := r.entry(id)
	if e == nil {
		return
	}
	c, ok := e.Kind.holder().(counter)
	if !ok {
		return
	}
	if _, err := r.Counter(id); err == nil && e.Counter != 0 {
		return
	}
	e.Counter = c.newCounter(r.site(), log)
}

func (r *Record) write(keys ...*secret.Key) error {
	body, err := json.Marshal(r.content)
	if err != nil {
		return err
	}
	r.raw, r.macs = body, map[string][]byte{}
	for _, k := range keys {
		r.macs[ID(k)] = mac(k, body)
	}
	b, err := json.Marshal(onDisk{body, r.macs})
	if err != nil {
		return err
	}
	path := filepath.Join(r.dir, RecordName)
	if err := statefile.Write(path, append(b, '\n')); err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	return nil
}

func mac(key *secret.Key, body []byte) []byte {
	h := hmac.New(sha256.New, Subkey(key, "record"))
	h.Write(body)
	return h.Sum(nil)
}
