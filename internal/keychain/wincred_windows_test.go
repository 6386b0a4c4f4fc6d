package keychain

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/danieljoos/wincred"
)

// credentials are the names of a vault's credentials.
func credentials(t *testing.T, vault string) (ids []string) {
	t.Helper()
	list, err := wincred.FilteredList(targetPrefix(vault) + "*")
	must(t, err)
	for _, c := range list {
		ids = append(ids, strings.TrimPrefix(c.TargetName, targetPrefix(vault)))
	}
	return ids
}

// clean removes the vault's credentials before and after a test.
func clean(t *testing.T) {
	sweep := func() {
		must(t, credentialManager{}.sweep(site{vault: vaultID}, entry{}, quiet))
	}
	sweep()
	t.Cleanup(sweep)
}

func TestAutoTakesTheCredentialManager(t *testing.T) {
	clean(t)
	for _, kind := range []Kind{"", Auto, WinCred} {
		cfg, d := config(t), dir(t)
		cfg.Kind = kind
		r, key := newRecord(t, d, cfg)
		if r.Current.Kind != WinCred || r.Current.File != "" || len(key) != 32 || bytes.Equal(key, make([]byte, 32)) {
			t.Errorf("%+v", r.content)
		}
		got, err := load(d, cfg)
		if err != nil || !bytes.Equal(got, key) {
			t.Errorf("%v", err)
		}
		if entries, err := os.ReadDir(d); err != nil || len(entries) != 1 {
			t.Errorf("in the directory: %v %v", entries, err)
		}
		rec, err := os.ReadFile(filepath.Join(d, RecordName))
		must(t, err)
		if bytes.Contains(rec, []byte(hex.EncodeToString(key[:8]))) {
			t.Error("the record tells the key")
		}
		c, err := wincred.GetGenericCredential("Sallyport/vault/" + vaultID + "/" + r.Current.ID)
		must(t, err)
		if c.Persist != wincred.PersistLocalMachine || !bytes.Equal(c.CredentialBlob, key) {
			t.Errorf("persists as %v", c.Persist)
		}
	}
}

// What is missing or wrong is an error with the remedy, never another key.
func TestCredentialThatIsNotTheRecordedOneIsRefused(t *testing.T) {
	clean(t)
	cfg, d := config(t), dir(t)
	r, key := newRecord(t, d, cfg)
	target := r.site().target(r.Current.ID)
	for name, blob := range map[string][]byte{
		"another key": bytes.Repeat([]byte("k"), 32),
		"short":       key[:31],
		"long":        append(bytes.Clone(key), 0),
		"empty":       {},
		"gone":        nil,
	} {
		c := wincred.NewGenericCredential(target)
		if blob == nil {
			must(t, c.Delete())
		} else {
			c.CredentialBlob = blob
			must(t, c.Write())
		}
		_, err := load(d, cfg)
		if !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), target) {
			t.Errorf("%s: %v", name, err)
		}
		if name == "gone" && !strings.Contains(err.Error(), "sallyport vault init") {
			t.Errorf("%s: no remedy in %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), hex.EncodeToString(key[:4])) {
			t.Error("the error tells the key")
		}
		if blob == nil {
			if ids := credentials(t, vaultID); len(ids) != 0 {
				t.Errorf("made anew: %v", ids)
			}
		}
	}
	if entries, err := os.ReadDir(d); err != nil || len(entries) != 1 {
		t.Errorf("fell back to something: %v %v", entries, err)
	}
	must(t, writeCredential(target, "", key))
	if got, err := load(d, cfg); err != nil || !bytes.Equal(got, key) {
		t.Errorf("put back: %v", err)
	}
	// The configuration asks for another one: refused, with the remedy.
	cfg.Kind = File
	if _, err := load(d, cfg); !errors.Is(err, ErrKind) || !strings.Contains(err.Error(), "sallyport vault rekey --to file") {
		t.Errorf("%v", err)
	}
}

func TestRekeyLeavesOneKeyBehind(t *testing.T) {
	clean(t)
	const other = "ffeeddccbbaa99887766554433221100"
	must(t, writeCredential(targetPrefix(other)+"x", "", []byte("of another vault")))
	cfg, d := config(t), dir(t)
	r, key := newRecord(t, d, cfg)
	present, err := r.Key(r.Current.ID)
	must(t, err)
	for _, to := range []Kind{WinCred, File, File, WinCred} {
		next, err := r.Begin(present, to, quiet)
		must(t, err)
		if got, err := load(d, Config{MachineIDFile: cfg.MachineIDFile}); err != nil || !bytes.Equal(got, key) {
			t.Errorf("to %s, begun: %v", to, err)
		}
		// What a crash in another rekey has left.
		must(t, writeCredential(r.site().target("0123456789abcdef"), "", []byte("stale")))
		must(t, r.Finish(next, quiet))
		key = bytes.Clone(next.Reveal())
		if got, err := load(d, Config{MachineIDFile: cfg.MachineIDFile}); err != nil || !bytes.Equal(got, key) {
			t.Errorf("to %s: %v", to, err)
		}
		var want []string
		if to == WinCred {
			want = []string{r.Current.ID}
		}
		if ids := credentials(t, vaultID); !slices.Equal(ids, want) {
			t.Errorf("to %s: %v", to, ids)
		}
		if files, err := filepath.Glob(filepath.Join(d, "key*")); err != nil || len(files) != 1-len(want) {
			t.Errorf("to %s: %v %v", to, files, err)
		}
		present = next
	}
	if ids := credentials(t, other); len(ids) != 1 {
		t.Errorf("of another vault: %v", ids)
	}
	must(t, wincred.NewGenericCredential(targetPrefix(other)+"x").Delete())
}

// What is moved aside keeps its key: it may be put back.
func TestRetiredRecordKeepsItsKey(t *testing.T) {
	clean(t)
	cfg, d := config(t), dir(t)
	r, _ := newRecord(t, d, cfg)
	r.Retire(quiet)
	if _, err := load(d, cfg); err != nil {
		t.Error(err)
	}
}

func TestCredentialsAreTheServices(t *testing.T) {
	clean(t)
	cfg, d := config(t), dir(t)
	newRecord(t, d, cfg)
	cfg.NotService = true
	if _, err := load(d, cfg); !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), "start the service") {
		t.Errorf("%v", err)
	}
	if _, _, err := Create(dir(t), vaultID, cfg, quiet); !errors.Is(err, ErrMissing) {
		t.Errorf("%v", err)
	}
	if ids := credentials(t, vaultID); len(ids) != 1 {
		t.Errorf("%v", ids)
	}
}

func TestCredentialOverTheLimitIsRefused(t *testing.T) {
	clean(t)
	target := site{vault: vaultID}.target("large")
	must(t, writeCredential(target, "", make([]byte, 2560)))
	if err := writeCredential(target, "", make([]byte, 2561)); err == nil || !strings.Contains(err.Error(), "2560") {
		t.Errorf("%v", err)
	}
}

func TestWindowsNamesTheComputer(t *testing.T) {
	id, err := machineID("")
	if err != nil || !regexp.MustCompile("^[0-9a-f]{32}$").MatchString(id) {
		t.Errorf("%q %v", id, err)
	}
	if (Config{}).machine() == "" {
		t.Error("no name")
	}
}
