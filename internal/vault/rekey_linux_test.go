package vault

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"sallyport/internal/event"
	"sallyport/internal/keychain"
	"sallyport/internal/keychain/keychaintest"
)

func TestRekeyChangesEverySealAndKeepsEverything(t *testing.T) {
	o := options(t)
	o.Keychain.CredentialsDir = t.TempDir()
	writeFile(t, filepath.Join(o.Keychain.CredentialsDir, keychain.CredentialName), []byte(strings.Repeat("0f", 32)+"\n"))
	v := mustOpen(t, o)
	put(t, v, "uid:1000", user{"alice", 1})
	ev := len(events(t, v))
	stale := readFile(t, filepath.Join(o.Dir, "vault.db"))

	if err := v.Rekey(context.Background(), keychain.Auto); !errors.Is(err, ErrKeychain) {
		t.Errorf("to auto: %v", err)
	}
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 2 {
		wg.Go(func() { // whoever reads meanwhile sees no half of it
			for {
				select {
				case <-stop:
					return
				default:
					get(t, v, "uid:1000")
				}
			}
		})
	}
	for _, kind := range []keychain.Kind{keychain.SystemdCredential, keychain.File, keychain.File, keychain.SystemdCredential} {
		must(t, v.Rekey(context.Background(), kind))
		if i := v.Info(); i.Keychain != kind {
			t.Errorf("%+v", i)
		}
		put(t, v, "uid:1001", user{string(kind), 1})
	}
	close(stop)
	wg.Wait()
	if err := v.Rekey(context.Background(), keychain.SystemdCredential); err == nil {
		t.Error("rekeyed to the same key")
	}
	if list := events(t, v); len(list) != ev+4 || list[len(list)-1].Name != event.VaultRekeyed {
		t.Errorf("%v", list)
	}
	mustClose(t, v)
	mustDeny(t, o, ErrKeychain) // the configuration still says file
	v, err := OpenToRekey(context.Background(), o, keychain.File)
	must(t, err)
	mustClose(t, v)
	mustClose(t, mustOpen(t, o)) // as configured
	for range 2 {
		v, err = OpenToRekey(context.Background(), o, keychain.SystemdCredential)
		must(t, err)
		mustClose(t, v)
	}
	o.Keychain.Kind = keychain.SystemdCredential
	v = mustOpen(t, o)
	if u, ok := get(t, v, "uid:1000"); !ok || u.Name != "alice" {
		t.Errorf("%v %v", u, ok)
	}
	mustClose(t, v)
	if _, err := os.Stat(filepath.Join(o.Dir, "keychain", "key")); err == nil {
		t.Error("the key file is left")
	}
	// The vault of before the rekey is of another key.
	sane := snapshot(t, o.Dir)
	writeFile(t, filepath.Join(o.Dir, "vault.db"), stale)
	mustDeny(t, o, ErrCopied)
	restore(t, sane, o.Dir)

	cred := filepath.Join(o.Keychain.CredentialsDir, keychain.CredentialName)
	for name, content := range map[string]string{"another": strings.Repeat("0e", 32), "short": "0f0f", "none": ""} {
		if name == "none" {
			must(t, os.Remove(cred))
		} else {
			writeFile(t, cred, []byte(content))
		}
		mustDeny(t, o, ErrKeyMissing)
	}
	o.Keychain.CredentialsDir = ""
	mustDeny(t, o, ErrKeyMissing)
	for _, n := range []string{"key", "key.2"} {
		if _, err := os.Stat(filepath.Join(o.Dir, "keychain", n)); err == nil {
			t.Errorf("fell back to %s", n)
		}
	}
}

// readOnly makes every write to an open file fail.
func readOnly(t *testing.T, f *os.File) {
	t.Helper()
	r, err := os.Open(f.Name())
	must(t, err)
	defer r.Close()
	must(t, unix.Dup3(int(r.Fd()), int(f.Fd()), unix.O_CLOEXEC))
}

// A rekey that cannot be committed leaves the vault with its old key, and working.
func TestRekeyThatFailsChangesNothing(t *testing.T) {
	o := options(t)
	v := mustOpen(t, o)
	put(t, v, "uid:1000", user{"alice", 1})
	before := v.Info()
	for _, broken := range []string{stepRecorded, stepAnchored} {
		stepping(t, func(step string) {
			if step == broken {
				readOnly(t, v.store.file) // the commit's writes fail
			}
		})
		if err := v.Rekey(context.Background(), keychain.File); err == nil {
			t.Fatal("succeeded")
		}
		stepping(t, func(string) {})
		if i := v.Info(); i.KeyID != before.KeyID || i.Generation != before.Generation {
			t.Errorf("%+v then %+v", before, i)
		}
		if u, ok := get(t, v, "uid:1000"); !ok || u.Step != 1 {
			t.Errorf("%v %v", u, ok)
		}
		keys, _ := filepath.Glob(filepath.Join(o.Dir, "keychain", "key*"))
		if fmt.Sprint(keys) != fmt.Sprint([]string{filepath.Join(o.Dir, "keychain", "key")}) {
			t.Errorf("%v", keys)
		}
	}
	must(t, v.Rekey(context.Background(), keychain.File))
	put(t, v, "uid:1000", user{"alice", 2})
	mustClose(t, v)
	mustClose(t, mustOpen(t, o))
}

// TestVaultWithATPM goes through the life of a vault whose key a TPM seals.
func TestVaultWithATPM(t *testing.T) {
	o := options(t)
	o.Keychain.Kind = keychain.Auto
	state := t.TempDir()
	var stop func()
	o.Keychain.TPMDevice, stop = keychaintest.SWTPM(t, state)
	machine(t, &o, "1")
	v := mustOpen(t, o)
	if k := v.Info().Keychain; k != keychain.TPM {
		t.Fatalf("in %s", k)
	}
	put(t, v, "uid:1000", user{"alice", 1})
	mustClose(t, v)

	stop()
	mustDeny(t, o, ErrKeyMissing)
	other := o
	other.Keychain.TPMDevice, _ = keychaintest.SWTPM(t, t.TempDir())
	mustDeny(t, other, ErrCopied)
	o.Keychain.TPMDevice, _ = keychaintest.SWTPM(t, state)
	machine(t, &o, "2") // a new installation of the system on the same computer
	v = mustOpen(t, o)
	for _, kind := range []keychain.Kind{keychain.TPM, keychain.File, keychain.TPM} {
		must(t, v.Rekey(context.Background(), kind))
		put(t, v, "uid:1000", user{string(kind), 2})
		mustClose(t, v)
		v = mustOpen(t, o)
		if u, _ := get(t, v, "uid:1000"); u.Name != string(kind) || v.Info().Keychain != kind {
			t.Errorf("%v in %s", u, v.Info().Keychain)
		}
	}
	if _, err := os.Stat(filepath.Join(o.Dir, "keychain", "key")); err == nil {
		t.Error("the key file is left")
	}
}
