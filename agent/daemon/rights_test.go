package daemon

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"sallyport/agent/store"
	"sallyport/authplugin/authdb"
	"sallyport/internal/clock"
	"sallyport/internal/config"
)

func TestRightsAreAsConfigured(t *testing.T) {
	c := &config.Config{StateDir: "/state", AuthorizationPlugin: config.AuthorizationPlugin{Login: true, Elevate: true, Repair: true}}
	r := Rights(c)
	if r.StateDir != "/state" || r.Wanted != (authdb.Wanted{Login: true, Elevate: true}) || !r.MayRepair || r.Bundle != authdb.DefaultBundle || r.Owner != 0 {
		t.Errorf("%+v", r)
	}
	if !filepath.IsAbs(r.Program) {
		t.Errorf("its own program is %q", r.Program)
	}
}

// TestARepairIsRecorded: what the start finds in the rights is an event; while nobody
// knows what the configuration wants, nothing is looked at. What failed is tried again,
// and said once.
func TestARepairIsRecorded(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there is no rights database on Windows")
	}
	console, err := os.ReadFile("../../authplugin/authdb/testdata/console-13.plist")
	if err != nil {
		t.Fatal(err)
	}
	defer func(pauses []time.Duration) { repairAgain = pauses }(repairAgain)
	repairAgain = []time.Duration{time.Nanosecond}
	for what, c := range map[string]struct {
		broken, vault, repair bool
		want                  string
		tries                 int
	}{
		"repair is off":             {false, true, false, "authorization_plugin.repair is off", 1},
		"the plug-in is not there":  {false, true, true, "no such file", 2},
		"the vault does not open":   {false, false, true, "the agent does not answer logins", 2},
		"a configuration is broken": {true, true, true, "", 0},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, "sallyport.toml")
		state := filepath.Join(dir, "state")
		if err := os.WriteFile(path, []byte("state_dir = \""+state+"\"\nkeychain = \"file\"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(state, "authdb"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(state, "authdb", "rights.json"), []byte(`{"installed":["system.login.console"]}`), 0o600); err != nil {
			t.Fatal(err)
		}
		loaded, err := config.Load(path)
		if err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		o := VaultOptions(loaded, path, clock.System(), slog.New(slog.NewTextHandler(&log, nil)))
		o.MustExist = !c.vault // there is none
		d := &daemon{options: Options{ConfigPath: path, Clock: clock.System()}, loaded: loaded, broken: c.broken, store: store.New(o)}
		calls := 0
		r := &authdb.Rights{StateDir: state, Wanted: authdb.Wanted{Login: true}, MayRepair: c.repair, Bundle: filepath.Join(dir, "Sallyport.bundle"), Owner: os.Geteuid(),
			Run: func(context.Context, []byte, string, ...string) (authdb.Output, error) {
				calls++
				return authdb.Output{Stdout: console}, nil
			}}
		d.repairRights(t.Context(), func() *authdb.Rights { return r })
		if err := d.store.Close(); err != nil {
			t.Fatal(err)
		}
		if said := strings.Count(log.String(), "msg=login_rights_missing"); said != min(c.tries, 1) {
			t.Errorf("%s: said %d times:\n%s", what, said, log.String())
		}
		if !strings.Contains(log.String(), c.want) || calls != c.tries { // one call reads the one right
			t.Errorf("%s: %d calls, and the log has:\n%s", what, calls, log.String())
		}
	}
}
