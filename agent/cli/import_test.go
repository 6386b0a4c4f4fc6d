package cli

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	adminv1 "sallyport/proto/sallyport/admin/v1"
)

const rawSecret = "12345678901234567890"

func writeOATH(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "users.oath")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestImportOATH(t *testing.T) {
	f := newFake()
	secret := hex.EncodeToString([]byte(rawSecret))
	file := writeOATH(t, "# users\nHOTP/T30 alice - "+secret+"\nHOTP erin - "+secret+" 3\nHOTP/T30/8 ghost + "+secret+
		"\nHOTP/T30 alice - "+secret+"\nHOTP/T30 x\x1b[2J - "+secret+"\n")
	s := newSession(t, f).run("import", "oath", file).wantExit(1)
	s.wantOut("imported  alice", "refused   erin", "line 3: a counter-based code", "pending   ghost",
		"line 5: a second token; the first is in line 2", "line 6:", "1 imported, 1 pending, 0 there already, 3 refused", "import pending")
	s.wantNot(secret, rawSecret, "\x1b")
	v := newSession(t, newFake()).run("import", "oath", file, "--json", "--replace").wantExit(1).object()
	if v["refused"] != 3.0 || v["imported"] != 1.0 || len(v["results"].([]any)) != 5 {
		t.Errorf("%v", v)
	}
}

func TestImportOATHThatExists(t *testing.T) {
	f := newFake()
	f.imported = func(r *adminv1.ImportRequest) (out []*adminv1.ImportResult) {
		for _, e := range r.GetEntries() {
			out = append(out, &adminv1.ImportResult{User: e.GetUser(), Outcome: "exists", Text: "is enrolled already"})
		}
		return out
	}
	file := writeOATH(t, "HOTP/T30 alice - "+hex.EncodeToString([]byte(rawSecret))+"\n")
	newSession(t, f).run("import", "oath", file).wantExit(0).wantOut("exists    alice", "1 there already", "--replace")
}

func TestImport100000(t *testing.T) {
	f := newFake()
	batches := 0
	f.imported = func(r *adminv1.ImportRequest) (out []*adminv1.ImportResult) {
		batches++
		if n := len(r.GetEntries()); n > 1000 {
			t.Errorf("a batch of %d", n)
		}
		for _, e := range r.GetEntries() {
			out = append(out, &adminv1.ImportResult{User: e.GetUser(), Outcome: "imported"})
		}
		return out
	}
	var b bytes.Buffer
	for i := range 100_000 {
		fmt.Fprintf(&b, "HOTP/T30 u%d - %040x\n", i, i)
	}
	s := newSession(t, f).run("import", "oath", writeOATH(t, b.String())).wantExit(0)
	if s.out != "100000 imported, 0 pending, 0 there already, 0 refused\n" {
		t.Errorf("%.300s", s.out)
	}
	if batches != 100 {
		t.Errorf("%d batches", batches)
	}
}

func TestImportPending(t *testing.T) {
	f := newFake()
	f.imported = func(r *adminv1.ImportRequest) []*adminv1.ImportResult {
		if !r.GetRetryPending() {
			t.Error("not a retry")
		}
		return []*adminv1.ImportResult{{User: "carol", Outcome: "imported"}, {User: "ghost", Outcome: "pending"}}
	}
	newSession(t, f).run("import", "pending").wantExit(0).wantOut("imported  carol", "1 imported, 1 pending")
}

// What the agent took before it failed is in force, and said; a failure before
// that is only a failure.
func TestImportThatBreaksOff(t *testing.T) {
	for _, c := range []struct{ good, users int }{{0, 10}, {1, 1500}} {
		f := newFake()
		f.imported = func(r *adminv1.ImportRequest) (out []*adminv1.ImportResult) {
			if c.good == 0 {
				return nil // too few results: the agent is broken
			}
			c.good--
			for _, e := range r.GetEntries() {
				out = append(out, &adminv1.ImportResult{User: e.GetUser(), Outcome: "imported"})
			}
			return out
		}
		var b bytes.Buffer
		for i := range c.users {
			fmt.Fprintf(&b, "HOTP/T30 u%d - %040x\n", i, i)
		}
		s := newSession(t, f).run("import", "oath", writeOATH(t, b.String())).wantExit(1).wantErr("results for")
		if c.users == 1500 {
			s.wantOut("1000 imported")
		} else if s.out != "" {
			t.Errorf("%s", s.out)
		}
	}
}
