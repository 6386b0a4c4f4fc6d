package vault

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"sallyport/internal/keychain"
)

// TestRekeyCutShortAnywhereOpens copies the directory behind each step of a
// rekey, as a crash there would leave it, and opens the copy.
func TestRekeyCutShortAnywhereOpens(t *testing.T) {
	for _, from := range []string{"key", "key.2"} {
		o := options(t)
		machine(t, &o, "1")
		v := mustOpen(t, o)
		fill(t, v, 2500)
		if from == "key.2" {
			must(t, v.Rekey(context.Background(), keychain.File))
		}
		if _, err := os.Stat(filepath.Join(o.Dir, "keychain", from)); err != nil {
			t.Fatal(err)
		}
		before := v.Info()
		cut := map[string]string{}
		stepping(t, func(step string) { cut[step] = snapshot(t, o.Dir) })
		must(t, v.Rekey(context.Background(), keychain.File))
		after := v.Info()
		stepping(t, func(string) {})
		if after.KeyID == before.KeyID || len(cut) != 4 {
			t.Fatalf("%v then %v, %d steps", before.KeyID, after.KeyID, len(cut))
		}
		mustClose(t, v)
		for step, dir := range cut {
			t.Run(from+"/"+step, func(t *testing.T) {
				o := o
				o.Dir = dir
				for range 2 { // what the first start finishes, the second finds done
					v := mustOpen(t, o)
					want := after.KeyID
					if step == stepRecorded || step == stepAnchored {
						want = before.KeyID
					}
					if i := v.Info(); i.KeyID != want || i.Counts[Users] != 2500 {
						t.Errorf("%+v", i)
					}
					must(t, login(v, "uid:2499"))
					mustClose(t, v)
					keys, err := filepath.Glob(filepath.Join(dir, "keychain", "key*"))
					if err != nil || len(keys) != 1 {
						t.Errorf("keys left: %v %v", keys, err)
					}
				}
				v := mustOpen(t, o)
				must(t, v.Rekey(context.Background(), keychain.File))
				must(t, login(v, "uid:0"))
			})
		}
	}
}
