//go:build unix

package daemon

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
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
// knows what the configuration wants, it is what was installed. What failed is tried
// again, and said once.
func TestARepairIsRecorded(t *testing.T) {
	defer func(pauses []time.Duration) { repairAgain = pauses }(repairAgain)
	repairAgain = []time.Duration{time.Nanosecond}
	on := config.Default().AuthorizationPlugin
	off, unwanted := on, on
	off.Repair, unwanted.Login = false, false
	for what, c := range map[string]struct {
		broken, vault bool
		config        config.AuthorizationPlugin
		installed     string
		want          string
		tries         int
	}{
		"repair is off":             {false, true, off, authdb.Console, "authorization_plugin.repair is off", 1},
		"the plug-in is not there":  {false, true, on, authdb.Console, "no such file", 2},
		"the vault does not open":   {false, false, on, authdb.Console, "the agent does not answer logins", 2},
		"not wanted any more":       {false, true, unwanted, authdb.Console, "", 0},
		"a configuration is broken": {true, true, on, authdb.Authenticate, "no such file", 2},
		"broken, and not installed": {true, true, on, "", "", 0},
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
		if err := os.WriteFile(filepath.Join(state, "authdb", "rights.json"), []byte(`{"installed":["`+c.installed+`"]}`), 0o600); err != nil {
			t.Fatal(err)
		}
		loaded, err := config.Load(path)
		if err != nil {
			t.Fatal(err)
		}
		loaded.Config.AuthorizationPlugin = c.config
		problem := ""
		if c.broken {
			if err := os.WriteFile(path, []byte("state_dir = \""+state+"\"\n[authorization_plugin\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := config.Start(path)
			if err == nil {
				t.Fatal("it is not broken")
			}
			loaded, problem = config.Salvaged(path), err.Error()
		}
		var log bytes.Buffer
		o := VaultOptions(loaded, path, clock.System(), slog.New(slog.NewTextHandler(&log, nil)))
		o.MustExist = !c.vault // there is none
		d := &daemon{options: Options{ConfigPath: path, Clock: clock.System()}, loaded: loaded, broken: c.broken, problem: problem, store: store.New(o)}
		calls := 0
		d.repairRights(t.Context(), func(c *config.Config) *authdb.Rights {
			r := Rights(c)
			r.Bundle, r.Owner = filepath.Join(dir, "Sallyport.bundle"), os.Geteuid()
			r.Run = func(_ context.Context, _ []byte, _ string, args ...string) (authdb.Output, error) {
				calls++
				name := map[string]string{authdb.Console: "console-13", authdb.Authenticate: "authenticate-15-26"}[args[len(args)-1]]
				text, err := os.ReadFile("../../authplugin/authdb/testdata/" + name + ".plist")
				return authdb.Output{Stdout: text}, err
			}
			return r
		})
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
