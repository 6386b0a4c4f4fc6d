package daemon

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/agent/store"
	"sallyport/internal/clock"
	"sallyport/internal/config"
	"sallyport/internal/event"
	"sallyport/internal/policy"
	"sallyport/internal/vault"
	"sallyport/internal/winreg"
)

// resting is an agent that listens nowhere.
func resting(t *testing.T, text string) *daemon {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "sallyport.toml")
	write(t, path, "state_dir = '"+filepath.Join(dir, "state")+"'\nkeychain = \"file\"\n"+text)
	loaded, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	o := Options{ConfigPath: path, Clock: clock.System()}
	d := &daemon{options: o, log: log, loaded: loaded, store: store.New(VaultOptions(loaded, path, o.Clock, log)), mended: make(chan struct{}, 1)}
	t.Cleanup(func() {
		if err := d.store.Close(); err != nil {
			t.Error(err)
		}
	})
	d.startPolicy(t.Context())
	return d
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// events are the names of those recorded.
func (d *daemon) events(t *testing.T) string {
	t.Helper()
	var names []string
	if err := d.store.View(func(tx *vault.Tx) error {
		return tx.Events(0, func(e event.Event) bool {
			if strings.HasPrefix(string(e.Name), "config_") {
				names = append(names, string(e.Name))
			}
			return true
		})
	}); err != nil {
		t.Fatal(err)
	}
	return strings.Join(names, " ")
}

func asking(whom string) *config.Policies {
	return &config.Policies{Managed: &winreg.Key{Keys: []winreg.Subkey{{Name: "Policy", Key: winreg.Key{Values: []winreg.Value{winreg.NewText("ask", whom)}}}}}}
}

func TestWhatDidNotChangeIsNoEvent(t *testing.T) {
	d := resting(t, "")
	d.reload(false) // the directories that the vault has made count
	before := d.events(t)
	for range 3 {
		d.takePolicies(t.Context())
		d.reload(false)
	}
	if after := d.events(t); after != before {
		t.Errorf("%s, and then %s", before, after)
	}
}

// TestAPolicyThatIsRefusedAndMended: meanwhile the last good one is in force, and
// kept for a broken start; and a file that changes does not hide it.
func TestAPolicyThatIsRefusedAndMended(t *testing.T) {
	d := resting(t, "")
	d.reload(false)
	before := d.events(t)
	expect := func(what, ask, problem, events string) {
		t.Helper()
		s, rules := d.settings(), d.store.LastRules()
		if s.Config.Policy.Ask != ask || rules == nil || rules.Ask != ask || s.Broken {
			t.Errorf("%s: %s is asked, %+v kept", what, s.Config.Policy.Ask, rules)
		}
		if d.problem != problem && (problem == "" || !strings.Contains(d.problem, problem)) {
			t.Errorf("%s: %s", what, d.problem)
		}
		if got := strings.TrimSpace(strings.TrimPrefix(d.events(t), before)); got != events {
			t.Errorf("%s: %s, want %s", what, got, events)
		}
	}
	d.record(d.read(asking("required")))
	expect("a policy", policy.AskRequired, "", "config_loaded")
	d.record(d.read(asking("sometimes")))
	expect("one that makes no sense", policy.AskRequired, "sometimes", "config_loaded config_rejected")
	text, err := os.ReadFile(d.options.ConfigPath)
	if err != nil {
		t.Fatal(err)
	}
	write(t, d.options.ConfigPath, string(text)+"events = 500\n")
	expect("and a file", policy.AskRequired, "sometimes", "config_loaded config_rejected")
	d.record(d.read(asking("required")))
	expect("as before", policy.AskRequired, "", "config_loaded config_rejected config_loaded")
	if n := d.settings().Config.Events; n != 500 {
		t.Errorf("%d events are kept", n)
	}
}
