//go:build linux

package agenttest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"sallyport/internal/event"
)

// breakages are what can happen to the configuration file; what it is replaced
// with is put back by writing it anew.
var breakages = map[string]func(t *testing.T, path string){
	"malformed":          func(t *testing.T, path string) { appendFile(t, path, "\n[policy\n") },
	"emptied":            func(t *testing.T, path string) { write(t, path, "[") },
	"unknown key":        func(t *testing.T, path string) { appendFile(t, path, "\n[policy.exmept]\nuids = [0]\n") },
	"a value of no kind": func(t *testing.T, path string) { appendFile(t, path, "\n[limits]\nprompt_time = \"soon\"\n") },
	"a bad range": func(t *testing.T, path string) {
		appendFile(t, path, "\n[policy.required]\nremote = [\"192.0.2.0/33\"]\n")
	},
	"binary":             func(t *testing.T, path string) { write(t, path, "\x00\xff\xfe\x01") },
	"huge":               func(t *testing.T, path string) { write(t, path, strings.Repeat("# x\n", 1<<19)) },
	"writable by others": func(t *testing.T, path string) { must(t, os.Chmod(path, 0o666)) },
	"writable by a group": func(t *testing.T, path string) {
		must(t, os.Chmod(path, 0o664))
	},
	"somebody else's": func(t *testing.T, path string) { must(t, os.Chown(path, 20000, 100)) },
	"gone":            func(t *testing.T, path string) { must(t, os.Remove(path)) },
	"a directory":     func(t *testing.T, path string) { must(t, os.Remove(path), os.Mkdir(path, 0o755)) },
	"a broken link":   func(t *testing.T, path string) { must(t, os.Remove(path), os.Symlink("/nonexistent/x", path)) },
	"a device":        func(t *testing.T, path string) { must(t, os.Remove(path), os.Symlink("/dev/zero", path)) },
	"a named pipe":    func(t *testing.T, path string) { must(t, os.Remove(path), syscall.Mkfifo(path, 0o644)) },
	"a broken drop-in": func(t *testing.T, path string) {
		dir := filepath.Join(filepath.Dir(path), "config.d")
		must(t, os.MkdirAll(dir, 0o755))
		write(t, filepath.Join(dir, "50-policy.toml"), "[policy.exempt\n")
	},
	"an open drop-in": func(t *testing.T, path string) {
		dir := filepath.Join(filepath.Dir(path), "config.d")
		must(t, os.MkdirAll(dir, 0o755))
		write(t, filepath.Join(dir, "50-policy.toml"), "[policy.exempt]\nuids = [20000]\n")
		must(t, os.Chmod(filepath.Join(dir, "50-policy.toml"), 0o666))
	},
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(text), 0o644))
}

func appendFile(t *testing.T, path, text string) {
	t.Helper()
	appendTo(t, path, text)
}

// mend puts the good configuration back.
func (s *site) mend(good string) {
	s.t.Helper()
	must(s.t, os.RemoveAll(s.config), os.RemoveAll(filepath.Join(filepath.Dir(s.config), "config.d")))
	s.replaceConfig(good)
}

// Fail-open on a broken configuration file: a running agent keeps the last good
// one and says so; the next login after the mending goes by the new one.
func TestBrokenConfigurationKeepsTheLastGoodOne(t *testing.T) {
	need(t)
	for name, harm := range breakages {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.flags = []string{"--runtime-dir", s.run} // the commands cannot read it in the file either
			good, err := os.ReadFile(s.config)
			must(t, err)
			s.open()
			required := newUser(t)
			s.mend(string(good) + fmt.Sprintf("[policy.required]\nuids = [%d]\n", required.uid))
			want(t, s.as(required, "123456"), deny, "not_enrolled")
			harm(t, s.config)
			for range 2 {
				want(t, s.as(s.enrolled, s.phone.wrong(t)), deny, "wrong_code")
				want(t, s.as(required, "123456"), deny, "not_enrolled")
				want(t, s.as(s.exempt), skip, "exempt")
				want(t, s.as(s.plain), skip, "not_asked")
			}
			s.wantStatus(1, "config_broken")
			s.wantLog("config_rejected")
			if n := count(s.events(), event.ConfigRejected, nil, ""); n != 1 {
				t.Errorf("%d config_rejected events, want one", n)
			}
			if got := s.command("", "config", "check"); got.exit != 1 || !strings.Contains(got.errOut, filepath.Dir(s.config)) {
				t.Errorf("config check: %+v", got)
			}
			s.mend(string(good))
			want(t, s.as(required), skip, "not_asked")
			s.well()
			if got := s.command("", "config", "check"); got.exit != 0 {
				t.Errorf("config check: %+v", got)
			}
		})
	}
}

// At a cold start there is no last good one in memory. Whoever is enrolled or
// required is denied; the others log in as before, as far as the policy that was
// last in force is known.
func TestColdStartWithABrokenConfiguration(t *testing.T) {
	need(t)
	for name, harm := range breakages {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.flags = []string{"--runtime-dir", s.run} // the commands cannot read it in the file either
			good, err := os.ReadFile(s.config)
			must(t, err)
			s.open()
			required := newUser(t)
			s.mend(string(good) + fmt.Sprintf("[policy.required]\nuids = [%d]\n", required.uid))
			want(t, s.as(required, "123456"), deny, "not_enrolled")
			s.stop()
			harm(t, s.config)
			// What cannot be read of the file is as it is by default, and so the
			// state lies where it does by default. In a mount namespace of its own
			// each of these agents has that place for itself.
			s.wrapper = []string{"unshare", "--mount", "--propagation", "private", "sh", "-euc",
				`mkdir -p /var/lib/sallyport; mount --bind "$0" /var/lib/sallyport; exec "$@"`, s.state}
			s.start()
			for range 2 {
				want(t, s.as(s.enrolled, s.phone.code(t, 0)), deny, "config_broken")
				want(t, s.as(required, "123456"), deny, "config_broken")
				want(t, s.as(s.exempt), skip, "exempt")
				want(t, s.as(s.plain), skip, "not_asked")
			}
			wantPAM(t, s.pam("sshd", s.enrolled, s.phone.code(t, 0)), pamAuthErr)
			s.wantLog("config_rejected")
			s.wantStatus(1, "config_broken")
			// Once it is mended the agent goes by it; where the file names another
			// place for the state, the agent starts over by itself.
			s.mend(string(good))
			s.heals()
			want(t, s.as(required), skip, "not_asked")
		})
	}
}

// Where no policy was ever in force, nobody is let in unasked.
func TestFirstStartWithABrokenConfigurationDenies(t *testing.T) {
	need(t)
	s := newSite(t)
	good, err := os.ReadFile(s.config)
	must(t, err)
	appendFile(t, s.config, "\nnonsense\n")
	s.start()
	for _, u := range []*account{s.plain, s.exempt} {
		r := s.as(u, "123456")
		want(t, r, deny, "")
	}
	s.wantStatus(1, "config_broken")
	// Nor is a vault made of which it is not sure that it belongs there.
	if _, err := os.Lstat(s.db()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a vault was made: %v", err)
	}
	s.mend(string(good))
	s.eventually("it is as if it had started with the good one", func() bool { return s.as(s.plain).decision == skip })
	want(t, s.as(s.exempt), skip, "exempt")
	s.wantStatus(0, "")
}

// Proxy variables, which a service manager or a user's shell may set, reach
// neither the agent nor the commands.
func TestProxyVariablesChangeNothing(t *testing.T) {
	need(t)
	proxy, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer proxy.Close()
	go func() {
		for {
			conn, err := proxy.Accept()
			if err != nil {
				return
			}
			t.Error("somebody connected to the proxy")
			conn.Close()
		}
	}()
	a := newAgent(t)
	for _, name := range []string{"http_proxy", "https_proxy", "all_proxy", "grpc_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"} {
		a.env = append(a.env, name+"=http://"+proxy.Addr().String())
	}
	a.env = append(a.env, "GRPC_GO_LOG_SEVERITY_LEVEL=info", "GODEBUG=netdns=go", "SALLYPORT_TESTCLOCK=/nonexistent")
	a.start()
	u, phone := a.enrolled()
	a.wantStatus(0, "")
	code := phone.code(t, 0)
	wantPAM(t, a.pam("sshd", u, code), 0)
	want(t, a.as(u, code), deny, "code_already_used")
}

// A changed policy takes effect at the next login, without a word to the agent,
// and at once with SIGHUP.
func TestPolicyChangesTakeEffect(t *testing.T) {
	need(t)
	a := startAgent(t)
	u := newUser(t)
	want(t, a.as(u), skip, "not_asked")
	a.configure("[policy.required]", fmt.Sprintf("users = [%q]", u.name))
	want(t, a.as(u, "123456"), deny, "not_enrolled")
	follow := a.follow(t.Context())
	follow.want("config_loaded") // that of before
	a.configure()
	a.signal(syscall.SIGHUP)
	follow.want("config_loaded")
	want(t, a.as(u), skip, "not_asked")

	// Drop-ins win, and config show says where each value came from.
	dir := filepath.Join(a.dir, "config.d")
	must(t, os.Mkdir(dir, 0o755))
	write(t, filepath.Join(dir, "10-mdm.toml"), "[policy]\nask = \"required\"\n")
	want(t, a.as(u, "123456"), deny, "not_enrolled")
	var shown struct {
		Values []struct{ Key, Value, Source string }
	}
	a.cli(&shown, "config", "show")
	found := false
	for _, v := range shown.Values {
		if v.Key == "policy.ask" {
			found = true
			if v.Value != `"required"` && v.Value != `'required'` || v.Source != filepath.Join(dir, "10-mdm.toml")+":2" {
				t.Errorf("%+v", v)
			}
		}
	}
	if !found {
		t.Errorf("config show has no policy.ask: %+v", shown)
	}
	// What needs a restart says so, and changes nothing until then.
	a.configure(`admin_group = "users"`)
	a.signal(syscall.SIGHUP)
	if e := follow.want("config_loaded"); !strings.Contains(e.Text, "restart") {
		e = follow.want("config_loaded") // that of the drop-in came first
		if !strings.Contains(e.Text, "restart") {
			t.Errorf("nothing says that a restart is needed: %+v", e)
		}
	}
}

// Two config flags: before and after the command; and --runtime-dir says which
// agent, too.
func TestGlobalFlagsStandBeforeAndAfterTheCommand(t *testing.T) {
	need(t)
	a := startAgent(t)
	for _, args := range [][]string{
		{"--config", a.config, "status", "--json"},
		{"status", "--json", "--config", a.config},
		{"--runtime-dir", a.run, "status", "--json"},
		{"status", "--runtime-dir", a.run, "--json"},
		{"--json", "--runtime-dir=" + a.run, "status"},
	} {
		out, err := exec.Command(a.program, args...).Output()
		var v struct{ Healthy bool }
		if err != nil || json.Unmarshal(out, &v) != nil || !v.Healthy {
			t.Errorf("sallyport %q: %v: %s", args, err, out)
		}
	}
}
