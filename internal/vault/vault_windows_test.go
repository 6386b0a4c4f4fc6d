package vault

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/danieljoos/wincred"
	"golang.org/x/sys/windows"

	"sallyport/internal/keychain"
)

// credential is the only one of a vault's.
func credential(t *testing.T, v *Vault) *wincred.GenericCredential {
	t.Helper()
	list, err := wincred.FilteredList("Sallyport/vault/" + v.Info().VaultID + "/*")
	must(t, err)
	if len(list) != 1 || !strings.HasSuffix(list[0].TargetName, "/"+v.Info().KeyID) {
		t.Fatalf("%d credentials", len(list))
	}
	return &wincred.GenericCredential{Credential: *list[0]}
}

// TestVaultWithTheCredentialManager goes through the life of a vault whose key is
// a credential.
func TestVaultWithTheCredentialManager(t *testing.T) {
	o := options(t)
	o.Keychain.Kind = keychain.Auto
	machine(t, &o, "1")
	v := mustOpen(t, o)
	if k := v.Info().Keychain; k != keychain.WinCred {
		t.Fatalf("in %s", k)
	}
	put(t, v, "uid:1000", user{"alice", 1})
	first := credential(t, v)
	mustClose(t, v)

	must(t, first.Delete())
	mustDeny(t, o, ErrKeyMissing)
	if _, err := wincred.GetGenericCredential(first.TargetName); !errors.Is(err, wincred.ErrElementNotFound) {
		t.Errorf("made anew: %v", err)
	}
	must(t, first.Write())
	byHand := o
	byHand.Keychain.NotService = true
	mustDeny(t, byHand, ErrKeyMissing)
	machine(t, &o, "2")
	mustDeny(t, o, ErrCopied)
	machine(t, &o, "1")

	for _, kind := range []keychain.Kind{keychain.WinCred, keychain.File, keychain.WinCred} {
		v = mustOpen(t, o)
		must(t, v.Rekey(context.Background(), kind))
		put(t, v, "uid:1000", user{string(kind), 2})
		mustClose(t, v)
		v = mustOpen(t, o)
		if u, _ := get(t, v, "uid:1000"); u.Name != string(kind) || v.Info().Keychain != kind {
			t.Errorf("%v in %s", u, v.Info().Keychain)
		}
		if kind == keychain.WinCred {
			credential(t, v)
		}
		mustClose(t, v)
	}
	if _, err := wincred.GetGenericCredential(first.TargetName); !errors.Is(err, wincred.ErrElementNotFound) {
		t.Errorf("the first key is left: %v", err)
	}

	// What an init moves aside can be put back.
	old, err := Init(o)
	must(t, err)
	mustClose(t, old)
	aside, err := filepath.Glob(filepath.Join(o.Dir, "old-*"))
	if err != nil || len(aside) != 1 {
		t.Fatalf("%v %v", aside, err)
	}
	restore(t, aside[0], o.Dir, "vault.db", "keychain")
	v = mustOpen(t, o)
	if u, _ := get(t, v, "uid:1000"); u.Step != 2 {
		t.Errorf("%v", u)
	}
}

const rekeyEnv = "SALLYPORT_TEST_REKEY"

// TestHelperRekey is not a test: it is the agent that dies in a rekey.
func TestHelperRekey(t *testing.T) {
	dir, at, ok := strings.Cut(os.Getenv(rekeyEnv), "|")
	if !ok {
		return
	}
	o := crashOptions(dir)
	o.Keychain.Kind = keychain.WinCred
	v := mustOpen(t, o)
	onStep = func(step string) {
		if step == at {
			_ = windows.TerminateProcess(windows.CurrentProcess(), 9)
		}
	}
	t.Fatalf("lived on: %v", v.Rekey(context.Background(), keychain.WinCred))
}

// TestRekeyOfCredentialsCutShortAnywhereOpens kills an agent behind each step of a
// rekey, when there are two credentials.
func TestRekeyOfCredentialsCutShortAnywhereOpens(t *testing.T) {
	for _, at := range []string{stepRecorded, stepAnchored, stepResealed, stepFinished} {
		t.Run(at, func(t *testing.T) {
			o := options(t)
			o.Keychain.Kind = keychain.WinCred
			v := mustOpen(t, o)
			put(t, v, "uid:1000", user{"alice", 1})
			mustClose(t, v)
			cmd := exec.Command(os.Args[0], "-test.run=^TestHelperRekey$", "-test.timeout=60s")
			cmd.Env = append(os.Environ(), rekeyEnv+"="+o.Dir+"|"+at)
			if out, err := cmd.CombinedOutput(); cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != 9 {
				t.Fatalf("%v\n%s", err, out)
			}
			for range 2 {
				v := mustOpen(t, o)
				if u, _ := get(t, v, "uid:1000"); u.Step != 1 {
					t.Errorf("%v", u)
				}
				credential(t, v)
				mustClose(t, v)
			}
		})
	}
}

// TestNothingIsTakenFromUnderTheAgent tries to harm the files of a running agent,
// as the tests for Linux do. Windows lets nobody.
func TestNothingIsTakenFromUnderTheAgent(t *testing.T) {
	o := options(t)
	v := mustOpen(t, o)
	put(t, v, "uid:1000", user{"alice", 1})
	for _, name := range []string{"vault.db", "keychain/anchor", "lock"} {
		path := filepath.Join(o.Dir, name)
		for what, do := range map[string]func() error{
			"truncate": func() error { return os.Truncate(path, 0) },
			"remove":   func() error { return os.Remove(path) },
			"rename":   func() error { return os.Rename(path, path+".away") },
			"write":    func() error { return os.WriteFile(path, []byte("x"), 0o600) },
		} {
			if err := do(); !errors.Is(err, windows.ERROR_SHARING_VIOLATION) && !errors.Is(err, fs.ErrPermission) {
				t.Errorf("%s %s: %v", what, name, err)
			}
		}
	}
	put(t, v, "uid:1000", user{"alice", 2})
	mustClose(t, v)
	v = mustOpen(t, o)
	if u, _ := get(t, v, "uid:1000"); u.Step != 2 {
		t.Errorf("%v", u)
	}
}

// TestWhoLooksAtTheFilesIsNoHindrance has a backup or a scanner read everything
// that can be read, while logins go on.
func TestWhoLooksAtTheFilesIsNoHindrance(t *testing.T) {
	o := options(t)
	v := mustOpen(t, o)
	fill(t, v, 100)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for _, name := range []string{"vault.db", "keychain/anchor", "keychain/record.json"} {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				f, err := os.Open(filepath.Join(o.Dir, name))
				if err != nil {
					t.Error(err)
					return
				}
				// bbolt has locked a byte that lies behind everything.
				_, err = io.Copy(io.Discard, f)
				if err := errors.Join(err, f.Close()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 100 {
		must(t, login(v, "uid:1"))
	}
	close(stop)
	wg.Wait()
}

// TestVaultGrowsWhileItIsRead makes bbolt extend the file and map it anew, which
// on Windows must be done without a mapping.
func TestVaultGrowsWhileItIsRead(t *testing.T) {
	o := options(t)
	v := mustOpen(t, o)
	size := v.Info().FileSize
	if size > 2<<20 {
		t.Errorf("an empty vault has %d bytes", size)
	}
	put(t, v, "a", user{"alice", 1})
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					if u, ok := get(t, v, "a"); !ok || u.Name != "alice" {
						t.Errorf("%v %v", u, ok)
					}
				}
			}
		})
	}
	fill(t, v, 10000)
	close(stop)
	wg.Wait()
	if grown := v.Info().FileSize; grown < 4*size {
		t.Errorf("%d bytes, then %d", size, grown)
	}
	mustClose(t, v)
	v = mustOpen(t, o)
	if n := v.Info().Counts[Users]; n != 10001 {
		t.Errorf("%d users", n)
	}
}

func TestErrorsOfWindowsHaveARemedy(t *testing.T) {
	for err, want := range map[error]string{
		windows.ERROR_DISK_FULL:         "disk space",
		windows.ERROR_ACCESS_DENIED:     "DACL",
		windows.ERROR_SHARING_VIOLATION: "another program",
		windows.ERROR_WRITE_PROTECT:     "writable",
		windows.ERROR_CRC:               "chkdsk",
		windows.ERROR_GEN_FAILURE:       "event log",
	} {
		got := unwritable("file", &fs.PathError{Op: "write", Path: "file", Err: err})
		if !errors.Is(got, ErrUnwritable) || !strings.Contains(got.Error(), want) {
			t.Errorf("%v: %v", err, got)
		}
	}
}
