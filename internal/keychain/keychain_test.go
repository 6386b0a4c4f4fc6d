package keychain

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t testing.TB, path string, b []byte) {
	t.Helper()
	must(t, os.WriteFile(path, b, 0o600))
}

// config is one without a TPM and credentials, on computer "1".
func config(t testing.TB) Config {
	t.Helper()
	id := filepath.Join(t.TempDir(), "machine-id")
	write(t, id, []byte(strings.Repeat("1", 32)+"\n"))
	return Config{TPMDevice: filepath.Join(t.TempDir(), "no-tpm"), MachineIDFile: id}
}

func dir(t testing.TB) string {
	t.Helper()
	d := filepath.Join(t.TempDir(), "keychain")
	must(t, os.Mkdir(d, 0o700))
	return d
}

const vaultID = "00112233445566778899aabbccddeeff"

func newRecord(t testing.TB, d string, cfg Config) (*Record, []byte) {
	t.Helper()
	r, key, err := Create(d, vaultID, cfg, quiet)
	must(t, err)
	return r, bytes.Clone(key.Reveal())
}

// load fetches the key of a record anew, as a start does.
func load(d string, cfg Config) ([]byte, error) {
	r, err := Load(d, cfg)
	if err != nil {
		return nil, err
	}
	key, err := r.Key(r.Current.ID)
	if err != nil {
		return nil, err
	}
	return bytes.Clone(key.Reveal()), nil
}

func TestEditedRecordIsRefused(t *testing.T) {
	for name, edit := range map[string]func(*content){
		"machine":  func(c *content) { c.Machine = "" },
		"vault":    func(c *content) { c.Vault = strings.Repeat("0", 32) },
		"next":     func(c *content) { c.Next = &entry{ID: "x", Kind: File, File: "key.2"} },
		"kind":     func(c *content) { c.Current.Kind = SystemdCredential },
		"unknown":  func(c *content) { c.Current.Kind = "floppy" },
		"key file": func(c *content) { c.Current.File = "../key" },
		"version":  func(c *content) { c.Version = 2 },
	} {
		t.Run(name, func(t *testing.T) {
			cfg, d := config(t), dir(t)
			r, _ := newRecord(t, d, cfg)
			id := r.Current.ID
			edit(&r.content)
			body, err := json.Marshal(r.content)
			must(t, err)
			b, err := json.Marshal(onDisk{body, r.macs})
			must(t, err)
			write(t, filepath.Join(d, RecordName), b)
			r, err = Load(d, cfg)
			if err == nil {
				_, err = r.Key(id)
			}
			if !errors.Is(err, ErrRecord) && !errors.Is(err, ErrMissing) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestAnotherComputerIsNoticed(t *testing.T) {
	cfg, d := config(t), dir(t)
	r, _ := newRecord(t, d, cfg)
	if !r.SameComputer(r.Current.ID) {
		t.Error("not this computer")
	}
	for name, id := range map[string]string{"another": strings.Repeat("2", 32), "none yet": "uninitialized\n", "empty": ""} {
		write(t, cfg.MachineIDFile, []byte(id))
		r, err := Load(d, cfg)
		must(t, err)
		if r.SameComputer(r.Current.ID) {
			t.Errorf("%s: the same computer", name)
		}
	}
	r, err := Load(d, cfg)
	must(t, err)
	key, err := r.Key(r.Current.ID)
	must(t, err)
	must(t, r.Rebind(key, quiet))
	if r, err = Load(d, cfg); err != nil || !r.SameComputer(r.Current.ID) {
		t.Errorf("after accepting it: %v", err)
	}
}

func TestOnlyTheSystemsKindsAreTaken(t *testing.T) {
	for _, kind := range append(Kinds(), "", Auto) {
		if err := kind.Check(); err != nil {
			t.Errorf("%q: %v", kind, err)
		}
	}
	for _, kind := range []Kind{TPM, SystemdCredential, WinCred, SystemKeychain, File, "floppy", "AUTO", "file "} {
		if slices.Contains(Kinds(), kind) {
			continue
		}
		if err := kind.Check(); !errors.Is(err, ErrKind) || !strings.Contains(err.Error(), string(Kinds()[0])) {
			t.Errorf("%q: %v", kind, err)
		}
		cfg, d := config(t), dir(t)
		cfg.Kind = kind
		if _, _, err := Create(d, vaultID, cfg, quiet); !errors.Is(err, ErrKind) {
			t.Errorf("%q: %v", kind, err)
		}
		if entries, err := os.ReadDir(d); err != nil || len(entries) != 0 {
			t.Errorf("%q: left behind: %v %v", kind, entries, err)
		}
	}
}

func TestNoRecordIsNotADamagedOne(t *testing.T) {
	if _, err := Load(dir(t), config(t)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func FuzzRecord(f *testing.F) {
	good, err := os.ReadFile("testdata/record.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"content":{"version":1,"vault":"","current":{"id":"a","kind":"file","file":"../../etc/shadow"}},"macs":{}}`))
	f.Add([]byte(`{"content":{"version":1,"current":{"id":"a","kind":"tpm","tpm_public":"AAA=","tpm_private":""}},"macs":null}`))
	f.Add([]byte(`{}{}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parse(b)
		if err != nil {
			return
		}
		for _, e := range r.entries() {
			if e.Kind == File && e.File != "key" && e.File != "key.2" {
				t.Errorf("would read %q", e.File)
			}
		}
	})
}
