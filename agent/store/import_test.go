package store

import (
	"log/slog"
	"path/filepath"
	"testing"

	"sallyport/internal/clock"
	"sallyport/internal/keychain"
	"sallyport/internal/vault"
)

func TestAPendingImportIsFoundByWhoseNameItIs(t *testing.T) {
	s := New(vault.Options{Dir: filepath.Join(t.TempDir(), "state"), Keychain: keychain.Config{Kind: keychain.File}, Clock: clock.System(), EventLimit: 100, Log: slog.New(slog.DiscardHandler)})
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := s.Update(t.Context(), func(tx *vault.Tx) error {
		for _, name := range []string{"alice", `Corp\Bob`, `corp\carol`, `CORP\carol`, `CORP\Ärger`} {
			if err := tx.Put(vault.Pending, name, Import{Name: name}); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"alice": "alice", "ALICE": "", `CORP\alice`: "", // of which domain?
		`CORP\bob`: `Corp\Bob`, `Corp\Bob`: `Corp\Bob`, `OTHER\bob`: "", "bob": "", `CORP\bobby`: "",
		`corp\carol`: `corp\carol`, `CORP\carol`: `CORP\carol`, // as it is written, first
		`corp\Ärger`: `CORP\Ärger`, `CORP\ärger`: "",
	} {
		if err := s.View(func(tx *vault.Tx) error {
			i, found, err := PendingImport(tx, name)
			if i.Name != want || found != (want != "") {
				t.Errorf("%q: %q (found: %v), want %q", name, i.Name, found, want)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
}
