package keychain

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport/internal/keychain/keychaintest"
)

func TestAutoTakesTheKeyFileWhenThereIsNothingBetter(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	for _, kind := range []Kind{"", Auto, File} {
		cfg, d := config(t), dir(t)
		cfg.Kind = kind
		r, key := newRecord(t, d, cfg)
		if r.Current.Kind != File || r.VaultID() != vaultID || len(key) != 32 || bytes.Equal(key, make([]byte, 32)) {
			t.Errorf("%+v", r.content)
		}
		for _, name := range []string{"key", RecordName} {
			info, err := os.Stat(filepath.Join(d, name))
			must(t, err)
			if info.Mode() != 0o600 {
				t.Errorf("%s has mode %v", name, info.Mode())
			}
		}
		got, err := load(d, cfg)
		if err != nil || !bytes.Equal(got, key) {
			t.Errorf("%v", err)
		}
		rec, err := os.ReadFile(filepath.Join(d, RecordName))
		must(t, err)
		if bytes.Contains(rec, []byte(hex.EncodeToString(key[:8]))) || bytes.Contains(rec, bytes.Repeat([]byte("1"), 32)) {
			t.Error("the record tells the key or the machine id")
		}
	}
}

func TestSystemdCredentialBeatsTheKeyFile(t *testing.T) {
	for name, content := range map[string]string{
		"raw":              strings.Repeat("k", 32),
		"hexadecimal":      strings.Repeat("6b", 32),
		"with end of line": strings.Repeat("6B", 32) + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			cfg, d := config(t), dir(t)
			cfg.CredentialsDir = t.TempDir()
			write(t, filepath.Join(cfg.CredentialsDir, CredentialName), []byte(content))
			r, key := newRecord(t, d, cfg)
			if r.Current.Kind != SystemdCredential || string(key) != strings.Repeat("k", 32) {
				t.Errorf("%+v %q", r.content, key)
			}
			if _, err := os.Stat(filepath.Join(d, "key")); err == nil {
				t.Error("a key file, too")
			}
			if _, err := load(d, cfg); err != nil {
				t.Error(err)
			}
			cfg.CredentialsDir = ""
			if _, err := load(d, cfg); !errors.Is(err, ErrMissing) {
				t.Errorf("without the credential: %v", err)
			}
		})
	}
	for _, content := range []string{"", "short", strings.Repeat("zz", 32), strings.Repeat("k", 33), strings.Repeat("k", 1000)} {
		cfg := config(t)
		cfg.CredentialsDir = t.TempDir()
		write(t, filepath.Join(cfg.CredentialsDir, CredentialName), []byte(content))
		// A credential that is there but wrong is a mistake to be told, not a
		// reason to take something weaker.
		if _, _, err := Create(dir(t), vaultID, cfg, quiet); !errors.Is(err, ErrMissing) || content != "" && strings.Contains(err.Error(), content) {
			t.Errorf("%q: %v", content, err)
		}
	}
}

func TestRecordedKindIsNeverReplaced(t *testing.T) {
	cfg, d := config(t), dir(t)
	_, key := newRecord(t, d, cfg)

	// Something better appears: the recorded one stays.
	cfg.CredentialsDir = t.TempDir()
	write(t, filepath.Join(cfg.CredentialsDir, CredentialName), []byte(strings.Repeat("k", 32)))
	if got, err := load(d, cfg); err != nil || !bytes.Equal(got, key) {
		t.Errorf("%v", err)
	}
	// The configuration asks for another one: refused, with the remedy.
	for _, kind := range []Kind{SystemdCredential, TPM} {
		cfg.Kind = kind
		if _, err := load(d, cfg); !errors.Is(err, ErrKind) || !strings.Contains(err.Error(), "sallyport vault rekey --to "+string(kind)) {
			t.Errorf("%s: %v", kind, err)
		}
	}
	// The recorded one is gone: refused, although another is there.
	cfg.Kind = Auto
	must(t, os.Remove(filepath.Join(d, "key")))
	if _, err := load(d, cfg); !errors.Is(err, ErrMissing) {
		t.Errorf("%v", err)
	}
}

func TestFilesOfOthersAreRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("giving a file away needs root")
	}
	for _, name := range []string{"key", RecordName} {
		for what, spoil := range map[string]func(string){
			"owner":    func(p string) { must(t, os.Chown(p, 12345, 0)) },
			"group":    func(p string) { must(t, os.Chmod(p, 0o620)) },
			"readable": func(p string) { must(t, os.Chmod(p, 0o604)) },
			"link": func(p string) {
				must(t, os.Rename(p, p+".real"))
				must(t, os.Symlink(p+".real", p))
			},
			"fifo": func(p string) {
				must(t, os.Remove(p))
				must(t, syscall.Mkfifo(p, 0o600))
			},
			"directory": func(p string) {
				must(t, os.Remove(p))
				must(t, os.Mkdir(p, 0o700))
			},
		} {
			cfg, d := config(t), dir(t)
			newRecord(t, d, cfg)
			spoil(filepath.Join(d, name))
			if _, err := load(d, cfg); err == nil {
				t.Errorf("%s, %s: taken", name, what)
			}
		}
	}
}

func TestTPMBeatsEverythingAndIsNeverReplaced(t *testing.T) {
	state, d := t.TempDir(), dir(t)
	cfg := config(t)
	var stop func()
	cfg.TPMDevice, stop = keychaintest.SWTPM(t, state)
	cfg.CredentialsDir = t.TempDir()
	write(t, filepath.Join(cfg.CredentialsDir, CredentialName), []byte(strings.Repeat("k", 32)))
	r, key := newRecord(t, d, cfg)
	if r.Current.Kind != TPM || string(key) == strings.Repeat("k", 32) {
		t.Fatalf("%+v", r.content)
	}
	if entries, err := os.ReadDir(d); err != nil || len(entries) != 1 {
		t.Errorf("in the directory: %v %v", entries, err)
	}
	for range 5 { // more often than a TPM has room for objects and sessions
		if got, err := load(d, cfg); err != nil || !bytes.Equal(got, key) {
			t.Fatalf("%v", err)
		}
	}
	write(t, cfg.MachineIDFile, []byte(strings.Repeat("2", 32)))
	if r, err := Load(d, cfg); err != nil || !r.SameComputer(r.Current.ID) {
		t.Error("the TPM says which computer it is, not the machine id")
	}

	stop()
	if _, err := load(d, cfg); !errors.Is(err, ErrMissing) {
		t.Errorf("the TPM gone: %v", err)
	}
	write(t, cfg.TPMDevice, nil)
	if _, err := load(d, cfg); !errors.Is(err, ErrMissing) {
		t.Errorf("a file instead of the TPM: %v", err)
	}
	if entries, err := os.ReadDir(d); err != nil || len(entries) != 1 {
		t.Errorf("fell back to something: %v %v", entries, err)
	}
	// The same TPM after a reboot.
	cfg.TPMDevice, _ = keychaintest.SWTPM(t, state)
	if got, err := load(d, cfg); err != nil || !bytes.Equal(got, key) {
		t.Errorf("after a reboot: %v", err)
	}
}

func TestAnotherTPMIsRefused(t *testing.T) {
	cfg, d := config(t), dir(t)
	cfg.TPMDevice, _ = keychaintest.SWTPM(t, t.TempDir())
	newRecord(t, d, cfg)
	cfg.TPMDevice, _ = keychaintest.SWTPM(t, t.TempDir())
	_, err := load(d, cfg)
	if !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), "sallyport vault init") {
		t.Errorf("%v", err)
	}
	t.Log(err)
}

func TestTamperedSealedKeyIsRefused(t *testing.T) {
	cfg, d := config(t), dir(t)
	cfg.TPMDevice, _ = keychaintest.SWTPM(t, t.TempDir())
	r, key := newRecord(t, d, cfg)
	for name, blob := range map[string]*[]byte{"public": &r.Current.Public, "private": &r.Current.Private} {
		whole := bytes.Clone(*blob)
		for at := range whole {
			for _, bad := range [][]byte{flip(whole, at), whole[:at]} {
				*blob = bad
				k, err := r.Current.key(r.site())
				if err == nil {
					t.Fatalf("%s, byte %d: unsealed %v", name, at, bytes.Equal(k.Reveal(), key))
				}
				if strings.Contains(err.Error(), hex.EncodeToString(key[:4])) {
					t.Error("the error tells the key")
				}
			}
		}
		*blob = whole
	}
	if _, err := r.Current.key(r.site()); err != nil {
		t.Error(err)
	}
}

func flip(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 0x10
	return b
}

// A TPM that takes a command and never answers must not hang the agent.
func TestSilentTPMIsGivenUp(t *testing.T) {
	old := tpmPatience
	tpmPatience = 200 * time.Millisecond
	defer func() { tpmPatience = old }()
	cfg, d := config(t), dir(t)
	run, err := os.MkdirTemp("", "tpm")
	must(t, err)
	defer os.RemoveAll(run)
	l, err := net.Listen("unix", filepath.Join(run, "s"))
	must(t, err)
	defer l.Close()
	cfg.TPMDevice, cfg.Kind = filepath.Join(run, "s"), TPM
	if _, _, err := Create(d, vaultID, cfg, quiet); err == nil || !strings.Contains(err.Error(), "no answer") {
		t.Errorf("%v", err)
	}
	// On a first start with auto, the next kind is taken, and recorded.
	cfg.Kind = Auto
	r, _ := newRecord(t, d, cfg)
	if r.Current.Kind != File {
		t.Errorf("%+v", r.content)
	}
}
