package vault

import (
	"bytes"
	"errors"
	"hash/fnv"
	"os"
	"testing"
)

// fuzzKey is what the corpus's anchors are authenticated with.
var fuzzKey = bytes.Repeat([]byte{7}, 32)

// FuzzAnchor feeds an anchor's content, with the notes' MACs made right so that
// what is behind them is reached, and wants no panic and no note of another
// place, kind or vault believed.
func FuzzAnchor(f *testing.F) {
	vault := [16]byte{1, 2, 3}
	content := make([]byte, anchorSize)
	copy(content, note{notePrepared, vault, 10, [32]byte{9}}.seal(fuzzKey))
	copy(content[anchorBlock:], note{notePrepared, vault, 11, [32]byte{8}}.seal(fuzzKey))
	copy(content[2*anchorBlock:], note{noteMark, vault, 11, [32]byte{}}.seal(fuzzKey))
	f.Add(content, false)
	f.Add(content, true)
	f.Add([]byte(nil), true)
	f.Fuzz(func(t *testing.T, b []byte, authentic bool) {
		b = bytes.Clone(b)
		for at := 0; authentic && at+noteSize <= len(b); at += anchorBlock {
			n := note{kind: b[at+8], generation: 1}
			copy(n.vault[:], b[at+9:])
			n.generation = uint64(b[at+32])
			copy(b[at:], n.seal(fuzzKey))
		}
		got, err := readTestimony(fuzzKey, vault, b)
		if err != nil {
			return
		}
		for i, s := range got.slots {
			if s == nil {
				continue
			}
			if s.vault != vault || s.kind != notePrepared || int(s.generation%2) != i || s.generation > got.prepared {
				t.Errorf("slot %d: %+v in %+v", i, s, got)
			}
		}
		for g := range uint64(600) {
			low, high := max(got.marked, 1), got.prepared+1
			if got.prepared > 1 {
				low = max(low, got.prepared-1)
			}
			if err := got.accepts(g); (err == nil) != (low <= g && g <= high) || err != nil && !errors.Is(err, ErrRolledBack) {
				t.Errorf("%+v, %d: %v", got, g, err)
			}
		}
	})
}

// FuzzPages feeds vault.db's pages, the meta page's checksum made right.
func FuzzPages(f *testing.F) {
	good, err := os.ReadFile("testdata/pages.db")
	if err != nil {
		f.Fatal(err)
	}
	if err := checkPages(bytes.NewReader(good), int64(len(good))); err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, b []byte) {
		b = bytes.Clone(b)
		for _, at := range []int{0, os.Getpagesize()} {
			if len(b) >= at+pageHeader+64 {
				repairMeta(b[at+pageHeader:])
			}
		}
		_ = checkPages(bytes.NewReader(b), int64(len(b)))
	})
}

func repairMeta(b []byte) {
	h := fnv.New64a()
	h.Write(b[:56])
	native.PutUint64(b[56:], h.Sum64())
}

// FuzzPlain feeds what vault.db says in the clear.
func FuzzPlain(f *testing.F) {
	f.Add([]byte(`{"format":1,"vault":"00112233445566778899aabbccddeeff","key":"a08aa78043a02a41"}`))
	f.Add([]byte(`{"format":1,"vault":"0011","key":"x"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := decodePlain(b)
		if err == nil && (p.Format != plainFormat || len(p.Vault) != 32 || p.KeyID == "") {
			t.Errorf("%+v", p)
		}
	})
}
