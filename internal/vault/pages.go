package vault

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
)

// bbolt trusts the pages it maps. On a damaged one it may panic, recurse without
// end, write over pages in use or, worst, not find a key that is there, which
// would read as "not enrolled". checkPages walks the whole file once before bbolt
// sees it: every page is of the right kind, within bounds, reached once and not
// free, and all keys are in order, so that a search finds what a walk finds.
// The format is that of bbolt's internal/common (page.go, meta.go, bucket.go).
const (
	pageHeader = 16 // id u64, flags u16, count u16, overflow u32
	element    = 16 // branch: pos u32, ksize u32, pgid u64; leaf: flags, pos, ksize, vsize u32
	maxDepth   = 32

	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagFreelist = 0x10
	flagBucket   = 0x01 // of a leaf's element
)

var native = binary.NativeEndian

// boltMeta is what a meta page says.
type boltMeta struct {
	pageSize             int64
	root, freelist, high uint64
	txid                 uint64
}

func parseBoltMeta(b []byte) (m boltMeta, ok bool) {
	const size, sumAt = 64, 56
	if len(b) < pageHeader+size {
		return m, false
	}
	b = b[pageHeader : pageHeader+size]
	h := fnv.New64a()
	h.Write(b[:sumAt])
	if native.Uint32(b) != 0xED0CDAED || native.Uint32(b[4:]) != 2 || native.Uint64(b[sumAt:]) != h.Sum64() {
		return m, false
	}
	m = boltMeta{
		pageSize: int64(native.Uint32(b[8:])),
		root:     native.Uint64(b[16:]),
		freelist: native.Uint64(b[32:]),
		high:     native.Uint64(b[40:]),
		txid:     native.Uint64(b[48:]),
	}
	return m, m.pageSize >= 512 && m.pageSize <= 64<<10 && m.pageSize&(m.pageSize-1) == 0
}

type pageWalk struct {
	f    io.ReaderAt
	meta boltMeta
	seen []bool
}

// checkPages fails if the file is not a sound bbolt database.
func checkPages(f io.ReaderAt, size int64) error {
	var head [pageHeader + 64]byte
	var metas []boltMeta
	pageSize := int64(os.Getpagesize())
	if _, err := f.ReadAt(head[:], 0); err != nil {
		return fmt.Errorf("its first page cannot be read: %w", err)
	}
	if m, ok := parseBoltMeta(head[:]); ok {
		metas = append(metas, m)
		pageSize = m.pageSize
	}
	if _, err := f.ReadAt(head[:], pageSize); err == nil {
		if m, ok := parseBoltMeta(head[:]); ok && m.pageSize == pageSize {
			metas = append(metas, m)
		}
	}
	if len(metas) == 0 {
		return errors.New("neither of its two meta pages is sound")
	}
	m := metas[0]
	if len(metas) == 2 && metas[1].txid > m.txid {
		m = metas[1]
	}
	if m.high < 4 || m.high > uint64(size/m.pageSize) {
		return fmt.Errorf("it was cut short: %d bytes for %d pages", size, m.high)
	}
	w := &pageWalk{f: f, meta: m, seen: make([]bool, m.high)}
	if err := w.tree(m.root, 0, nil, nil); err != nil {
		return err
	}
	return w.free(m.freelist)
}

// page reads a page with its overflow, and claims it.
func (w *pageWalk) page(id uint64) ([]byte, error) {
	if id < 2 || id >= w.meta.high {
		return nil, fmt.Errorf("page %d does not exist", id)
	}
	head := make([]byte, w.meta.pageSize)
	if _, err := w.f.ReadAt(head, int64(id)*w.meta.pageSize); err != nil {
		return nil, fmt.Errorf("page %d cannot be read: %w", id, err)
	}
	overflow := uint64(native.Uint32(head[12:]))
	if native.Uint64(head) != id || id+overflow >= w.meta.high {
		return nil, fmt.Errorf("page %d has a damaged header", id)
	}
	for p := id; p <= id+overflow; p++ {
		if w.seen[p] {
			return nil, fmt.Errorf("page %d is used twice", p)
		}
		w.seen[p] = true
	}
	if overflow == 0 {
		return head, nil
	}
	b := make([]byte, int64(overflow+1)*w.meta.pageSize)
	if _, err := w.f.ReadAt(b, int64(id)*w.meta.pageSize); err != nil {
		return nil, fmt.Errorf("page %d cannot be read: %w", id, err)
	}
	return b, nil
}

// tree checks the pages from id down. All keys must be at least low and, if high
// is not nil, below high.
func (w *pageWalk) tree(id uint64, depth int, low, high []byte) error {
	if depth > maxDepth {
		return fmt.Errorf("page %d is too deep", id)
	}
	b, err := w.page(id)
	if err != nil {
		return err
	}
	if err := w.elements(b, depth, low, high); err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	return nil
}

func (w *pageWalk) elements(b []byte, depth int, low, high []byte) error {
	flags, count := native.Uint16(b[8:]), int(native.Uint16(b[10:]))
	if flags != flagBranch && flags != flagLeaf {
		return fmt.Errorf("it is of kind %#x", flags)
	}
	if pageHeader+count*element > len(b) || flags == flagBranch && count == 0 {
		return fmt.Errorf("%d elements", count)
	}
	type child struct {
		id  uint64
		key []byte
	}
	var children []child
	last := low
	for i := range count {
		at := pageHeader + i*element
		e := b[at:]
		var pos, ksize, vsize uint32
		if flags == flagBranch {
			pos, ksize = native.Uint32(e), native.Uint32(e[4:])
		} else {
			pos, ksize, vsize = native.Uint32(e[4:]), native.Uint32(e[8:]), native.Uint32(e[12:])
		}
		from := uint64(at) + uint64(pos)
		to := from + uint64(ksize)
		end := to + uint64(vsize)
		if from < uint64(pageHeader+count*element) || end > uint64(len(b)) {
			return fmt.Errorf("element %d is out of bounds", i)
		}
		key, value := b[from:to], b[to:end]
		c := bytes.Compare(key, last)
		if c < 0 || c == 0 && i > 0 || high != nil && bytes.Compare(key, high) >= 0 {
			return fmt.Errorf("the key of element %d is out of order", i)
		}
		last = key
		switch {
		case flags == flagBranch:
			children = append(children, child{native.Uint64(e[8:]), key})
		case native.Uint32(e)&flagBucket != 0:
			if err := w.bucket(value, depth); err != nil {
				return err
			}
		}
	}
	for i, c := range children {
		limit := high
		if i+1 < len(children) {
			limit = children[i+1].key
		}
		if err := w.tree(c.id, depth+1, c.key, limit); err != nil {
			return err
		}
	}
	return nil
}

// bucket checks a bucket's tree, which is within the value if it is small.
func (w *pageWalk) bucket(value []byte, depth int) error {
	if len(value) < 16 {
		return errors.New("a bucket is cut short")
	}
	if root := native.Uint64(value); root != 0 {
		return w.tree(root, depth+1, nil, nil)
	}
	if len(value) < 16+pageHeader || depth > maxDepth {
		return errors.New("an inline bucket is cut short")
	}
	if native.Uint16(value[16+8:]) != flagLeaf {
		return errors.New("an inline bucket is no leaf")
	}
	return w.elements(value[16:], depth+1, nil, nil)
}

// free checks that nothing in use is listed as free, where the next commit would
// write over it.
func (w *pageWalk) free(id uint64) error {
	b, err := w.page(id)
	if err != nil {
		return fmt.Errorf("the list of free pages: %w", err)
	}
	if native.Uint16(b[8:]) != flagFreelist {
		return errors.New("the list of free pages is not one")
	}
	ids := b[pageHeader:]
	count := uint64(native.Uint16(b[10:]))
	if count == 0xFFFF { // then the first entry is the count
		count = native.Uint64(ids)
		ids = ids[8:]
	}
	if count > uint64(len(ids)/8) {
		return errors.New("the list of free pages is longer than its page")
	}
	for i := range count {
		p := native.Uint64(ids[8*i:])
		if p < 2 || p >= w.meta.high || w.seen[p] {
			return fmt.Errorf("page %d cannot be free", p)
		}
		w.seen[p] = true
	}
	return nil
}
