package vault

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"

	"sallyport/internal/vault/statefile"
)

// The anchor is the second witness of how far the vault has come. It is a file
// of three blocks beside the key, overwritten in place:
//
//	block 0  slot of the even generations
//	block 1  slot of the odd generations
//	block 2  the mark
//
// A block holds one sealed note in its first 512 bytes; the blocks are 4 KiB
// apart, so that a write torn by a power cut damages one note and no other.
const (
	anchorBlock  = 4096
	anchorSize   = 3 * anchorBlock
	markBlock    = 2
	noteMagic    = "SPanchr1"
	noteBody     = 8 + 1 + 16 + 8 + 32 // magic, kind, vault, generation, digest
	noteSize     = noteBody + sha256.Size
	notePrepared = 'P'
	noteMark     = 'C'
)

// note is what a block says.
type note struct {
	kind       byte
	vault      [16]byte
	generation uint64
	digest     [32]byte // of the set of record keys at that generation
}

func (n note) seal(key []byte) []byte {
	b := make([]byte, 0, noteSize)
	b = append(b, noteMagic...)
	b = append(b, n.kind)
	b = append(b, n.vault[:]...)
	b = binary.BigEndian.AppendUint64(b, n.generation)
	b = append(b, n.digest[:]...)
	h := hmac.New(sha256.New, key)
	h.Write(b)
	return h.Sum(b)
}

// parseNote returns the note in b, if there is one that the key authenticates.
func parseNote(key, b []byte) (n note, ok bool) {
	if len(b) < noteSize || string(b[:8]) != noteMagic {
		return note{}, false
	}
	h := hmac.New(sha256.New, key)
	h.Write(b[:noteBody])
	if !hmac.Equal(h.Sum(nil), b[noteBody:noteSize]) {
		return note{}, false
	}
	n.kind = b[8]
	copy(n.vault[:], b[9:25])
	n.generation = binary.BigEndian.Uint64(b[25:33])
	copy(n.digest[:], b[33:65])
	return n, n.kind == notePrepared || n.kind == noteMark
}

// testimony is what an anchor file says altogether.
type testimony struct {
	prepared uint64 // the highest generation in a slot
	marked   uint64 // the generation in the mark; 0 without one
	slots    [2]*note
}

// accepts decides which generations of the vault a crash can have left behind,
// given what the anchor says. Everything else is a vault (or an anchor) of
// another time.
//
// To commit generation n, when n-1 is committed and on the disk:
//
//  1. at the same time
//     a. slot n%2 := "prepared n", flushed
//     b. bbolt commits n: pages, flush, meta page, flush
//  2. when both are done: mark := "committed n", not flushed
//  3. the callers are answered
//
// Only after 2 does the commit of n+1 begin, so slot n%2 and the vault's n are
// on the disk before anything of n+1 is written, and of the two slots one is
// always at rest. The mark is a block of its own, because it is written without
// a flush: it may reach the disk later, torn or never, while a slot is in
// motion.
//
// Let p be the highest prepared generation that is legible and m the mark.
//
//   - killed (the kernel lives, nothing in its cache is lost) or power cut before
//     1a is on the disk: the slot of n is old or torn, p = n-1, and the vault is
//     at n-1, or at n if 1b was faster. So p or p+1.
//   - in or after 1a, before 1b is on the disk: p = n, the vault is at n-1 = p-1.
//     Nobody was told that n happened.
//   - after 1b: p = n, and the vault is at n = p.
//   - the mark m only ever says what was on the disk before it was written, and
//     is never ahead of the vault. When it is legible it forbids what the mere
//     preparation had to allow: with m = p, p-1 is not a crash but a roll-back,
//     by hand or because bbolt fell back to its older meta page. Killing the
//     agent loses no mark; a power cut may lose the last one (it is flushed
//     within markDelay). In that window, and only for it, one commit can be
//     rolled back unseen.
//   - the mark can be ahead of p only if the slot of m was damaged later; it
//     forbids the same.
//
// So the vault's generation g is accepted if max(p-1, m) <= g <= p+1. Neither can
// g be two ahead of p by any crash: p+2 is only begun when p+1 is flushed. An
// anchor that lags that far was restored from a copy, and would vouch for a
// vault of that time.
func (t testimony) accepts(g uint64) error {
	low := max(t.marked, 1)
	if t.prepared > low {
		low = max(low, t.prepared-1)
	}
	switch {
	case g < low:
		return fmt.Errorf("it is at generation %d, and generation %d was committed: an older copy was put in its place, or the disk lost what it had confirmed; %s: %w", g, low, acceptIt, ErrRolledBack)
	case g > t.prepared+1:
		return fmt.Errorf("it is at generation %d, and the anchor beside the key only knows %d: the keychain directory was replaced by an older copy; %s: %w", g, t.prepared, acceptIt, ErrRolledBack)
	}
	return nil
}

// readTestimony reads an anchor's content. Notes of another vault or key, and
// damaged ones, count as absent.
func readTestimony(key []byte, vault [16]byte, content []byte) (testimony, error) {
	var t testimony
	found := false
	for block := 0; block < 3; block++ {
		lo := block * anchorBlock
		if len(content) < lo+noteSize {
			break
		}
		n, ok := parseNote(key, content[lo:lo+noteSize])
		if !ok || n.vault != vault {
			continue
		}
		switch {
		case block == markBlock && n.kind == noteMark:
			t.marked = n.generation
		case block != markBlock && n.kind == notePrepared && int(n.generation%2) == block:
			t.slots[block] = &n
			t.prepared = max(t.prepared, n.generation)
			found = true
		}
	}
	if !found {
		return t, errors.New("it holds nothing legible for this vault")
	}
	return t, nil
}

// anchor is the open file.
type anchor struct {
	f     *os.File
	key   []byte
	vault [16]byte
}

// createAnchor makes an anchor file, with its blocks allocated so that it can
// be overwritten on a full disk.
func createAnchor(path string) error {
	return statefile.Write(path, make([]byte, anchorSize))
}

func openAnchor(path string, key []byte, vault [16]byte) (*anchor, error) {
	f, err := statefile.Open(path, os.O_RDWR, statefile.Private)
	if err != nil {
		return nil, err
	}
	return &anchor{f, key, vault}, nil
}

func (a *anchor) read() (testimony, error) {
	b := make([]byte, anchorSize+1)
	n, err := a.f.ReadAt(b, 0)
	if n != anchorSize {
		if err == nil || n > 0 {
			err = fmt.Errorf("it is not %d bytes long", anchorSize)
		}
		return testimony{}, err
	}
	return readTestimony(a.key, a.vault, b[:n])
}

// prepare writes "prepared g" and returns when it is on the disk.
func (a *anchor) prepare(g uint64, digest [32]byte) error {
	if err := a.put(note{notePrepared, a.vault, g, digest}, int64(g%2)*anchorBlock); err != nil {
		return err
	}
	return a.flush()
}

// mark writes "committed g", without waiting for the disk.
func (a *anchor) mark(g uint64) error {
	return a.put(note{kind: noteMark, vault: a.vault, generation: g}, markBlock*anchorBlock)
}

func (a *anchor) put(n note, at int64) error {
	if _, err := a.f.WriteAt(n.seal(a.key), at); err != nil {
		return unwritable(a.f.Name(), err)
	}
	return nil
}

func (a *anchor) flush() error {
	if err := flushData(a.f); err != nil {
		return unwritable(a.f.Name(), err)
	}
	return nil
}

// settle brings the anchor to generation g, of which the vault is known to be
// on the disk: the slot of g, at rest from now on, then the mark.
func (a *anchor) settle(g uint64, digest [32]byte) error {
	want := note{notePrepared, a.vault, g, digest}.seal(a.key)
	have := make([]byte, noteSize)
	if _, err := a.f.ReadAt(have, int64(g%2)*anchorBlock); err != nil || !bytes.Equal(want, have) {
		if err := a.prepare(g, digest); err != nil {
			return err
		}
	}
	if err := a.mark(g); err != nil {
		return err
	}
	return a.flush()
}

func parseVaultID(s string) (id [16]byte, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(id) {
		return id, fmt.Errorf("%.40q is no vault id", s)
	}
	copy(id[:], b)
	return id, nil
}
