package vault

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"sallyport/internal/keychain"
)

func sum(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:8])
}

// TestOnceInitialisedNothingLooksLikeAFirstStart breaks a vault in every way that
// could end as "nobody is enrolled". Each is refused with its reason, the refusal
// changes nothing, and when the cause is undone the vault opens again.
func TestOnceInitialisedNothingLooksLikeAFirstStart(t *testing.T) {
	type world struct {
		o             Options
		dir           string
		older, oldest string // snapshots one and many commits before the present
		other         string // another vault's directory
	}
	rm := func(names ...string) func(*testing.T, *world) {
		return func(t *testing.T, w *world) {
			for _, n := range names {
				must(t, os.RemoveAll(filepath.Join(w.dir, n)))
			}
		}
	}
	sound := world{o: options(t)}
	sound.dir = sound.o.Dir
	sound.o.Marker = filepath.Join(t.TempDir(), "marker")
	machine(t, &sound.o, "1")
	v := mustOpen(t, sound.o)
	put(t, v, "uid:1000", user{"alice", 1})
	mustClose(t, v)
	sound.oldest = snapshot(t, sound.dir)
	for step := int64(2); step <= 4; step++ {
		sound.older = snapshot(t, sound.dir)
		v = mustOpen(t, sound.o)
		put(t, v, "uid:1000", user{"alice", step})
		mustClose(t, v)
	}
	present, marker := snapshot(t, sound.dir), readFile(t, sound.o.Marker)
	oo := options(t)
	machine(t, &oo, "1")
	ov := mustOpen(t, oo)
	put(t, ov, "uid:1000", user{"mallory", 1})
	mustClose(t, ov)
	sound.other = oo.Dir
	for name, c := range map[string]struct {
		sabotage func(*testing.T, *world)
		want     error
	}{
		"vault.db removed":                    {rm("vault.db"), ErrMissing},
		"vault.db and key removed":            {rm("vault.db", "keychain/key"), ErrMissing},
		"vault.db, record and anchor removed": {rm("vault.db", "keychain/record.json", "keychain/anchor"), ErrMissing},
		"only an empty keychain left":         {rm("vault.db", "keychain/record.json", "keychain/anchor", "keychain/key"), ErrMissing},
		"directory emptied, the marker left":  {rm("vault.db", "keychain"), ErrMissing},
		"file system not mounted":             {func(t *testing.T, w *world) { empty(t, w.dir) }, ErrMissing},
		"only what an init moved aside left": {func(t *testing.T, w *world) {
			rm("vault.db", "keychain")(t, w)
			w.o.Marker = ""
			must(t, os.Mkdir(filepath.Join(w.dir, "old-20261122T120000Z"), 0o700))
		}, ErrMissing},
		"emptied, the marker unreadable":  {func(t *testing.T, w *world) { rm("vault.db", "keychain")(t, w); writeFile(t, w.o.Marker, []byte("{")) }, ErrMissing},
		"vault.db of 0 bytes":             {func(t *testing.T, w *world) { must(t, os.Truncate(filepath.Join(w.dir, "vault.db"), 0)) }, ErrEmptied},
		"vault.db a fresh bbolt database": {func(t *testing.T, w *world) { rm("vault.db")(t, w); freshBolt(t, filepath.Join(w.dir, "vault.db")) }, ErrEmptied},
		"vault.db cut short":              {func(t *testing.T, w *world) { must(t, os.Truncate(filepath.Join(w.dir, "vault.db"), 3*4096)) }, ErrCorrupt},
		"vault.db of zeros":               {func(t *testing.T, w *world) { writeFile(t, filepath.Join(w.dir, "vault.db"), make([]byte, 1<<20)) }, ErrCorrupt},
		"keychain removed":                {rm("keychain"), ErrKeyMissing},
		"record removed":                  {rm("keychain/record.json"), ErrKeyMissing},
		"key removed":                     {rm("keychain/key"), ErrKeyMissing},
		"key of another vault":            {func(t *testing.T, w *world) { restore(t, w.other, w.dir, "keychain/key") }, ErrKeyMissing},
		"key cut short":                   {func(t *testing.T, w *world) { must(t, os.Truncate(filepath.Join(w.dir, "keychain/key"), 31)) }, ErrKeyMissing},
		"key readable by others":          {func(t *testing.T, w *world) { readableByAll(t, filepath.Join(w.dir, "keychain/key")) }, ErrKeyMissing},
		"record edited": {func(t *testing.T, w *world) {
			edit(t, filepath.Join(w.dir, "keychain/record.json"), `"kind":"file"`, `"kind": "file"`)
		}, ErrCorrupt},
		"record says tpm": {func(t *testing.T, w *world) {
			edit(t, filepath.Join(w.dir, "keychain/record.json"), `"kind":"file"`, `"kind":"tpm"`)
		}, ErrKeychain},
		"record is no record": {func(t *testing.T, w *world) { writeFile(t, filepath.Join(w.dir, "keychain/record.json"), []byte("{}")) }, ErrCorrupt},
		"anchor removed":      {rm("keychain/anchor"), ErrRolledBack},
		"anchor of zeros": {func(t *testing.T, w *world) {
			writeFile(t, filepath.Join(w.dir, "keychain/anchor"), make([]byte, anchorSize))
		}, ErrCorrupt},
		"anchor of 0 bytes": {func(t *testing.T, w *world) { writeFile(t, filepath.Join(w.dir, "keychain/anchor"), nil) }, ErrCorrupt},
		"anchor too long": {func(t *testing.T, w *world) {
			writeFile(t, filepath.Join(w.dir, "keychain/anchor"), make([]byte, anchorSize+1))
		}, ErrCorrupt},
		"vault.db one commit older":           {func(t *testing.T, w *world) { restore(t, w.older, w.dir, "vault.db") }, ErrRolledBack},
		"vault.db many commits older":         {func(t *testing.T, w *world) { restore(t, w.oldest, w.dir, "vault.db") }, ErrRolledBack},
		"keychain many commits older":         {func(t *testing.T, w *world) { restore(t, w.oldest, w.dir, "keychain") }, ErrRolledBack},
		"bbolt falls back to the older meta":  {func(t *testing.T, w *world) { spoilNewestMeta(t, filepath.Join(w.dir, "vault.db")) }, ErrRolledBack},
		"vault.db of another vault":           {func(t *testing.T, w *world) { restore(t, w.other, w.dir, "vault.db") }, ErrCopied},
		"keychain of another vault":           {func(t *testing.T, w *world) { restore(t, w.other, w.dir, "keychain") }, ErrCopied},
		"copied to another computer":          {func(t *testing.T, w *world) { machine(t, &w.o, "2") }, ErrCopied},
		"machine id gone":                     {func(t *testing.T, w *world) { must(t, os.Remove(w.o.Keychain.MachineIDFile)) }, ErrCopied},
		"configuration asks for the tpm":      {func(t *testing.T, w *world) { w.o.Keychain.Kind = keychain.TPM }, ErrKeychain},
		"configuration asks for a credential": {func(t *testing.T, w *world) { w.o.Keychain.Kind = keychain.SystemdCredential }, ErrKeychain},
		"configuration asks for the unknown":  {func(t *testing.T, w *world) { w.o.Keychain.Kind = "floppy" }, ErrKeychain},
		"directory writable by others":        {func(t *testing.T, w *world) { writableByAll(t, w.dir) }, ErrUntrusted},
		"keychain writable by others":         {func(t *testing.T, w *world) { writableByAll(t, filepath.Join(w.dir, "keychain")) }, ErrUntrusted},
		"vault.db writable by others":         {func(t *testing.T, w *world) { writableByAll(t, filepath.Join(w.dir, "vault.db")) }, ErrUntrusted},
		"vault.db owned by someone else":      {func(t *testing.T, w *world) { giveAway(t, filepath.Join(w.dir, "vault.db")) }, ErrUntrusted},
		"directory a symbolic link":           {func(t *testing.T, w *world) { link(t, w.dir) }, ErrUntrusted},
		"vault.db a symbolic link":            {func(t *testing.T, w *world) { link(t, filepath.Join(w.dir, "vault.db")) }, ErrUntrusted},
		"anchor a symbolic link":              {func(t *testing.T, w *world) { link(t, filepath.Join(w.dir, "keychain/anchor")) }, ErrUntrusted},
		"record a symbolic link":              {func(t *testing.T, w *world) { link(t, filepath.Join(w.dir, "keychain/record.json")) }, ErrUntrusted},
		"vault.db a directory": {func(t *testing.T, w *world) {
			rm("vault.db")(t, w)
			must(t, os.Mkdir(filepath.Join(w.dir, "vault.db"), 0o700))
		}, ErrUntrusted},
		"a user's record taken out": {func(t *testing.T, w *world) {
			inBolt(t, w.dir, func(tx *bbolt.Tx) error { return tx.Bucket([]byte(Users)).Delete([]byte("uid:1000")) })
		}, ErrCorrupt},
		"a user's record under another's name": {func(t *testing.T, w *world) { inBolt(t, w.dir, rename) }, ErrCorrupt},
		"the bucket of users taken out": {func(t *testing.T, w *world) {
			inBolt(t, w.dir, func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte(Users)) })
		}, ErrCorrupt},
		"events taken out": {func(t *testing.T, w *world) {
			inBolt(t, w.dir, func(tx *bbolt.Tx) error { return tx.Bucket([]byte(bucketEvents)).Delete(seqKey(1)) })
		}, ErrCorrupt},
		"the account replaced": {func(t *testing.T, w *world) {
			inBolt(t, w.dir, func(tx *bbolt.Tx) error { return tx.Bucket([]byte(bucketMeta)).Put(keyMeta, []byte{1, 2, 3}) })
		}, ErrCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			w := sound
			restore(t, present, w.dir)
			writeFile(t, w.o.Marker, marker)
			machine(t, &w.o, "1")
			c.sabotage(t, &w)
			mustDeny(t, w.o, c.want)
			restore(t, present, w.dir)
			writeFile(t, sound.o.Marker, marker)
			machine(t, &sound.o, "1")
			v := mustOpen(t, sound.o)
			if u, ok := get(t, v, "uid:1000"); !ok || u.Step != 4 {
				t.Errorf("after the cause was gone: %v %v", u, ok)
			}
			mustClose(t, v)
		})
	}
}

// Every refusal can be read out on the phone: it names a file and what to do.
func TestRefusalsNameTheFileAndTheRemedy(t *testing.T) {
	for _, name := range []string{"vault.db", "keychain/record.json", "keychain/key", "keychain/anchor"} {
		o := options(t)
		mustClose(t, mustOpen(t, o))
		must(t, os.Remove(filepath.Join(o.Dir, name)))
		_, err := Open(o)
		if err == nil || !strings.Contains(err.Error(), filepath.FromSlash(name)) || !strings.Contains(err.Error(), "'sallyport vault ") {
			t.Errorf("without %s: %v", name, err)
		}
	}
}

func freshBolt(t *testing.T, path string) {
	// On Windows bbolt makes a file as large as its mapping.
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{InitialMmapSize: mapSize})
	must(t, err)
	must(t, db.Close())
	private(t, path)
}

// inBolt changes vault.db behind the vault's back.
func inBolt(t *testing.T, dir string, fn func(*bbolt.Tx) error) {
	db, err := bbolt.Open(filepath.Join(dir, "vault.db"), 0o600, nil)
	must(t, err)
	must(t, db.Update(fn))
	must(t, db.Close())
}

func rename(tx *bbolt.Tx) error {
	b := tx.Bucket([]byte(Users))
	v := append([]byte(nil), b.Get([]byte("uid:1000"))...)
	return errors.Join(b.Delete([]byte("uid:1000")), b.Put([]byte("uid:1001"), v))
}

// spoilNewestMeta flips a bit in the meta page that bbolt would use.
func spoilNewestMeta(t *testing.T, path string) {
	b := readFile(t, path)
	m0, ok0 := parseBoltMeta(b)
	m1, ok1 := parseBoltMeta(b[4096:])
	if !ok0 || !ok1 {
		t.Fatal("no two sound meta pages")
	}
	at := 0
	if m1.txid > m0.txid {
		at = 4096
	}
	b[at+pageHeader+17] ^= 1
	writeFile(t, path, b)
}

func edit(t *testing.T, path, from, to string) {
	s := string(readFile(t, path))
	if !strings.Contains(s, from) {
		t.Fatalf("no %s in %s", from, s)
	}
	writeFile(t, path, []byte(strings.ReplaceAll(s, from, to)))
}

func machine(t *testing.T, o *Options, id string) {
	o.Keychain.MachineIDFile = filepath.Join(filepath.Dir(o.Dir), "machine-id")
	writeFile(t, o.Keychain.MachineIDFile, []byte(strings.Repeat(id, 32)+"\n"))
}

func link(t *testing.T, path string) {
	must(t, os.Rename(path, path+".real"))
	err := os.Symlink(path+".real", path)
	if err == nil {
		_, err = os.Lstat(path) // Wine claims to make them
	}
	if err != nil && runtime.GOOS == "windows" {
		t.Skipf("this account or this system makes no symbolic links: %v", err)
	}
	must(t, err)
}

// TestWhatACrashLeavesIsAcceptedAndNothingElse enumerates the disk after a crash
// at each point of the commit of generation n=10, for each state that 9 and its
// own predecessors can have left in the anchor, and then what a roll-back leaves.
func TestWhatACrashLeavesIsAcceptedAndNothingElse(t *testing.T) {
	const n = 10
	accept := func(why string, prepared, marked, vault uint64) {
		t.Helper()
		if err := (testimony{prepared: prepared, marked: marked}).accepts(vault); err != nil {
			t.Errorf("%s: prepared %d, marked %d, vault at %d: %v", why, prepared, marked, vault, err)
		}
	}
	refuse := func(why string, prepared, marked, vault uint64) {
		t.Helper()
		if err := (testimony{prepared: prepared, marked: marked}).accepts(vault); !errors.Is(err, ErrRolledBack) {
			t.Errorf("%s: prepared %d, marked %d, vault at %d: %v", why, prepared, marked, vault, err)
		}
	}
	// What the mark on the disk can be when n-1 is committed: any earlier one, if
	// the later ones did not reach the disk, or none, if it was torn.
	for marked := uint64(0); marked <= n-1; marked++ {
		accept("cut before anything of n is on the disk", n-1, marked, n-1)
		accept("cut after bbolt's n, before the slot of n", n-1, marked, n)
		accept("cut after the slot of n, before bbolt's n", n, marked, n-1)
		accept("cut after both, before the mark of n", n, marked, n)
		// The slot of n was torn: the other slot, n-1, is at rest.
		accept("the slot of n torn, bbolt before n", n-1, marked, n-1)
		accept("the slot of n torn, bbolt at n", n-1, marked, n)
	}
	accept("after the mark of n", n, n, n)
	accept("killed after the mark of n, the slot damaged since", n-1, n, n)
	accept("the first commit", 1, 0, 1)
	accept("the first commit, marked", 1, 1, 1)
	accept("the second commit, cut before bbolt", 2, 1, 1)
	accept("the second commit, cut before the slot", 1, 1, 2)

	refuse("one commit older", n, n, n-1)
	refuse("one commit older, the mark of n-1 came to the disk", n, n-1, n-2)
	for marked := uint64(0); marked <= n; marked++ {
		for g := uint64(0); g < n-1; g++ {
			refuse("an older vault", n, marked, g)
		}
		refuse("an older anchor", n, marked, n+2)
		refuse("a much older anchor", n, marked, n+1000)
	}
	refuse("a vault without a commit", 1, 0, 0)
	refuse("no overflow at the end", 1, 0, ^uint64(0))
}

// A block of the anchor that is damaged never locks out, and only costs what it
// witnessed.
func TestDamagedAnchorBlock(t *testing.T) {
	for _, commits := range []int{0, 1, 2, 3, 4} {
		for block := range 3 {
			t.Run(fmt.Sprintf("commits=%d/block=%d", commits, block), func(t *testing.T) {
				o := options(t)
				v := mustOpen(t, o)
				for i := range commits {
					put(t, v, "uid:1", user{Step: int64(i)})
				}
				g := v.Info().Generation
				mustClose(t, v)
				path := filepath.Join(o.Dir, "keychain/anchor")
				b := readFile(t, path)
				b[block*anchorBlock+20] ^= 1
				writeFile(t, path, b)
				v, err := Open(o)
				if g == 1 && block == 1 {
					// The only slot ever written: nothing vouches for the vault.
					if !errors.Is(err, ErrCorrupt) {
						t.Fatalf("%v", err)
					}
					return
				}
				must(t, err)
				defer v.Close()
				if v.Info().Generation != g {
					t.Errorf("generation %d, not %d", v.Info().Generation, g)
				}
				put(t, v, "uid:1", user{Step: 99})
			})
		}
	}
}

func TestAcceptTakesABackupOnPurposeAndNothingDamaged(t *testing.T) {
	o := options(t)
	o.Marker = filepath.Join(t.TempDir(), "marker")
	machine(t, &o, "1")
	v := mustOpen(t, o)
	put(t, v, "uid:1000", user{"alice", 1})
	mustClose(t, v)
	backup := snapshot(t, o.Dir)
	v = mustOpen(t, o)
	for i := range 5 {
		put(t, v, "uid:1000", user{"alice", int64(i) + 2})
	}
	if err := Accept(o); !errors.Is(err, ErrBusy) {
		t.Errorf("with the agent running: %v", err)
	}
	mustClose(t, v)

	// The backup's vault.db on another computer, with the anchor of today.
	latest := snapshot(t, o.Dir)
	restore(t, backup, o.Dir, "vault.db")
	machine(t, &o, "2")
	mustDeny(t, o, ErrCopied)
	must(t, Accept(o))
	v = mustOpen(t, o)
	if u, _ := get(t, v, "uid:1000"); u.Step != 1 {
		t.Errorf("%v", u)
	}
	mustClose(t, v)
	// What was latest is not, any more.
	restore(t, latest, o.Dir, "vault.db")
	mustDeny(t, o, ErrRolledBack)
	must(t, Accept(o))

	inBolt(t, o.Dir, func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(Users))
		sealed := append([]byte(nil), b.Get([]byte("uid:1000"))...)
		sealed[20] ^= 1
		return b.Put([]byte("uid:1000"), sealed)
	})
	if err := Accept(o); !errors.Is(err, ErrCorrupt) {
		t.Errorf("with a record that does not unseal: %v", err)
	}
	restore(t, latest, o.Dir, "vault.db")
	must(t, os.Remove(filepath.Join(o.Dir, "keychain/anchor")))
	must(t, Accept(o))
	inBolt(t, o.Dir, func(tx *bbolt.Tx) error { return tx.Bucket([]byte(Users)).Delete([]byte("uid:1000")) })
	if err := Accept(o); !errors.Is(err, ErrCorrupt) {
		t.Errorf("with a record taken out: %v", err)
	}
	must(t, os.RemoveAll(o.Dir))
	if err := Accept(o); !errors.Is(err, ErrMissing) {
		t.Errorf("with nothing there: %v", err)
	}
}

func TestInitMovesTheOldAsideAndDeletesNothing(t *testing.T) {
	o := options(t)
	o.Marker = filepath.Join(t.TempDir(), "marker")
	v := mustOpen(t, o)
	put(t, v, "uid:1000", user{"alice", 1})
	first := v.Info().VaultID
	if _, err := Init(o); !errors.Is(err, ErrBusy) {
		t.Errorf("with the agent running: %v", err)
	}
	mustClose(t, v)
	was := readFile(t, filepath.Join(o.Dir, "vault.db"))
	for n := range 2 { // in the same second
		v, err := Init(o)
		must(t, err)
		if _, ok := get(t, v, "uid:1000"); ok || v.Info().VaultID == first {
			t.Error("not a new vault")
		}
		mustClose(t, v)
		old, err := filepath.Glob(filepath.Join(o.Dir, "old-*"))
		if err != nil || len(old) != n+1 {
			t.Fatalf("%v %v", old, err)
		}
		if n == 0 && string(readFile(t, filepath.Join(old[0], "vault.db"))) != string(was) {
			t.Error("the old vault is not what it was")
		}
	}
	mustClose(t, mustOpen(t, o))

	// A keychain that does not work leaves the old vault alone.
	bad := o
	bad.Keychain = keychain.Config{Kind: keychain.TPM, TPMDevice: filepath.Join(t.TempDir(), "no-tpm")}
	if _, err := Init(bad); err == nil {
		t.Error("made a vault without the TPM it asks for")
	}
	mustClose(t, mustOpen(t, o))

	// A wholly emptied directory is no obstacle to a purpose.
	empty(t, o.Dir)
	mustDeny(t, o, ErrMissing)
	v, err := Init(o)
	must(t, err)
	mustClose(t, v)
}

// A marker that cannot be written is a weaker protection, and reported, but no
// reason to refuse every login.
func TestUnwritableMarkerIsReported(t *testing.T) {
	o := options(t)
	notDir := filepath.Join(t.TempDir(), "file")
	writeFile(t, notDir, nil)
	o.Marker = filepath.Join(t.TempDir(), "marker")
	must(t, os.Mkdir(o.Marker+".new", 0o700)) // where the new content would be written
	writeFile(t, filepath.Join(o.Marker+".new", "x"), nil)
	v := mustOpen(t, o)
	put(t, v, "uid:1", user{})
	if v.Info().MarkerError == "" {
		t.Error("not reported")
	}
	mustClose(t, v)
	must(t, os.RemoveAll(o.Marker+".new"))
	v = mustOpen(t, o)
	if e := v.Info().MarkerError; e != "" {
		t.Error(e)
	}
	mustClose(t, v)
	empty(t, o.Dir)
	mustDeny(t, o, ErrMissing)
}

// One marker serves more than one state directory.
func TestMarkerOfAnotherDirectoryIsNoHindrance(t *testing.T) {
	o, p := options(t), options(t)
	o.Marker = filepath.Join(t.TempDir(), "marker")
	p.Marker = o.Marker
	mustClose(t, mustOpen(t, o))
	mustClose(t, mustOpen(t, p))
	empty(t, o.Dir)
	mustDeny(t, o, ErrMissing)
	mustClose(t, mustOpen(t, p))
}

// TestInitCutShortAnywhereOpens copies the directory and the marker behind each
// step of a first start and of an init on purpose, as a crash there would leave
// them. The next start must neither lock out nor, before the old vault was to go,
// lose it.
func TestInitCutShortAnywhereOpens(t *testing.T) {
	type cut struct {
		step, dir string
		marker    []byte
	}
	for _, first := range []bool{true, false} {
		o := options(t)
		o.Marker = filepath.Join(t.TempDir(), "marker")
		var cuts []cut
		start, alices := Open, ""
		if !first {
			v := mustOpen(t, o)
			put(t, v, "uid:1000", user{"alice", 1})
			mustClose(t, v)
			start, alices = Init, sum(readFile(t, filepath.Join(o.Dir, "vault.db")))
		}
		stepping(t, func(step string) {
			marker, _ := os.ReadFile(o.Marker) // perhaps not there yet
			cuts = append(cuts, cut{step, snapshot(t, o.Dir), marker})
		})
		v, err := start(o)
		must(t, err)
		mustClose(t, v)
		stepping(t, func(string) {})
		if len(cuts) != 7 {
			t.Fatalf("%d steps", len(cuts))
		}
		for _, c := range cuts {
			t.Run(fmt.Sprintf("first=%v/%s", first, c.step), func(t *testing.T) {
				restore(t, c.dir, o.Dir)
				must(t, os.RemoveAll(o.Marker))
				if c.marker != nil {
					writeFile(t, o.Marker, c.marker)
				}
				v := mustOpen(t, o)
				if _, ok := get(t, v, "uid:1000"); ok != (!first && c.step == "built") {
					t.Errorf("alice: %v", ok)
				} else if !first && !ok {
					kept := false
					old, _ := filepath.Glob(filepath.Join(o.Dir, "old-*/vault.db"))
					for _, f := range old {
						kept = kept || sum(readFile(t, f)) == alices
					}
					if !kept {
						t.Errorf("the old vault is not in %v", old)
					}
				}
				put(t, v, "uid:1001", user{"bob", 1})
				mustClose(t, v)
				if _, err := os.Lstat(filepath.Join(o.Dir, "initialising")); err == nil {
					t.Error("the intent is left")
				}
				v = mustOpen(t, o)
				if _, ok := get(t, v, "uid:1001"); !ok {
					t.Error("forgotten")
				}
				mustClose(t, v)
			})
		}
	}
}

func TestSecondAgentIsRefused(t *testing.T) {
	o := options(t)
	v := mustOpen(t, o)
	if _, err := Open(o); !errors.Is(err, ErrBusy) {
		t.Errorf("%v", err)
	}
	put(t, v, "uid:1", user{})
	mustClose(t, v)
	if err := v.Update(context.Background(), func(*Tx) error { return nil }); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if err := v.View(func(*Tx) error { return nil }); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	mustClose(t, v) // twice is harmless
}
