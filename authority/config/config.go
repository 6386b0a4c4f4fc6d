// Package config is the authority's configuration: one struct and one TOML file.
// Unknown keys are errors with the line. It holds no secret: keys and the
// database's password lie in files of their own.
package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/template"
	"time"

	"sallyport/authority/webpush"
	"sallyport/internal/factor/push"
	"sallyport/internal/tomlfile"
)

// DefaultPath is where the configuration lies unless --config says otherwise.
const DefaultPath = "/etc/sallyport-authority/authority.toml"

// Config is every setting of the authority.
type Config struct {
	Organisation    string       `toml:"organisation" comment:"who people are asked for: shown on the phone"`
	Name            string       `toml:"name" comment:"of this node, unlike that of any other on the same database; empty: this computer's name"`
	StateDir        string       `toml:"state_dir" comment:"keys, and the database where it is SQLite"`
	DatabaseURLFile string       `toml:"database_url_file" comment:"a file that holds postgres://user:password@host/database; empty: SQLite in state_dir"`
	ListenDevices   string       `toml:"listen_devices" comment:"where the computers connect to"`
	DeviceHosts     []string     `toml:"device_hosts" comment:"the names and addresses that they connect to it by"`
	ListenWeb       string       `toml:"listen_web" comment:"where the phones connect to"`
	ListenMetrics   string       `toml:"listen_metrics" comment:"/metrics, /healthz, /readyz, by plain http; empty: nowhere"`
	EventsKept      Duration     `toml:"events_kept" comment:"how long events of the computers stay in the database"`
	Web             Web          `toml:"web"`
	TLS             TLS          `toml:"tls"`
	Console         Console      `toml:"console"`
	Limits          Limits       `toml:"limits"`
	PushServices    PushServices `toml:"push_services"`
	EventsOut       EventsOut    `toml:"events_out"`
}

// Web says by which names the phones know the authority.
type Web struct {
	Origin string `toml:"origin" comment:"of the page on the phone: https://approve.example.com"`
	API    string `toml:"api" comment:"what the page talks to; empty: origin. Another, where a separate server has the page, keeps the authority from changing what the page shows"`
	RPID   string `toml:"rp_id" comment:"the host name that the passkeys are bound to: origin's, or what it ends in; to change it is to enrol every phone again"`
}

// The ways in which phones know that they talk to the authority.
const (
	TLSFiles      = "files"
	TLSACME       = "acme"
	TLSSelfSigned = "self-signed"
	TLSNone       = "none"
)

// TLS is the certificate that browsers see. The computers' port has its own CA.
type TLS struct {
	Mode          string `toml:"mode" comment:"files, acme, self-signed (only for localhost) or none (plain http on loopback, behind a reverse proxy)"`
	Cert          string `toml:"cert" comment:"files: the chain, in PEM; read again when it changes"`
	Key           string `toml:"key" comment:"files: the private key, in PEM"`
	ACMEEmail     string `toml:"acme_email" comment:"acme: who is told of trouble with the certificate"`
	ACMEDirectory string `toml:"acme_directory" comment:"acme: the certificate authority; empty: Let's Encrypt"`
}

// Console is the helpdesk's page. It shares nothing with the page of the phones but
// the kind of its certificate.
type Console struct {
	Origin string `toml:"origin" comment:"of the helpdesk's page: https://helpdesk.example.com; empty: there is none. The operators' passkeys are bound to its host name"`
	Listen string `toml:"listen" comment:"where browsers connect to it"`
	Cert   string `toml:"cert" comment:"tls.mode files: its own chain, in PEM; empty: tls.cert, which must then be for both names"`
	Key    string `toml:"key" comment:"tls.mode files: the private key, in PEM"`

	SessionIdle Duration `toml:"session_idle" comment:"a session ends when it was not used for so long"`
	SessionLife Duration `toml:"session_life" comment:"and in any case so long after the login"`
	// SecondPerson names what one operator asks for and another approves.
	SecondPerson []string `toml:"second_person" comment:"actions that a second operator has to approve, such as [\"bypass\", \"offline_bypass\", \"recovery\", \"totp\"]; with any, those that make operators need one too"`
}

// ConsoleActions are what an operator can do in the console, as second_person and
// events name them.
var ConsoleActions = []string{"unlock", "push_clear", "recovery", "bypass", "offline_bypass", "totp", "phone", "phone_remove", "revoke",
	"operator_add", "operator_role", "operator_invite", "operator_remove", "passkey_remove"}

// Limits bound how often phones ring: one user on one computer.
type Limits struct {
	Life          Duration `toml:"life" comment:"the longest that a request may be open"`
	Concurrent    int      `toml:"concurrent" comment:"requests pending at once; 0: no limit"`
	PerService    int      `toml:"per_service" comment:"the same for one service, such as sshd; 0: no limit"`
	Gap           Duration `toml:"gap" comment:"how long a request that is not answered counts as pending"`
	InFiveMinutes int      `toml:"in_five_minutes" comment:"0: no limit"`
	InAnHour      int      `toml:"in_an_hour" comment:"0: no limit"`
	Misses        int      `toml:"misses" comment:"requests denied or not answered in a row that switch push off; 0: never"`
	Pause         Duration `toml:"pause" comment:"for how long they do"`
	PerSecond     int      `toml:"per_second" comment:"requests of one computer, whoever's; five times as many at once. More for a host that many log in through"`
}

// PushServices says where messages to phones may go.
type PushServices struct {
	Hosts       []string `toml:"hosts" comment:"the browsers' push services: host names, or *.example.com"`
	Contact     string   `toml:"contact" comment:"whom a push service may turn to: mailto: or https:; empty: origin"`
	UnsafeLocal []string `toml:"unsafe_local" comment:"host:port on this machine, also by http: for tests only"`
}

// EventsOut says where events are sent to as they come.
type EventsOut struct {
	Syslog  Syslog  `toml:"syslog"`
	Webhook Webhook `toml:"webhook"`
}

// Syslog is a server that takes RFC 5424 over TLS.
type Syslog struct {
	Address    string `toml:"address" comment:"host:port of a server that takes syslog over TLS (RFC 5425), such as syslog.example.com:6514; empty: none"`
	ServerName string `toml:"server_name" comment:"the name in its certificate; empty: the host of address"`
	CA         string `toml:"ca" comment:"a file with the certificates of its CA, in PEM; empty: the system's"`
	Cert       string `toml:"cert" comment:"a file with our certificate, in PEM, where it wants one"`
	Key        string `toml:"key" comment:"a file with the private key of cert"`
	Confirm    bool   `toml:"confirm" comment:"events count as delivered once it has answered the end of the connection (RFC 5425 4.4); false: once they are sent, and some are lost when it dies"`
}

// Webhook is an address that takes signed JSON.
type Webhook struct {
	URL        string `toml:"url" comment:"an https address that events are posted to; empty: none"`
	SecretFile string `toml:"secret_file" comment:"a file with the secret that signs them, in base64: openssl rand -base64 32"`
	CA         string `toml:"ca" comment:"a file with the certificates of its CA, in PEM; empty: the system's"`
	Format     string `toml:"format" comment:"sallyport or ocsf"`
}

// Duration is a time.Duration written as "90s".
type Duration = tomlfile.Duration

// Value is one setting and where it came from.
type Value = tomlfile.Value

// Push are the limits as internal/factor/push has them.
func (l Limits) Push() push.Limits {
	return push.Limits{Concurrent: l.Concurrent, PerResource: l.PerService, Gap: time.Duration(l.Gap), InFiveMinutes: l.InFiveMinutes,
		InAnHour: l.InAnHour, Misses: l.Misses, Pause: time.Duration(l.Pause)}
}

// Default returns the settings that a file need not name.
func Default() Config {
	l := push.DefaultLimits()
	return Config{
		StateDir:      "/var/lib/sallyport-authority",
		ListenDevices: "[::]:7443",
		ListenWeb:     "[::]:443",
		ListenMetrics: "127.0.0.1:9464",
		EventsKept:    Duration(90 * 24 * time.Hour),
		TLS:           TLS{Mode: TLSFiles},
		Console:       Console{Listen: "[::]:8443", SessionIdle: Duration(15 * time.Minute), SessionLife: Duration(12 * time.Hour)},
		Limits: Limits{Life: Duration(time.Minute), Concurrent: l.Concurrent, PerService: l.PerResource, Gap: Duration(l.Gap),
			InFiveMinutes: l.InFiveMinutes, InAnHour: l.InAnHour, Misses: l.Misses, Pause: Duration(l.Pause), PerSecond: 20},
		PushServices: PushServices{Hosts: webpush.DefaultHosts()},
		EventsOut:    EventsOut{Syslog: Syslog{Confirm: true}, Webhook: Webhook{Format: "sallyport"}},
	}
}

// Loaded is a configuration and where each setting came from.
type Loaded struct {
	Path   string
	Config Config
	Values []Value // every setting, by key
}

// missing is the file that is not there.
type missing string

func (m missing) Error() string {
	return fmt.Sprintf("there is no %s: make one with 'sallyport-authority init'", string(m))
}

func (missing) Is(target error) bool { return target == os.ErrNotExist }

// Load reads the file.
func Load(path string) (*Loaded, error) {
	if err := tomlfile.CheckDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	text, err := tomlfile.ReadOwned(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, missing(path)
	}
	if err != nil {
		return nil, err
	}
	return parse(path, text)
}

func parse(path string, text []byte) (*Loaded, error) {
	l := &Loaded{Path: path, Config: Default()}
	if err := tomlfile.Decode(text, &l.Config); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	sources := map[string]string{}
	for key, line := range tomlfile.Lines(text) {
		sources[key] = fmt.Sprintf("%s:%d", path, line)
	}
	if err := l.Config.validate(); err != nil {
		for key, source := range sources {
			if strings.HasPrefix(err.Error(), key+" ") {
				return nil, fmt.Errorf("%s: %w", source, err)
			}
		}
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	l.Config.fill()
	l.Values = tomlfile.Values(&l.Config, sources)
	return l, nil
}

// fill puts in what follows from other settings.
func (c *Config) fill() {
	c.Web.API = cmp.Or(c.Web.API, c.Web.Origin)
	u, _ := url.Parse(c.Web.Origin) // validated
	c.Web.RPID = cmp.Or(c.Web.RPID, u.Hostname())
	c.PushServices.Contact = cmp.Or(c.PushServices.Contact, c.Web.Origin)
	if c.PushServices.Contact == c.Web.Origin && u.Scheme != "https" {
		c.PushServices.Contact = "mailto:root@localhost" // the demo
	}
	if c.Name == "" {
		if c.Name, _ = os.Hostname(); c.Name == "" {
			c.Name = "authority"
		}
	}
}

// validate says what is wrong, beginning with the key.
func (c *Config) validate() error {
	for _, path := range []struct{ key, value string }{
		{"state_dir", c.StateDir}, {"database_url_file", c.DatabaseURLFile}, {"tls.cert", c.TLS.Cert}, {"tls.key", c.TLS.Key},
		{"console.cert", c.Console.Cert}, {"console.key", c.Console.Key}} {
		if path.value != "" && !filepath.IsAbs(path.value) || path.key == "state_dir" && path.value == "" {
			return fmt.Errorf("%s is %q; it must be an absolute path", path.key, path.value)
		}
	}
	if !printable(c.Organisation, 1, 64) {
		return fmt.Errorf("organisation is %q; it must be a name of 1 to 64 characters", c.Organisation)
	}
	if c.Name != "" && !printable(c.Name, 1, 64) {
		return fmt.Errorf("name is %q; it must be a name of at most 64 characters", c.Name)
	}
	for _, l := range []struct {
		key, value string
		optional   bool
	}{{"listen_devices", c.ListenDevices, false}, {"listen_web", c.ListenWeb, false}, {"listen_metrics", c.ListenMetrics, true}} {
		if l.value == "" && l.optional {
			continue
		}
		if _, err := net.ResolveTCPAddr("tcp", l.value); err != nil || !strings.Contains(l.value, ":") {
			return fmt.Errorf("%s is %q; it must be an address and a port, such as \"[::]:7443\"", l.key, l.value)
		}
	}
	if len(c.DeviceHosts) == 0 {
		return errors.New("device_hosts is empty; it must name what the computers connect to, such as [\"authority.example.com\"]")
	}
	for _, h := range c.DeviceHosts {
		if _, err := netip.ParseAddr(h); err != nil && !isHostName(h) {
			return fmt.Errorf("device_hosts names %q, which is neither a host name nor an address", h)
		}
	}
	if d := time.Duration(c.EventsKept); d < 24*time.Hour || d > 10*365*24*time.Hour {
		return fmt.Errorf("events_kept is %s; it must be 24h to 87600h (ten years)", d)
	}
	if err := c.validateWeb(); err != nil {
		return err
	}
	if err := c.validateConsole(); err != nil {
		return err
	}
	if err := c.validateLimits(); err != nil {
		return err
	}
	if err := c.validateEventsOut(); err != nil {
		return err
	}
	for _, h := range c.PushServices.Hosts {
		if err := webpush.CheckHost(h); err != nil {
			return fmt.Errorf("push_services.hosts names %w", err)
		}
	}
	if s := c.PushServices.Contact; s != "" && !strings.HasPrefix(s, "mailto:") && !strings.HasPrefix(s, "https://") {
		return fmt.Errorf("push_services.contact is %q; it must be mailto:somebody@example.com or an https address", s)
	}
	for _, h := range c.PushServices.UnsafeLocal {
		host, _, err := net.SplitHostPort(h)
		if a, errA := netip.ParseAddr(host); err != nil || host != "localhost" && (errA != nil || !a.IsLoopback()) {
			return fmt.Errorf("push_services.unsafe_local names %q; it must be host:port of this machine, such as 127.0.0.1:8080", h)
		}
	}
	return nil
}

func (c *Config) validateEventsOut() error {
	if l := c.EventsOut.Syslog; l.Address != "" {
		if host, port, err := net.SplitHostPort(l.Address); err != nil || host == "" || port == "" {
			return fmt.Errorf("events_out.syslog.address is %q; it must be a host and a port, such as syslog.example.com:6514", l.Address)
		}
		if (l.Cert == "") != (l.Key == "") {
			return errors.New("events_out.syslog.cert goes with events_out.syslog.key: name both files, or neither")
		}
	}
	w := c.EventsOut.Webhook
	if w.Format != "sallyport" && w.Format != "ocsf" {
		return fmt.Errorf("events_out.webhook.format is %q; it must be sallyport or ocsf", w.Format)
	}
	if w.URL != "" {
		// What is wrong with it is not shown: it may hold a token.
		if u, err := url.Parse(w.URL); err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.Fragment != "" {
			return errors.New("events_out.webhook.url must be an https address, with neither a user nor a fragment")
		}
		if w.SecretFile == "" {
			return errors.New("events_out.webhook.secret_file must be named with events_out.webhook.url: whoever gets the events could not tell them from another's")
		}
	}
	return nil
}

func (c *Config) validateWeb() error {
	page, err := parseOrigin(c.Web.Origin)
	if err != nil {
		return fmt.Errorf("web.origin %w", err)
	}
	api := page
	if c.Web.API != "" {
		if api, err = parseOrigin(c.Web.API); err != nil {
			return fmt.Errorf("web.api %w", err)
		}
	}
	if id := c.Web.RPID; id != "" {
		if !isHostName(id) || id != "localhost" && !strings.Contains(id, ".") {
			return fmt.Errorf("web.rp_id is %q; it must be a host name in lower case, such as example.com", id)
		}
		if page.Hostname() != id && !strings.HasSuffix(page.Hostname(), "."+id) {
			return fmt.Errorf("web.rp_id is %q; web.origin, %s, must be that host or end in it, else no browser lets the page use the passkeys", id, c.Web.Origin)
		}
	}
	switch t := c.TLS; t.Mode {
	case TLSFiles:
		if t.Cert == "" || t.Key == "" {
			return errors.New("tls.mode is \"files\"; tls.cert and tls.key must then name the files")
		}
	case TLSACME:
		if u, err := url.Parse(t.ACMEDirectory); t.ACMEDirectory != "" && (err != nil || u.Scheme != "https" || u.Host == "") {
			return fmt.Errorf("tls.acme_directory is %q; it must be an https address", t.ACMEDirectory)
		}
		if api.Hostname() == "localhost" {
			return errors.New("tls.mode is \"acme\"; nobody gives a certificate for localhost")
		}
	case TLSSelfSigned:
		if api.Hostname() != "localhost" {
			return fmt.Errorf("tls.mode is \"self-signed\"; browsers refuse passkeys behind a certificate that they do not know, so that it is only for https://localhost, not %s", api)
		}
	case TLSNone:
		if a, err := net.ResolveTCPAddr("tcp", c.ListenWeb); err != nil || !a.IP.IsLoopback() {
			return fmt.Errorf("tls.mode is \"none\"; listen_web must then be on loopback, and is %s", c.ListenWeb)
		}
	default:
		return fmt.Errorf("tls.mode is %q; it must be files, acme, self-signed or none", t.Mode)
	}
	return nil
}

func (c *Config) validateConsole() error {
	for _, b := range []struct {
		key       string
		v, lo, hi time.Duration
	}{
		{"console.session_idle", time.Duration(c.Console.SessionIdle), time.Minute, 12 * time.Hour},
		{"console.session_life", time.Duration(c.Console.SessionLife), 10 * time.Minute, 24 * time.Hour},
	} {
		if b.v < b.lo || b.v > b.hi {
			return fmt.Errorf("%s is %s; it must be %s to %s", b.key, b.v, b.lo, b.hi)
		}
	}
	for _, a := range c.Console.SecondPerson {
		if !slices.Contains(ConsoleActions, a) {
			return fmt.Errorf("console.second_person names %q; it can name %s", a, strings.Join(ConsoleActions, ", "))
		}
	}
	if c.Console.Origin == "" {
		return nil
	}
	page, err := parseOrigin(c.Console.Origin)
	if err != nil {
		return fmt.Errorf("console.origin %w", err)
	}
	listen, err := net.ResolveTCPAddr("tcp", c.Console.Listen)
	switch {
	case page.Scheme != "https" && c.TLS.Mode != TLSNone: // http is for localhost: parseOrigin
		return fmt.Errorf("console.origin is %q; it must be https: http://localhost is for tries with tls.mode \"none\"", c.Console.Origin)
	case c.Console.Origin == c.Web.Origin, c.Console.Origin == c.Web.API:
		return fmt.Errorf("console.origin is %q, as of the phones' page; it must be another, or a fault in one would be one in both", c.Console.Origin)
	case err != nil || !strings.Contains(c.Console.Listen, ":"):
		return fmt.Errorf("console.listen is %q; it must be an address and a port, such as \"[::]:8443\"", c.Console.Listen)
	case (c.Console.Cert == "") != (c.Console.Key == ""):
		return errors.New("console.cert and console.key belong together; name both files, or none")
	case c.TLS.Mode == TLSNone && !listen.IP.IsLoopback():
		return fmt.Errorf("tls.mode is \"none\"; console.listen must then be on loopback, and is %s", c.Console.Listen)
	case c.TLS.Mode == TLSSelfSigned && page.Hostname() != "localhost":
		return fmt.Errorf("tls.mode is \"self-signed\"; it is only for https://localhost, not console.origin %s", c.Console.Origin)
	case c.TLS.Mode == TLSACME && page.Hostname() == "localhost":
		return errors.New("tls.mode is \"acme\"; nobody gives a certificate for console.origin's localhost")
	}
	return nil
}

// ConsoleRPID is the host name that the operators' passkeys are bound to.
func (c *Config) ConsoleRPID() string {
	u, err := url.Parse(c.Console.Origin)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

func (c *Config) validateLimits() error {
	l := c.Limits
	for _, b := range []struct {
		key       string
		v, lo, hi int
	}{
		{"limits.concurrent", l.Concurrent, 0, 100},
		{"limits.per_service", l.PerService, 0, 100},
		{"limits.in_five_minutes", l.InFiveMinutes, 0, 1000},
		{"limits.in_an_hour", l.InAnHour, 0, 1000},
		{"limits.misses", l.Misses, 0, 1000},
		{"limits.per_second", l.PerSecond, 1, 10_000},
	} {
		if b.v < b.lo || b.v > b.hi {
			return fmt.Errorf("%s is %d; it must be %d to %d", b.key, b.v, b.lo, b.hi)
		}
	}
	for _, b := range []struct {
		key       string
		v, lo, hi time.Duration
	}{
		{"limits.life", time.Duration(l.Life), 5 * time.Second, 10 * time.Minute},
		{"limits.gap", time.Duration(l.Gap), 5 * time.Second, 10 * time.Minute},
		{"limits.pause", time.Duration(l.Pause), time.Minute, 24 * time.Hour},
	} {
		if b.v < b.lo || b.v > b.hi {
			return fmt.Errorf("%s is %s; it must be %s to %s", b.key, b.v, b.lo, b.hi)
		}
	}
	return nil
}

// parseOrigin takes an origin exactly as a browser writes it: it is compared
// byte for byte with what a passkey signed.
func parseOrigin(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case s == "":
		return nil, errors.New("is not set; it must be such as https://approve.example.com")
	case err != nil, u.Host == "", s != u.Scheme+"://"+u.Host, s != strings.ToLower(s):
		return nil, fmt.Errorf("is %q; it must be scheme and host in lower case and nothing behind, such as https://approve.example.com", s)
	case u.Scheme != "https" && (u.Scheme != "http" || u.Hostname() != "localhost"):
		return nil, fmt.Errorf("is %q; it must be https: browsers have passkeys only there (and on http://localhost)", s)
	case u.Scheme == "https" && u.Port() == "443", u.Scheme == "http" && u.Port() == "80", strings.HasSuffix(u.Host, ":"):
		return nil, fmt.Errorf("is %q; browsers leave the scheme's own port out", s)
	case !isHostName(u.Hostname()):
		return nil, fmt.Errorf("is %q; it must have a host name: passkeys are never bound to an address", s)
	}
	return u, nil
}

// isHostName says whether s is a name, in lower case, and no address.
func isHostName(s string) bool {
	labels := strings.Split(s, ".")
	for _, l := range labels {
		if l == "" || len(l) > 63 || strings.Trim(l, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || l[0] == '-' || l[len(l)-1] == '-' {
			return false
		}
	}
	return len(s) <= 253 && strings.Trim(labels[len(labels)-1], "0123456789") != ""
}

func printable(s string, low, high int) bool {
	n := 0
	for _, r := range s {
		if n++; r < ' ' || r == 0x7f || r == '\uFFFD' {
			return false
		}
	}
	return n >= low && n <= high && strings.TrimSpace(s) == s
}

// DatabaseURL reads the file that names the PostgreSQL database; "" where there
// is none, and the database is SQLite.
func (c *Config) DatabaseURL() (string, error) {
	if c.DatabaseURLFile == "" {
		return "", nil
	}
	st, err := os.Stat(c.DatabaseURLFile)
	if err != nil {
		return "", fmt.Errorf("database_url_file: %w", err)
	}
	if st.Mode().Perm()&0o007 != 0 || !st.Mode().IsRegular() || st.Size() > 4096 {
		return "", fmt.Errorf("database_url_file: %s holds a password and can be read by others, or is no small file: chmod 600 %s", c.DatabaseURLFile, c.DatabaseURLFile)
	}
	b, err := os.ReadFile(c.DatabaseURLFile)
	if err != nil {
		return "", fmt.Errorf("database_url_file: %w", err)
	}
	s := string(bytes.TrimSpace(b))
	if u, err := url.Parse(s); err != nil || !slices.Contains([]string{"postgres", "postgresql"}, u.Scheme) {
		// Neither the text nor the parser's error: they hold the password.
		return "", fmt.Errorf("database_url_file: %s holds no postgres://user:password@host/database", c.DatabaseURLFile)
	}
	return s, nil
}

// Database is the SQLite database's file.
func (c *Config) Database() string { return filepath.Join(c.StateDir, "authority.db") }

// KeyDir holds the CA's key, the organisation key where it is kept here, and the
// key that push services know the authority by.
func (c *Config) KeyDir() string { return filepath.Join(c.StateDir, "keys") }

// WebPushKey is the file of the last of them.
func (c *Config) WebPushKey() string { return filepath.Join(c.KeyDir(), "webpush.key") }

// ACMEDir keeps what ACME issued.
func (c *Config) ACMEDir() string { return filepath.Join(c.StateDir, "acme") }

// LocalPage says whether the page comes from the authority itself: it could then
// change what the page shows.
func (c *Config) LocalPage() bool { return c.Web.Origin == c.Web.API }

// Text is the configuration as a file to begin with: what is not the default,
// and what somebody is likely to look for.
func (c *Config) Text() ([]byte, error) {
	var b bytes.Buffer
	err := text.Execute(&b, c)
	if err != nil {
		return nil, err
	}
	if _, err := parse("the new configuration", b.Bytes()); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

var text = template.Must(template.New("").Funcs(template.FuncMap{"q": quote, "list": quoteList}).Parse(
	`# The authority's configuration. Every setting: sallyport-authority config show
# Check it after a change: sallyport-authority config check

organisation = {{q .Organisation}}
{{- if .Name}}
name = {{q .Name}}
{{- end}}
state_dir = {{q .StateDir}}
{{- if .DatabaseURLFile}}
database_url_file = {{q .DatabaseURLFile}}
{{- else}}
#database_url_file = "/etc/sallyport-authority/database.url"   # PostgreSQL, for several nodes
{{- end}}

# The computers.
listen_devices = {{q .ListenDevices}}
device_hosts = {{list .DeviceHosts}}

# The phones.
listen_web = {{q .ListenWeb}}

listen_metrics = {{q .ListenMetrics}}

[web]
origin = {{q .Web.Origin}}
{{- if .Web.API}}
api = {{q .Web.API}}
{{- end}}
rp_id = {{q .Web.RPID}}   # never change it: every phone would have to enrol again

[tls]
mode = {{q .TLS.Mode}}
{{- if .TLS.Cert}}
cert = {{q .TLS.Cert}}
key = {{q .TLS.Key}}
{{- end}}
{{- if .TLS.ACMEEmail}}
acme_email = {{q .TLS.ACMEEmail}}
{{- end}}
{{- if .TLS.ACMEDirectory}}
acme_directory = {{q .TLS.ACMEDirectory}}
{{- end}}
{{- if .Console.Origin}}

# The helpdesk.
[console]
origin = {{q .Console.Origin}}   # never change its host name: every operator would have to be invited again
listen = {{q .Console.Listen}}
{{- else}}

# The helpdesk's page: docs/console.md
#[console]
#origin = "https://helpdesk.example.com"
#listen = "[::]:8443"
{{- end}}
{{- if .PushServices.UnsafeLocal}}

[push_services]
unsafe_local = {{list .PushServices.UnsafeLocal}}
{{- end}}
`))

// quote writes a string as TOML.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteRune('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

func quoteList(list []string) string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = quote(s)
	}
	return "[" + strings.Join(out, ", ") + "]"
}
