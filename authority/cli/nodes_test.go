package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/authority/store/storetest"
	"sallyport/internal/organisation"
)

// Two nodes on one PostgreSQL: the second has the first's keys and configuration,
// and a name and ports of its own.
func TestTwoNodesOnOneDatabase(t *testing.T) {
	one, two := newShell(t), newShell(t)
	url := filepath.Join(one.dir, "database.url")
	ok(t, os.WriteFile(url, []byte(storetest.Database(t)+"\n"), 0o600))
	one.init("--database-url-file", url)
	if _, err := os.Stat(filepath.Join(one.dir, "state", "authority.db")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("there is a SQLite database as well")
	}
	// HAZARD: a second init on the database would be a second authority.
	other := newShell(t)
	other.fails(ExitFailed, "holds an authority already", "init", "--name", "x", "--origin", "http://localhost:1", "--state-dir", filepath.Join(other.dir, "state"), "--database-url-file", url)
	if _, err := os.Stat(filepath.Join(other.dir, "state", "keys")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("there are keys of a second authority")
	}

	ok(t, os.CopyFS(filepath.Join(two.dir, "state"), os.DirFS(filepath.Join(one.dir, "state"))))
	for _, name := range []string{"escrow.key", "ca.key", "ca.crt", "organisation.key", "organisation.pub", "webpush.key"} {
		ok(t, os.Chmod(filepath.Join(two.dir, "state", "keys", name), 0o600))
	}
	first := one.serve() // the ports of the other are picked while these are taken
	text := string(read(t, one.config))
	var lines []string
	for line := range strings.Lines(text) {
		switch key, _, _ := strings.Cut(line, " ="); key {
		case "name":
			line = "name = \"two\"\n"
		case "state_dir":
			line = "state_dir = \"" + filepath.Join(two.dir, "state") + "\"\n"
		case "listen_devices", "listen_web", "listen_metrics":
			line = key + " = \"127.0.0.1:" + freePort(t) + "\"\n"
		}
		lines = append(lines, line)
	}
	ok(t, os.MkdirAll(filepath.Dir(two.config), 0o700))
	ok(t, os.WriteFile(two.config, []byte(strings.Join(lines, "")), 0o600))

	second := two.serve()
	one.ok("user", "add", "maya")
	var token struct{ Token string }
	one.json(&token, "token", "create", "--user", "maya")
	laptop, err := join(t, first.Devices, token.Token)
	ok(t, err)
	laptop.connect()

	// A command at one node is heard at the other.
	policy := filepath.Join(two.dir, "policy.toml")
	ok(t, os.WriteFile(policy, []byte("ask = \"required\"\n"), 0o600))
	two.ok("policy", "set", policy)
	var rules struct{ Ask string }
	ok(t, json.Unmarshal(laptop.item(organisation.KindPolicy, "", 1).Payload, &rules))
	if rules.Ask != "required" {
		t.Errorf("rules: %+v", rules)
	}
	var v statusView
	two.json(&v, "status")
	if !v.Healthy || v.Database != "postgresql" || v.Node != "two" || v.Online != 1 {
		t.Errorf("status: %+v", v)
	}
	for _, r := range []*running{first, second} {
		if code, text := r.get(t, "/readyz"); code != 200 {
			t.Errorf("ready: %d %s", code, text)
		}
	}
	// A backup says what it does not hold.
	path := filepath.Join(one.dir, "backup.tar")
	if out := one.ok("backup", path); !strings.Contains(out, "pg_dump") || bytes.Contains(read(t, path), []byte("authority.db")) {
		t.Errorf("backup: %s", out)
	}
}
