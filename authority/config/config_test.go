package config

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"sallyport/internal/factor/push"
	"sallyport/internal/tomlfile"
)

// minimal is the least that a file has to say.
const minimal = `organisation = "Example"
device_hosts = ["authority.example.com"]
[web]
origin = "https://approve.example.com"
[tls]
cert = "/etc/x.pem"
key = "/etc/x.key"
`

func put(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "authority.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAMinimalFile(t *testing.T) {
	path := put(t, minimal)
	l, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	c := l.Config
	if c.Web.API != "https://approve.example.com" || c.Web.RPID != "approve.example.com" || c.PushServices.Contact != "https://approve.example.com" ||
		c.ListenDevices != "[::]:7443" || c.Name == "" || !c.LocalPage() {
		t.Errorf("%+v", c)
	}
	if c.Limits.Push() != push.DefaultLimits() || time.Duration(c.Limits.Life) != time.Minute {
		t.Errorf("limits: %+v", c.Limits)
	}
	sources := map[string]string{}
	for _, v := range l.Values {
		sources[v.Key] = v.Source
	}
	if sources["web.origin"] != path+":4" || sources["listen_web"] != "default" || len(sources) < 25 {
		t.Errorf("sources: %v", sources)
	}
	if url, err := c.DatabaseURL(); url != "" || err != nil {
		t.Errorf("%q %v", url, err)
	}
}

// edit puts lines in front of, or over, those of the minimal file.
func edit(changes ...string) string {
	s := minimal
	for _, c := range changes {
		key, _, _ := strings.Cut(c, " =")
		table, name, dotted := strings.Cut(key, ".")
		if !dotted {
			table, name = "", key
		} else {
			c = strings.TrimPrefix(c, table+".")
		}
		lines := strings.Split(s, "\n")
		at, now := -1, ""
		for i, l := range lines {
			if strings.HasPrefix(l, "[") {
				now = strings.Trim(l, "[]")
			}
			if now == table && strings.HasPrefix(l, name+" =") {
				at = i
			}
		}
		switch {
		case at >= 0:
			lines[at] = c
			s = strings.Join(lines, "\n")
		case table == "":
			s = c + "\n" + s
		case strings.Contains(s, "["+table+"]\n"):
			s = strings.Replace(s, "["+table+"]\n", "["+table+"]\n"+c+"\n", 1)
		default:
			s += "[" + table + "]\n" + c + "\n"
		}
	}
	return s
}

func TestGoodFiles(t *testing.T) {
	for _, changes := range [][]string{
		{`web.origin = "https://example.com"`},
		{`web.origin = "https://approve.example.com:8443"`},
		{`web.rp_id = "example.com"`},
		{`web.origin = "https://pages.example.org"`, `web.api = "https://api.example.com"`},
		{`web.origin = "http://localhost:8080"`, `tls.mode = "none"`, `listen_web = "127.0.0.1:8080"`},
		{`web.origin = "https://localhost:8443"`, `tls.mode = "self-signed"`},
		{`web.origin = "https://approve.example.com"`, `tls.mode = "none"`, `listen_web = "[::1]:8080"`},
		{`tls.mode = "acme"`, `tls.acme_directory = "https://ca.example.com/dir"`},
		{`device_hosts = ["10.0.0.1", "::1", "authority"]`},
		{`listen_metrics = ""`},
		{`push_services.unsafe_local = ["127.0.0.1:9", "localhost:9", "[::1]:9"]`},
		{`push_services.hosts = ["push.example.com", "*.push.example.com"]`},
		{`limits.concurrent = 0`, `limits.life = "30s"`},
		{`events_out.syslog.address = "syslog.example.com:6514"`},
		{`events_out.syslog.address = "[2001:db8::1]:6514"`, `events_out.syslog.cert = "/etc/c.pem"`, `events_out.syslog.key = "/etc/c.key"`, `events_out.syslog.confirm = false`},
		{`events_out.webhook.url = "https://siem.example.com/in?t=1"`, `events_out.webhook.secret_file = "/etc/secret"`, `events_out.webhook.format = "ocsf"`},
		{`console.origin = "https://helpdesk.example.com"`, `console.second_person = ["bypass", "totp"]`},
		{`console.origin = "https://approve.example.com:8443"`, `console.cert = "/etc/c.pem"`, `console.key = "/etc/c.key"`},
		{`console.origin = "https://helpdesk.example.com"`, `tls.mode = "none"`, `listen_web = "127.0.0.1:8080"`, `console.listen = "127.0.0.1:8443"`},
		{`web.origin = "https://localhost:8443"`, `tls.mode = "self-signed"`, `console.origin = "https://localhost:8444"`},
		{`web.origin = "http://localhost:8080"`, `tls.mode = "none"`, `listen_web = "127.0.0.1:8080"`, `console.origin = "http://localhost:8443"`, `console.listen = "127.0.0.1:8443"`},
	} {
		if _, err := Load(put(t, edit(changes...))); err != nil {
			t.Errorf("%v: %v", changes, err)
		}
	}
}

func TestBadFilesNameTheLineAndTheRemedy(t *testing.T) {
	for _, c := range []struct {
		change string
		want   string
	}{
		{`lisen_web = "x"`, `line 1: unknown key "lisen_web"`},
		{`web.orgin = "x"`, `unknown key "web.orgin"`},
		{`events_kept = "5 days"`, "line 1"},
		{`state_dir = "var"`, ":1: state_dir is \"var\"; it must be an absolute path"},
		{`organisation = ""`, "organisation is"},
		{`organisation = "a\u001bb"`, "organisation is"},
		{`listen_devices = "7443"`, "listen_devices is"},
		{`listen_web = ""`, "listen_web is"},
		{`device_hosts = []`, "device_hosts is empty"},
		{`device_hosts = ["https://x"]`, "device_hosts names"},
		{`events_kept = "1h"`, "events_kept is 1h0m0s"},
		{`web.origin = ""`, "web.origin is not set"},
		{`web.origin = "approve.example.com"`, "web.origin is"},
		{`web.origin = "http://approve.example.com"`, "must be https"},
		{`web.origin = "https://approve.example.com/"`, "nothing behind"},
		{`web.origin = "https://Approve.example.com"`, "lower case"},
		{`web.origin = "https://approve.example.com:443"`, "own port"},
		{`web.origin = "https://10.0.0.1"`, "never bound to an address"},
		{`web.origin = "https://[::1]"`, "never bound to an address"},
		{`web.origin = "https://user@approve.example.com"`, "web.origin is"},
		{`web.api = "https://10.0.0.1"`, "web.api is"},
		{`web.rp_id = "10.0.0.1"`, "web.rp_id is"},
		{`web.rp_id = "com"`, "web.rp_id is"},
		{`web.rp_id = "https://example.com"`, "web.rp_id is"},
		{`web.rp_id = "other.example.com"`, "no browser lets the page"},
		{`web.rp_id = "pprove.example.com"`, "no browser lets the page"},
		{`tls.mode = "on"`, "tls.mode is"},
		{`tls.cert = ""`, "tls.cert and tls.key must"},
		{`tls.key = "key.pem"`, "absolute path"},
		{`tls.mode = "self-signed"`, "only for https://localhost"},
		{`tls.mode = "none"`, "must then be on loopback"},
		{`limits.concurrent = -1`, "limits.concurrent is -1"},
		{`limits.gap = "1s"`, "limits.gap is 1s"},
		{`limits.life = "1h"`, "limits.life is"},
		{`limits.pause = "1s"`, "limits.pause is"},
		{`console.origin = "http://helpdesk.example.com"`, "console.origin is"},
		{`console.origin = "http://localhost:8443"`, "must be https"},
		{`console.origin = "https://10.0.0.1"`, "console.origin is"},
		{`console.origin = "https://approve.example.com"`, "must be another"},
		{`console.second_person = ["login"]`, "console.second_person names"},
		{`console.session_idle = "10s"`, "console.session_idle is"},
		{`console.session_life = "100h"`, "console.session_life is"},
		{`console.cert = "c.pem"`, "absolute path"},
		{`push_services.hosts = ["10.0.0.1"]`, "push_services.hosts names"},
		{`push_services.hosts = ["*"]`, "push_services.hosts names"},
		{`push_services.contact = "it@example.com"`, "push_services.contact is"},
		{`push_services.unsafe_local = ["10.0.0.1:80"]`, "push_services.unsafe_local names"},
		{`push_services.unsafe_local = ["example.com:80"]`, "push_services.unsafe_local names"},
	} {
		_, err := Load(put(t, edit(c.change)))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q", c.change, err, c.want)
		}
	}
}

// TestAConsoleThatCannotBeIsRefused: what is wrong only together with other settings.
func TestAConsoleThatCannotBeIsRefused(t *testing.T) {
	for _, c := range []struct {
		want    string
		changes []string
	}{
		{"console.listen is", []string{`console.listen = "8443"`}},
		{"belong together", []string{`console.cert = "/etc/c.pem"`}},
		{"must then be on loopback", []string{`tls.mode = "none"`, `listen_web = "127.0.0.1:8080"`}},
		{"only for https://localhost", []string{`web.origin = "https://localhost:8443"`, `tls.mode = "self-signed"`}},
	} {
		_, err := Load(put(t, edit(append(c.changes, `console.origin = "https://helpdesk.example.com"`)...)))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v; want %q", c.changes, err, c.want)
		}
	}
}

// HAZARD: whoever may write the file decides where logins are approved.
func TestAFileThatOthersCanChangeIsRefused(t *testing.T) {
	path := put(t, minimal)
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), "changed by others") {
		t.Errorf("%v", err)
	}
	if _, err := Load(filepath.Join(t.TempDir(), "gone")); err == nil || !strings.Contains(err.Error(), "sallyport-authority init") {
		t.Errorf("%v", err)
	}
}

// HAZARD: the database's password in the configuration, an error or the log.
func TestTheDatabasesPasswordStaysInItsFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "url")
	path := put(t, edit(`database_url_file = "`+file+`"`))
	l, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		mode os.FileMode
		text string
		want string // "" = good
	}{
		{0o600, "postgres://u:canary@db.example.com/sallyport\n", ""},
		{0o640, "postgresql://u:canary@db.example.com/sallyport", ""},
		{0o644, "postgres://u:canary@db.example.com/sallyport", "read by others"},
		{0o600, "mysql://u:canary@db/x", "holds no postgres://"},
		{0o600, "postgres://u:canary%zz@db/x", "holds no postgres://"},
		{0o600, "", "holds no postgres://"},
	} {
		_ = os.Remove(file)
		if err := os.WriteFile(file, []byte(c.text), c.mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, c.mode); err != nil {
			t.Fatal(err)
		}
		url, err := l.Config.DatabaseURL()
		if c.want == "" && (err != nil || url != strings.TrimSpace(c.text)) || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%q, %v: %q, %v", c.text, c.mode, url, err)
		}
		if err != nil && strings.Contains(err.Error(), "canary") {
			t.Errorf("the error holds the password: %v", err)
		}
	}
	for _, v := range l.Values {
		if strings.Contains(v.Value, "canary") {
			t.Errorf("%s shows the password", v.Key)
		}
	}
}

// What init writes is what is read.
func TestTheWrittenFileIsRead(t *testing.T) {
	c := Default()
	c.Organisation, c.Name, c.DeviceHosts = `Ex "ample" \ Ümläut`, "node-1", []string{"a.example.com", "::1"}
	c.DatabaseURLFile, c.ListenWeb = "/etc/url", "127.0.0.1:8443"
	c.Web = Web{Origin: "https://pages.example.com", API: "https://api.example.com", RPID: "example.com"}
	c.TLS = TLS{Mode: TLSFiles, Cert: "/a", Key: "/b", ACMEEmail: "it@example.com", ACMEDirectory: "https://ca.example.com"}
	c.PushServices.UnsafeLocal = []string{"127.0.0.1:1"}
	text, err := c.Text()
	if err != nil {
		t.Fatal(err)
	}
	l, err := Load(put(t, string(text)))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	c.fill()
	if !reflect.DeepEqual(l.Config, c) {
		t.Errorf("read  %+v\nwrote %+v", l.Config, c)
	}
	c.Web.Origin = "nonsense"
	if _, err := c.Text(); err == nil {
		t.Error("a file that would be refused was written")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(minimal)
	f.Add(edit(`web.rp_id = "example.com"`, `tls.mode = "none"`, `listen_web = "127.0.0.1:1"`))
	f.Add("web = {origin = \"https://x.example\", api = 'https://y.example:1'}\n")
	f.Fuzz(func(t *testing.T, text string) {
		l, err := parse("f", []byte(text))
		if err != nil {
			return
		}
		c := l.Config
		if page, err := parseOrigin(c.Web.Origin); err != nil || page.Hostname() != c.Web.RPID && !strings.HasSuffix(page.Hostname(), "."+c.Web.RPID) {
			t.Errorf("an unusable relying party was taken: %+v", c.Web)
		}
		var again Config
		var b strings.Builder
		for _, v := range l.Values {
			b.WriteString(v.Key + " = " + v.Value + "\n")
		}
		if err := tomlfile.Decode([]byte(b.String()), &again); err != nil || fmt.Sprintf("%+v", again) != fmt.Sprintf("%+v", c) {
			t.Errorf("what is shown is not what was read: %v\n%s", err, &b)
		}
	})
}
