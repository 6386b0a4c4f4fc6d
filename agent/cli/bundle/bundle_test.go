package bundle

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// unpack returns what the files of an archive hold.
func unpack(t *testing.T, packed []byte) map[string]string {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	files, r := map[string]string{}, tar.NewReader(z)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		name, ok := strings.CutPrefix(h.Name, "sallyport-support/")
		if !ok || h.Mode != 0o600 || files[name] != "" {
			t.Errorf("%s, mode %o", h.Name, h.Mode)
		}
		files[name] = string(text)
	}
}

func TestWhatLooksLikeASecretGoes(t *testing.T) {
	for _, secret := range []string{
		"otpauth://totp/x:y?secret=JBSWY3DPEHPK3PXP&issuer=x", "otpauth-migration://offline?data=CjEKCkhlbGxv",
		"JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP", "jbswy3dpehpk3pxpjbswy3dpehpk3pxp", "JBSWY3DPEHPK3PXP",
		"3132333435363738393031323334353637383930", "q83vEjRWeJq83vEjRWeJq83vEjRWeJo=", "sp_tok-Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6",
		"A1B2C-D3E4F", "1234-5678-9012",
		"-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE\nIB==\n-----END EC PRIVATE KEY-----", "-----BEGIN PRIVATE KEY-----\nMHcC",
	} {
		for _, around := range []string{"%s", "x %s y", "a=%s, b", "(%s)", "'%s'", `"%s"`, "line\n%s\nline"} {
			got, n := Scrub(strings.Replace(around, "%s", secret, 1), false)
			if n != 1 || strings.Contains(got, secret) || strings.Contains(got, "MHcC") {
				t.Errorf("%s in %s: %d, %s", secret, around, n, got)
			}
		}
	}
	for text, want := range map[string]string{
		`password = "hunter two"`:             `password = [removed]`,
		"PASSWD=hunter2 user=maya":            "PASSWD=[removed] user=maya",
		`{"token":"x","user":"maya"}`:         `{"token":[removed],"user":"maya"}`,
		"enroll_token: abc":                   "enroll_token: [removed]",
		"Authorization: Bearer abcdefghij":    "Authorization: [removed]",
		"sent Bearer abc.def-ghi":             "sent Bearer [removed]",
		"bind_pw=geheim, secret: 'a b'":       "bind_pw=[removed], secret: [removed]",
		"secret=otpauth://totp/x?secret=ABCD": "secret=[removed]",
	} {
		if got, _ := Scrub(text, false); got != want {
			t.Errorf("%s\n%s\nwant %s", text, got, want)
		}
	}
}

// TestWhatIsNoSecretStays: a bundle of holes helps nobody.
func TestWhatIsNoSecretStays(t *testing.T) {
	for _, text := range []string{
		"PermitRootLogin is prohibit-password: root gets in by key only", "/etc/pam.d/common-password:25: @include x", "/etc/pam.d/passwd:6: @include y", "authenticationmethods publickey,keyboard-interactive",
		"policy.exempt.users = ['backup']  # /etc/sallyport/config.d/50-servers.toml:7", "{60B78E88-EAD8-445C-9CFD-0B87F74EA6CD}", "S-1-5-21-1004336348-1177238915-682003330-512",
		`{"seq":123456,"time":"2026-11-22T10:20:30.123456789Z","event":"login_attempt","user":"maya","key":"uid:1000","reason":"wrong_code","factor":"totp"}`,
		"auth [success=1 default=ignore] pam_unix.so nullok", "-rw------- 0:0 1048576 2026-11-22T15:19:14Z vault.db", "no token was given", "the code is wrong",
		"push.allow_synced = true", "CredentialProviderFilters", "2 of 2 can log in without a network",
	} {
		if got, n := Scrub(text, false); n != 0 || got != text {
			t.Errorf("%s\n%s", text, got)
		}
	}
	// In a log a short number may be what somebody typed at the wrong prompt.
	for text, want := range map[string]string{
		"Invalid user 123456 from 192.0.2.7 port 54321":      "Invalid user [removed] from 192.0.2.7 port 54321",
		"user=12345678 denied":                               "user=[removed] denied",
		"sshd[1234567]: pid=1234567 uid 200000 bytes=123456": "sshd[1234567]: pid=1234567 uid 200000 bytes=123456",
		"2026-11-22T10:20:30+0000 pc42 level=INFO":           "2026-11-22T10:20:30+0000 pc42 level=INFO",
	} {
		if got, _ := Scrub(text, true); got != want {
			t.Errorf("%s\n%s\nwant %s", text, got, want)
		}
	}
}

func TestNamesAreReplacedEverywhereByTheSame(t *testing.T) {
	n := NewNames([]string{"maya", `CORP\Maya`, "maya@corp.example", "bob", "jean.luc", "root", "", "uid:1000", "SYSTEM", "zoë"})
	if n.Count() != 4 {
		t.Errorf("%v", n.pseudonyms)
	}
	for text, want := range map[string]string{
		"maya bob jean.luc zoë root":           "user-3 user-1 user-2 user-4 root",
		`CORP\MAYA, maya@corp.example.`:        `CORP\user-3, user-3@corp.example.`,
		`{"user":"maya","text":"for maya."}`:   `{"user":"user-3","text":"for user-3."}`,
		"/home/maya/x /home/bob":               "/home/user-3/x /home/user-1",
		"mayaq bobby amaya":                    "mayaq bobby amaya",
		"maya-laptop.local session-maya-1":     "user-3-laptop.local session-user-3-1",
		"jean.luc@x jean lucas":                "user-2@x jean lucas",
		"home-jean.luc.old user=bob\nuser=Bob": "home-user-2.old user=user-1\nuser=user-1",
		"\xff maya \x00bob":                    "\xff user-3 \x00user-1",
	} {
		if got := n.Replace(text); got != want {
			t.Errorf("%q\n%q\nwant %q", text, got, want)
		}
	}
	if got := (*Names)(nil).Replace("maya"); got != "maya" {
		t.Error(got)
	}
}

func TestTheManifestSaysWhatIsThereAndWhatIsNot(t *testing.T) {
	made := time.Date(2026, 11, 22, 10, 20, 30, 0, time.UTC)
	b := Bundle{Version: "1.2.3", Host: "pc42", Made: made, Names: NewNames([]string{"maya"})}
	b.Add(Part{Name: "a.txt", What: "the first", Text: "maya: token=x\n"})
	b.Add(Part{Name: "b.txt", What: "the second", Missing: "the agent of maya\nis not running"})
	// A very long line is cut out whole.
	b.Add(Part{Name: "c.txt", What: "a long one", Text: strings.Repeat("x", MaxPart) + "\nthe last line\nthe end\n"})
	packed, err := b.Pack()
	if err != nil {
		t.Fatal(err)
	}
	files := unpack(t, packed)
	if len(files) != 3 || files["a.txt"] != "user-1: token=[removed]\n" || files["c.txt"] != "the last line\nthe end\n" {
		t.Errorf("%d files, %q", len(files), files["a.txt"])
	}
	for _, want := range []string{"made 2026-11-22T10:20:30Z on pc42 by sallyport 1.2.3", "the first", "1 place that looked like a secret", "the agent of user-1; is not running",
		"c.txt", "the first 2097153 bytes were left out", "Of 1 user the name is replaced", "Never in it:"} {
		if !strings.Contains(files["MANIFEST.txt"], want) {
			t.Errorf("no %q in\n%s", want, files["MANIFEST.txt"])
		}
	}
	if strings.Contains(files["MANIFEST.txt"], "maya") || strings.Contains(files["MANIFEST.txt"], "the second") {
		t.Errorf("%s", files["MANIFEST.txt"])
	}
	if got := FileName("pc/42.example\x1b", made); got != "sallyport-support-pc-42-example--20261122-102030.tar.gz" {
		t.Error(got)
	}
}

func TestWriteReplacesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.tar.gz")
	if err := Write(path, []byte("one")); err != nil {
		t.Fatal(err)
	}
	if err := Write(path, []byte("two")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("%v", err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "one" {
		t.Errorf("%s, %v", got, err)
	}
	if err := Write(filepath.Join(t.TempDir(), "no", "x"), nil); err == nil {
		t.Error("there is no such directory")
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
		t.Errorf("%v, %v", left, err)
	}
}
