package keychain

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// fakeItems are a keychain in memory: root's daemon's, unless a test says otherwise.
type fakeItems struct {
	uid   int
	path  string
	data  map[string][]byte
	label string
	fails map[string]error // by what is called
	calls []string
}

func newFakeItems() *fakeItems {
	return &fakeItems{path: systemKeychainFile, data: map[string][]byte{}, fails: map[string]error{}}
}

func (f *fakeItems) call(name string) error {
	f.calls = append(f.calls, name)
	return f.fails[name]
}

func (f *fakeItems) where() (int, string, error) { return f.uid, f.path, f.call("where") }

func (f *fakeItems) add(account, label string, data []byte) error {
	if err := f.call("add"); err != nil {
		return err
	}
	if _, ok := f.data[account]; ok {
		return osStatus(-25299) // errSecDuplicateItem
	}
	f.data[account], f.label = bytes.Clone(data), label
	return nil
}

func (f *fakeItems) get(account string) ([]byte, error) {
	if err := f.call("get"); err != nil {
		return nil, err
	}
	b, ok := f.data[account]
	if !ok {
		return nil, errSecItemNotFound
	}
	return bytes.Clone(b), nil
}

func (f *fakeItems) remove(account string) error {
	if err := f.call("remove"); err != nil {
		return err
	}
	if _, ok := f.data[account]; !ok {
		return errSecItemNotFound
	}
	delete(f.data, account)
	return nil
}

func (f *fakeItems) accounts() ([]string, error) {
	return slices.Sorted(maps.Keys(f.data)), f.call("accounts")
}

// withSystemKeychain gives this system a System keychain, whichever system it is.
func withSystemKeychain(t *testing.T) *fakeItems {
	f := newFakeItems()
	before := holders
	t.Cleanup(func() { holders = before })
	holders = slices.Clone(holders)
	holders = slices.DeleteFunc(holders, func(h struct {
		kind   Kind
		holder holder
	}) bool {
		return h.kind == SystemKeychain
	})
	holders = append(holders, struct {
		kind   Kind
		holder holder
	}{SystemKeychain, systemKeychain{f}})
	return f
}

// inKeychain is a record whose key is in the System keychain.
func inKeychain(t *testing.T) (f *fakeItems, r *Record, key []byte, cfg Config, d string) {
	t.Helper()
	f = withSystemKeychain(t)
	cfg, d = config(t), dir(t)
	cfg.Kind = SystemKeychain
	r, key = newRecord(t, d, cfg)
	return f, r, key, cfg, d
}

func TestTheKeyIsOneItemOfTheSystemKeychain(t *testing.T) {
	f, r, key, cfg, d := inKeychain(t)
	account := vaultID + "/" + r.Current.ID
	if len(f.data) != 1 || !bytes.Equal(f.data[account], key) || len(key) != 32 || bytes.Equal(key, make([]byte, 32)) {
		t.Errorf("%v", slices.Collect(maps.Keys(f.data)))
	}
	if !strings.Contains(f.label, "Sallyport") || strings.Contains(f.label, hex.EncodeToString(key[:4])) {
		t.Errorf("the label is %q", f.label)
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
}

// What is missing or wrong is an error with the remedy, never another key.
func TestItemThatIsNotTheRecordedOneIsRefused(t *testing.T) {
	f, r, key, cfg, d := inKeychain(t)
	account := r.site().account(r.Current.ID)
	for name, data := range map[string][]byte{
		"another key": bytes.Repeat([]byte("k"), 32),
		"short":       key[:31],
		"long":        append(bytes.Clone(key), 0),
		"empty":       {},
		"gone":        nil,
	} {
		f.data = map[string][]byte{}
		if data != nil {
			f.data[account] = data
		}
		_, err := load(d, cfg)
		if !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), account) || !strings.Contains(err.Error(), systemKeychainFile) {
			t.Errorf("%s: %v", name, err)
		}
		if name == "gone" && !strings.Contains(err.Error(), "sallyport vault init") {
			t.Errorf("%s: no remedy in %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), hex.EncodeToString(key[:4])) {
			t.Error("the error tells the key")
		}
		if data == nil && len(f.data) != 0 {
			t.Error("made anew")
		}
	}
	if entries, err := os.ReadDir(d); err != nil || len(entries) != 1 {
		t.Errorf("fell back to something: %v %v", entries, err)
	}
	f.data[account] = key
	if got, err := load(d, cfg); err != nil || !bytes.Equal(got, key) {
		t.Errorf("put back: %v", err)
	}
	cfg.Kind = File
	if _, err := load(d, cfg); !errors.Is(err, ErrKind) || !strings.Contains(err.Error(), "sallyport vault rekey --to file") {
		t.Errorf("%v", err)
	}
}

// TestEachErrorOfTheKeychainDeniesWithARemedy: of every call, and every error that
// has words of its own.
func TestEachErrorOfTheKeychainDeniesWithARemedy(t *testing.T) {
	f, _, key, cfg, d := inKeychain(t)
	for status, remedy := range map[error]string{
		errSecInteractionNotAllowed: "signature",
		errSecInteractionRequired:   "signature",
		errSecAuthFailed:            "/var/db/SystemKey",
		errSecNoSuchKeychain:        "security default-keychain",
		errSecNoDefaultKeychain:     "security default-keychain",
		errSecInvalidKeychain:       "security default-keychain",
		errSecReadOnly:              "ls -leO",
		errSecWrPerm:                "ls -leO",
		errSecNotAvailable:          "restart the computer",
		osStatus(-25243):            "security error CODE",
		errNoKeychain:               "build it with cgo",
	} {
		for _, call := range []string{"where", "get"} {
			f.fails = map[string]error{call: status}
			_, err := load(d, cfg)
			if !errors.Is(err, ErrMissing) || !errors.Is(err, status) || !strings.Contains(err.Error(), remedy) {
				t.Errorf("%v of %s: %v", status, call, err)
			}
			var s osStatus
			if errors.As(status, &s) && !strings.Contains(err.Error(), fmt.Sprint(int32(s))) {
				t.Errorf("the number is not in %v", err)
			}
			if len(f.data) != 1 {
				t.Errorf("%v of %s: %d items", status, call, len(f.data))
			}
		}
		for _, call := range []string{"where", "add", "get"} {
			f.fails = map[string]error{call: status}
			fresh := dir(t)
			if _, _, err := Create(fresh, strings.Repeat("f", 32), cfg, quiet); !errors.Is(err, status) || !strings.Contains(err.Error(), remedy) {
				t.Errorf("%v of %s: %v", status, call, err)
			}
			if entries, err := os.ReadDir(fresh); err != nil || len(entries) != 0 {
				t.Errorf("%v of %s: fell back to something: %v %v", status, call, entries, err)
			}
			maps.DeleteFunc(f.data, func(account string, _ []byte) bool { return !strings.HasPrefix(account, vaultID) })
		}
	}
	f.fails = nil
	if got, err := load(d, cfg); err != nil || !bytes.Equal(got, key) {
		t.Errorf("afterwards: %v", err)
	}
}

// forgetful takes what is added and holds something else.
type forgetful struct{ *fakeItems }

func (f forgetful) add(account, _ string, data []byte) error {
	f.data[account] = data[:16]
	return nil
}

func TestAnItemThatDoesNotHoldWhatWasWrittenIsRefused(t *testing.T) {
	f := withSystemKeychain(t)
	holders[len(holders)-1].holder = systemKeychain{forgetful{f}}
	cfg := config(t)
	cfg.Kind = SystemKeychain
	if _, _, err := Create(dir(t), vaultID, cfg, quiet); err == nil || !strings.Contains(err.Error(), "holds something else") {
		t.Errorf("%v", err)
	}
}

// TestOnlyTheServiceUsesTheSystemKeychain: in a terminal, root's default keychain is
// that of whoever logged in, and the service would never find the key.
func TestOnlyTheServiceUsesTheSystemKeychain(t *testing.T) {
	f, _, _, cfg, d := inKeychain(t)
	for name, as := range map[string]struct {
		notService bool
		uid        int
		path, want string
	}{
		"an administrator's command":    {true, 0, systemKeychainFile, "start the service"},
		"a user":                        {false, 501, "/Users/u/Library/Keychains/login.keychain-db", "uid 501"},
		"a user with a wrong default":   {false, 501, systemKeychainFile, "uid 501"},
		"root in a terminal":            {false, 0, "/Users/u/Library/Keychains/login.keychain-db", "login.keychain-db"},
		"root with no default keychain": {false, 0, "", "keychain"},
	} {
		cfg.NotService, f.uid, f.path, f.calls = as.notService, as.uid, as.path, nil
		if _, err := load(d, cfg); !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), as.want) || !strings.Contains(err.Error(), "launchctl kickstart") {
			t.Errorf("%s: %v", name, err)
		}
		if _, _, err := Create(dir(t), vaultID, cfg, quiet); !errors.Is(err, ErrMissing) {
			t.Errorf("%s: %v", name, err)
		}
		k := systemKeychain{f}
		if err := k.drop(site{vault: vaultID, cfg: cfg}, entry{ID: "x"}); err == nil {
			t.Errorf("%s: dropped", name)
		}
		must(t, k.sweep(site{vault: vaultID, cfg: cfg}, entry{Kind: SystemKeychain}, quiet))
		for _, call := range f.calls {
			if call != "where" {
				t.Errorf("%s: called %s", name, call)
			}
		}
	}
	if len(f.data) != 1 {
		t.Errorf("%d items", len(f.data))
	}
}

func TestRekeyLeavesOneItemBehind(t *testing.T) {
	f, _, key, cfg, d := inKeychain(t)
	cfg.Kind = "" // whichever is recorded
	other := strings.Repeat("e", 32) + "/x"
	f.data[other] = []byte("of another vault")
	r, err := Load(d, cfg)
	must(t, err)
	present, err := r.Key(r.Current.ID)
	must(t, err)
	for _, to := range []Kind{SystemKeychain, File, File, SystemKeychain} {
		next, err := r.Begin(present, to, quiet)
		must(t, err)
		if got, err := load(d, cfg); err != nil || !bytes.Equal(got, key) {
			t.Errorf("to %s, begun: %v", to, err)
		}
		// What a crash in another rekey has left.
		f.data[r.site().account("0123456789abcdef")] = []byte("stale")
		must(t, r.Finish(next, quiet))
		key = bytes.Clone(next.Reveal())
		if got, err := load(d, cfg); err != nil || !bytes.Equal(got, key) {
			t.Errorf("to %s: %v", to, err)
		}
		want := []string{other}
		if to == SystemKeychain {
			want = append(want, r.site().account(r.Current.ID))
			slices.Sort(want)
		}
		if got, _ := f.accounts(); !slices.Equal(got, want) {
			t.Errorf("to %s: %v", to, got)
		}
		if files, err := filepath.Glob(filepath.Join(d, "key*")); err != nil || len(files) != len(want)%2 {
			t.Errorf("to %s: %v %v", to, files, err)
		}
		present = next
	}
}

// A key in a file is not lost to a keychain that does not work, and who needs no
// keychain hears nothing of it.
func TestAKeyFileNeedsNoKeychain(t *testing.T) {
	f := withSystemKeychain(t)
	cfg, d := config(t), dir(t)
	cfg.Kind = File
	r, _ := newRecord(t, d, cfg)
	present, err := r.Key(r.Current.ID)
	must(t, err)
	for call, warned := range map[string]bool{"where": false, "accounts": true} {
		var out bytes.Buffer
		f.fails = map[string]error{call: errSecNotAvailable}
		must(t, r.Finish(present, slog.New(slog.NewTextHandler(&out, nil))))
		if warned != strings.Contains(out.String(), "may be left behind in the System keychain") {
			t.Errorf("%s: %s", call, out.String())
		}
	}
	f.fails = nil
	f.data[r.site().account("x")] = []byte("stale")
	f.fails = map[string]error{"remove": errSecReadOnly}
	must(t, r.Finish(present, quiet))
	if _, err := load(d, cfg); err != nil {
		t.Error(err)
	}
}

// What is moved aside keeps its key: it may be put back.
func TestRetiredRecordKeepsItsItem(t *testing.T) {
	_, r, _, cfg, d := inKeychain(t)
	r.Retire(quiet)
	if _, err := load(d, cfg); err != nil {
		t.Error(err)
	}
}

// An item that is gone already is dropped.
func TestDroppingAnItemTwice(t *testing.T) {
	f, r, _, _, _ := inKeychain(t)
	for range 2 {
		if err := (systemKeychain{f}).drop(r.site(), r.Current); err != nil || len(f.data) != 0 {
			t.Errorf("%d items: %v", len(f.data), err)
		}
	}
	f.fails["remove"] = errSecReadOnly
	if err := (systemKeychain{f}).drop(r.site(), r.Current); !errors.Is(err, errSecReadOnly) {
		t.Errorf("%v", err)
	}
}
