//go:build linux

package agenttest

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/internal/event"
	"sallyport/internal/policy"
	"sallyport/pam/e2e/machine"
	adminv1 "sallyport/proto/sallyport/admin/v1"
	loginv1 "sallyport/proto/sallyport/login/v1"
)

// tables are those that internal/policy tests as pure code. Here each of their
// cases is a real login to the real agent, which 'policy explain' has to foretell.
const tables = "../../internal/policy/testdata/tables"

// cannotBe says why a case cannot be made on a real Linux; "" when it can.
func cannotBe(c *policy.Case) string {
	switch {
	case c.SID != "":
		return "nobody has a SID here"
	case c.Hook != "pam":
		return "there is no such hook here"
	case c.Device.OS != "" && c.Device.OS != "linux":
		return "this is Linux"
	case strings.Contains(ruleOf(c), "device.os is not known"), strings.Contains(ruleOf(c), "device.authority is not known"):
		return "an agent always knows that"
	}
	return ""
}

func ruleOf(c *policy.Case) string {
	if c.Rule == nil {
		return ""
	}
	return *c.Rule
}

// place is what the cases have in common that one agent can play.
type place struct {
	zone    string // of its clock
	joined  bool
	offline bool // has joined, and is cut off
}

func placeOf(t *testing.T, c *policy.Case) place {
	p := place{zone: "Etc/UTC", joined: c.Device.Authority == nil || *c.Device.Authority != "", offline: c.Offline}
	if !c.At.IsZero() {
		_, seconds := c.At.Zone()
		if seconds%3600 != 0 {
			t.Fatalf("%s: there is no such zone to be had", c.Name)
		}
		if seconds != 0 {
			p.zone = fmt.Sprintf("Etc/GMT%+d", -seconds/3600) // signs are the other way round
		}
	}
	return p
}

// company is the authority that the agents of this test join.
type company struct {
	*machine.Authority
	dir string
}

func newCompany(t *testing.T) *company {
	t.Helper()
	dir, err := os.MkdirTemp("/run", "at-authority-")
	must(t, err)
	a, err := machine.NewAuthority(os.Getenv(binVar), dir, nil)
	must(t, err)
	t.Cleanup(func() { must(t, a.Stop(), os.RemoveAll(dir)) })
	return &company{a, dir}
}

// signs puts the organisation's rules in force.
func (c *company) signs(t *testing.T, rules string) {
	t.Helper()
	file := filepath.Join(c.dir, "policy.toml")
	write(t, file, rules)
	must(t, c.Do(nil, "policy", "set", file))
}

// texts are root's rules and the organisation's, as the table has them written: the
// sections of an agent's file, and of the organisation's.
func texts(table string) (root, organisation string) {
	head, _, _ := strings.Cut(table, "[[case]]")
	_, head, _ = strings.Cut(head, "[policy]")
	root, organisation, _ = strings.Cut(head, "[organisation]")
	return "[policy]" + root, strings.ReplaceAll(organisation, "[organisation.", "[")
}

// TestEveryCaseOfTheTables: what a table expects, what 'policy explain' says and
// what the login does is one thing, in every case: users, groups, services,
// networks, online and offline, times, facts of the computer, the last factor, and
// the failure of each.
func TestEveryCaseOfTheTables(t *testing.T) {
	need(t)
	files, err := filepath.Glob(tables + "/*.toml")
	must(t, err)
	// The organisation's last: what it signed stays signed.
	slices.SortFunc(files, func(a, b string) int {
		signed := func(s string) int { return strings.Count(filepath.Base(s), "organisation") }
		return cmp.Or(signed(a)-signed(b), strings.Compare(a, b))
	})
	org := newCompany(t)
	made := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		must(t, err)
		text, shift := inTheFuture(t, string(text))
		table, err := policy.ReadTable(text)
		must(t, err)
		root, organisation := texts(string(text))
		if organisation != "" {
			org.signs(t, organisation)
		}
		places := map[place][]*policy.Case{}
		for i := range table.Cases {
			c := &table.Cases[i]
			if why := cannotBe(c); why != "" {
				t.Logf("not as a login: %s: %s", c.Name, why)
				continue
			}
			if !c.At.IsZero() {
				c.At = c.At.Add(shift)
			}
			places[placeOf(t, c)] = append(places[placeOf(t, c)], c)
		}
		for p, cases := range places {
			w := newRules(t, org, table, root, p)
			slices.SortStableFunc(cases, func(a, b *policy.Case) int {
				return cmp.Or(cmp.Compare(behind(a), behind(b)), begins(a).Compare(begins(b))) // no clock goes back
			})
			for _, c := range cases {
				made++
				t.Run(strings.TrimSuffix(filepath.Base(file), ".toml")+"/"+c.Name, func(t *testing.T) { w.try(t, c) })
			}
			w.stop()
		}
	}
	t.Logf("%d cases as logins", made)
	if made < 60 {
		t.Errorf("only %d cases", made)
	}
}

var timestamps = regexp.MustCompile(`timestamp\("([^"]+)"\)`)

// inTheFuture moves the moments that a table's rules name by whole weeks, to after
// today: a computer's clock may not lie behind a time that it has seen. The cases
// have to be moved as far.
func inTheFuture(t *testing.T, text string) (moved []byte, shift time.Duration) {
	const week = 7 * 24 * time.Hour
	for at := time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC); at.Add(shift).Before(time.Now().Add(24 * time.Hour)); {
		shift += week
	}
	return []byte(timestamps.ReplaceAllStringFunc(text, func(s string) string {
		at, err := time.Parse(time.RFC3339, timestamps.FindStringSubmatch(s)[1])
		must(t, err)
		return fmt.Sprintf("timestamp(%q)", at.Add(shift).Format(time.RFC3339))
	})), shift
}

// behind says that a case is of a clock that does not tell the time: such a
// computer's lies behind. 1 for yes.
func behind(c *policy.Case) int {
	if strings.Contains(ruleOf(c), "the time is not known") || slices.Contains(c.NotKnown, "last") {
		return 1
	}
	return 0
}

// begins is when a case does, with what goes before it.
func begins(c *policy.Case) time.Time {
	if c.Last != nil && !c.At.IsZero() {
		return c.At.Add(-time.Duration(c.Last.Age))
	}
	return c.At
}

// rules is an agent on a computer of which the test makes the facts: its accounts,
// its disk, its TPM and its system's version lie in a mount namespace of its own.
type rules struct {
	*clocked
	table      *policy.Table
	rules      string // root's
	place      place
	boot, wall time.Duration // how far the clocks are ahead
	nextUID    uint32
	root       string // the number of the device that holds /
	groups     []string
	passwd     string // of the machine
}

func newRules(t *testing.T, org *company, table *policy.Table, root string, p place) *rules {
	t.Helper()
	a := newAgent(t)
	w := &rules{clocked: &clocked{agent: a}, table: table, rules: root, place: p, nextUID: 40000}
	a.program = program("sallyport-testclock")
	a.env = []string{clockVar + "=" + filepath.Join(a.dir, "clock"), noRaceSleep, "TZ=" + p.zone}
	w.set(bend{})
	var st unix.Stat_t
	must(t, unix.Stat("/", &st))
	w.root = fmt.Sprintf("%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev))
	// All of /etc: a file that is mounted alone goes when another test renames its
	// own over the machine's (mount_namespaces(7), rename(2)).
	passwdMu.Lock()
	out, err := exec.Command("cp", "-a", "/etc", filepath.Join(a.dir, "etc")).CombinedOutput()
	passwdMu.Unlock()
	if err != nil {
		t.Fatalf("cp /etc: %v: %s", err, out)
	}
	passwd, err := os.ReadFile(filepath.Join(a.dir, "etc", "passwd"))
	must(t, err, os.RemoveAll(filepath.Join(a.dir, "etc", "os-release"))) // a link
	w.passwd = string(passwd)
	groups := map[string]bool{}
	lists := []*policy.Rules{table.Policy, table.Organisation}
	for _, r := range lists {
		if r != nil {
			for _, g := range slices.Concat(r.Required.Groups, r.Exempt.Groups) {
				groups[g] = true
			}
		}
	}
	for _, c := range table.Cases {
		for _, g := range slices.Concat(c.Groups, c.LastSeen) {
			groups[g] = true
		}
		for _, n := range c.NotKnown {
			if g, ok := strings.CutPrefix(n, "group "); ok {
				groups[g] = true
			}
		}
	}
	w.groups = slices.Sorted(maps.Keys(groups))
	must(t, os.MkdirAll(filepath.Join(a.dir, "block"), 0o755), os.MkdirAll(filepath.Join(a.dir, "class", "net"), 0o755))
	w.accounts(&policy.Case{NoSuchUser: true}, 0, nil)
	w.device(t, policy.CaseDevice{})
	script := `set -e; cd "$0"; mount --bind etc /etc; mount --bind block /sys/dev/block; mount --bind class /sys/class; exec "$@"`
	a.wrapper = []string{"unshare", "--mount", "--propagation", "private", "sh", "-c", script, a.dir}
	w.inForce()
	must(t, errorOf(a.command("", "config", "check", a.config)))
	a.start()
	if p.joined {
		cable, err := machine.NewCable(org.Devices)
		must(t, err)
		token, err := org.Token(nil, "--any-user")
		must(t, err)
		got := a.command(token+"\n", "join", fmt.Sprintf("https://127.0.0.1:%d", cable.Port), "--token-stdin", "--name", filepath.Base(a.dir))
		must(t, errorOf(got))
		w.eventually("connected", func() bool { return w.connected() })
		if table.Organisation != nil {
			w.eventually("the organisation's rules", func() bool { return strings.Contains(w.status().GetPolicy(), "organisation") })
		}
		if p.offline {
			must(t, cable.Close())
			w.eventually("cut off", func() bool { return !w.connected() })
		} else {
			t.Cleanup(func() { must(t, cable.Close()) })
		}
	}
	return w
}

func (w *rules) status() *adminv1.StatusResponse {
	w.t.Helper()
	st, err := w.admin().Status(within(w.t), &adminv1.StatusRequest{})
	must(w.t, err)
	return st
}

func (w *rules) connected() bool { w.t.Helper(); return w.status().GetAuthority().GetConnected() }

// inForce configures root's rules of the table.
func (w *rules) inForce() {
	w.t.Helper()
	accept := `"approvers"`
	if w.table.Organisation != nil {
		accept += `, "policy"`
	}
	w.configure(fmt.Sprintf("[authority]\naccept = [%s]\nallow_exemptions = %v", accept, w.table.AllowExemptions), w.rules)
}

// accounts is who there is on this computer: those of the machine, and the case's.
// A group that cannot be looked up is one that is not there.
func (w *rules) accounts(c *policy.Case, uid uint32, memberOf []string) {
	w.t.Helper()
	passwd := w.passwd
	if !c.NoSuchUser && uid != 0 {
		passwd = fmt.Sprintf("%s:x:%d:100::/nonexistent:/bin/sh\n", c.User, uid) + passwd
	}
	group := "root:x:0:\nusers:x:100:\n"
	for i, g := range w.groups {
		if slices.Contains(c.NotKnown, "group "+g) {
			continue
		}
		member := ""
		if slices.Contains(memberOf, g) {
			member = c.User
		}
		group += fmt.Sprintf("%s:x:%d:%s\n", g, 45000+i, member)
	}
	write(w.t, filepath.Join(w.dir, "etc", "passwd"), passwd)
	write(w.t, filepath.Join(w.dir, "etc", "group"), group)
}

// device makes the computer's facts. What is not said cannot be told.
func (w *rules) device(t *testing.T, d policy.CaseDevice) {
	t.Helper()
	disk, class := filepath.Join(w.dir, "block", w.root), filepath.Join(w.dir, "class", "tpm")
	must(t, os.RemoveAll(disk), os.RemoveAll(class))
	if d.Encrypted != nil {
		must(t, os.MkdirAll(filepath.Join(disk, "dm"), 0o755))
		write(t, filepath.Join(disk, "dm", "uuid"), map[bool]string{true: "CRYPT-LUKS2-0123-root\n", false: "LVM-0123\n"}[*d.Encrypted])
	}
	switch {
	case d.TPM == nil:
		write(t, class, "no folder, and so not readable as one")
	case *d.TPM:
		must(t, os.MkdirAll(filepath.Join(class, "tpm0"), 0o755))
	}
	release := "ID=example\n"
	if d.OSVersion != nil {
		release += fmt.Sprintf("VERSION_ID=%q\n", *d.OSVersion)
	}
	write(t, filepath.Join(w.dir, "etc", "os-release"), release)
}

// goesTo sets the clock; the boot clock goes on by itself. Facts of the computer
// that the agent has read are too old after each step.
func (w *rules) goesTo(wall, boot time.Duration) {
	w.t.Helper()
	w.wall, w.boot = wall, w.boot+boot
	w.set(bend{Wall: w.wall.String(), Boot: w.boot.String()})
}

// reboots has the computer in another boot, in which its clock is off so far.
func (w *rules) reboots(wall time.Duration) {
	w.t.Helper()
	w.set(bend{Wall: wall.String(), Boot: w.boot.String(), BootID: "another"})
}

// step is how much time goes by between two cases, for the boot clock.
const step = 16 * time.Minute

// explained is part of 'policy explain --json'.
type explained struct {
	Effect, Outcome, Rule, Why string
	Factors                    []string
	Digits                     int
	RememberSeconds            float64 `json:"remember_seconds"`
	Steps                      []struct{ Rule, Source, Outcome, Text string }
	Facts                      []struct{ Name, Value, Text string }
}

func (e explained) decision(t *testing.T) policy.Decision {
	t.Helper()
	d := policy.Decision{Rule: e.Rule, Digits: e.Digits, Remember: time.Duration(e.RememberSeconds * float64(time.Second))}
	if len(e.Factors) > 0 {
		d.Factors = e.Factors
	}
	for _, effect := range []policy.Effect{policy.Ask, policy.Skip, policy.IfEnrolled, policy.Deny} {
		if effect.String() == e.Effect {
			d.Effect = effect
			return d
		}
	}
	t.Fatalf("there is no effect %q", e.Effect)
	return d
}

// try makes the case's login, and says it beforehand.
func (w *rules) try(t *testing.T, c *policy.Case) {
	defer func(outer *testing.T) { w.t = outer }(w.t)
	w.t = t
	w.nextUID++
	uid := w.nextUID
	if c.UID != nil {
		uid = *c.UID
	}
	u := &account{c.User, uid}
	w.accounts(c, uid, slices.Concat(c.Groups, c.LastSeen))
	at, online := w.wall, "--online"
	if !c.At.IsZero() {
		at = time.Until(c.At)
		if c.At.Second() == 59 { // a login takes a moment
			at -= 30 * time.Second
		}
	}
	var p phone
	if !c.NoSuchUser {
		if uid == 0 || c.UID != nil {
			_ = w.command("", "user", "remove", u.name, "--yes") // of a case before
		}
		p = w.enrol(u)
	}
	if last := w.lastOf(c); last != nil {
		age := time.Duration(last.Age)
		if age%time.Minute == 59*time.Second {
			age -= 30 * time.Second
		}
		w.goesTo(at-age, step)
		w.gives(u, p, last.Factor)
		w.goesTo(at, age)
	} else {
		w.goesTo(at, step)
	}
	if behind(c) == 1 {
		w.reboots(at - time.Hour)
		defer func() { w.goesTo(at, 0) }()
	}
	w.device(t, c.Device)
	service := cmp.Or(c.Service, "login") // no rule has to do with that one where none is said
	asks := func(stage loginv1.Stage) *loginv1.Begin {
		return begin(u.name, func(b *loginv1.Begin) {
			b.Stage, b.Service, b.RemoteHost, b.Session = stage, []byte(service), []byte(c.From), []byte(c.Session)
			b.Scenario = loginv1.Scenario(loginv1.Scenario_value["SCENARIO_"+strings.ToUpper(c.Scenario)])
		})
	}
	const accountStage = loginv1.Stage_STAGE_ACCOUNT
	peer := uint32(0)
	if c.NotRoot {
		peer = uid
	}
	if len(c.LastSeen) > 0 {
		// In the group, then no longer: the directory has fallen silent.
		w.login(peer, asks(accountStage))
		w.accounts(c, uid, c.Groups)
	}

	var asIs explained
	args := []string{"policy", "explain", u.name, "--service", service, "--scenario", c.Scenario, "--hook", c.Hook}
	if c.From != "" {
		args = append(args, "--from", c.From)
	}
	if c.Session != "" {
		args = append(args, "--session", c.Session)
	}
	if c.NotRoot {
		args = append(args, "--not-root")
	}
	if w.place.offline {
		online = "--offline"
	}
	if w.place.joined && !w.place.offline && !c.NoSuchUser {
		// Time has gone by, and nothing was heard of the authority: it has to say
		// that it has this event.
		w.cli(nil, "unlock", u.name)
	}
	w.eventually("said as it is, and as "+online, func() bool {
		var said explained
		// The link has events of its own, at any time.
		before := count(w.events(), event.LoginAttempt, nil, "")
		w.cli(&asIs, args...)
		w.cli(&said, append(args, online)...)
		if after := count(w.events(), event.LoginAttempt, nil, ""); after != before {
			t.Errorf("explaining made %d logins", after-before)
		}
		return !w.place.joined || fmt.Sprint(asIs) == fmt.Sprint(said)
	})
	decision := asIs.decision(t)
	decision.Rule = reasons.ReplaceAllString(decision.Rule, "$1")
	for _, wrong := range c.Wrong(decision) {
		t.Errorf("policy explain: %s\n%+v", wrong, asIs)
	}

	// The account stage says the same, and leaves an event that names the rule.
	w.sameAs(t, c, asIs, w.login(peer, asks(accountStage)))
	if rule := w.lastRule(); rule != asIs.Rule {
		t.Errorf("the event says %q, policy explain %q", rule, asIs.Rule)
	}
	logins := func() int { return count(w.events(), event.LoginAttempt, nil, "") }
	before := logins()
	s, err := w.open(peer)
	must(t, err)
	must(t, s.tell(asks(loginv1.Stage_STAGE_AUTHENTICATE)))
	var r result
	s.until(&r)
	s.close()
	w.sameAs(t, c, asIs, r)
	// The next case counts events.
	w.eventually("the event of the login that was left", func() bool { return logins() > before })
}

// lastRule is what the event of the last login says.
func (w *rules) lastRule() string {
	w.t.Helper()
	rule := ""
	for _, e := range w.events() {
		if e.Name == event.LoginAttempt {
			rule = e.Rule
		}
	}
	return rule
}

// reasons are why a real computer does not know something, which a table leaves out.
var reasons = regexp.MustCompile(`((?:device|last)\.\w+ is not known): [^)]*`)

// lastOf is the factor that is to be given before; where it is only to be unknown
// when, any.
func (w *rules) lastOf(c *policy.Case) *policy.CaseFactor {
	if slices.Contains(c.NotKnown, "last") {
		return &policy.CaseFactor{Factor: "totp"}
	}
	return c.Last
}

// gives logs in with a factor, where no rule is in the way. A push needs a phone:
// no rule of the tables looks whether it was one where it was.
func (w *rules) gives(u *account, p phone, factor string) {
	w.t.Helper()
	w.configure("[authority]\naccept = []")
	answer := p.codeAt(w.t, time.Now().Add(w.wall), 0)
	if factor == "recovery" {
		answer = p.recovery[0]
	}
	want(w.t, w.as(u, answer), allow, "")
	w.inForce()
	w.status() // takes it
}

// sameAs wants the login to be what was said, and what the table expects.
func (w *rules) sameAs(t *testing.T, c *policy.Case, said explained, got result) {
	t.Helper()
	outcome := "asked"
	switch {
	case got.err != nil:
		t.Fatalf("no verdict: %v", got.err)
	case got.decision == skip:
		outcome = "not_asked"
	case got.decision == deny && got.reason != "second_factor_required":
		outcome = "denied"
	}
	if outcome != said.Outcome {
		t.Errorf("the login was %s (%s), and policy explain says %s by %s", outcome, got, said.Outcome, said.Rule)
	}
	switch {
	case c.Expect == "deny" && got.reason != "denied_by_policy", c.Expect == "skip" && got.reason != "exempt",
		c.Expect == "ask_if_enrolled" && c.NoSuchUser && got.reason != "unknown_user",
		c.Expect == "ask_if_enrolled" && !c.NoSuchUser && outcome != "asked", c.Expect == "ask" && outcome != "asked":
		t.Errorf("expected %s, got %s", c.Expect, got)
	}
	if len(got.prompts) == 0 {
		return
	}
	prompt := "Code from your authenticator app"
	switch d := said.decision(t); {
	case d.Factors == nil || slices.Contains(d.Factors, "totp"):
	case slices.Contains(d.Factors, "recovery"):
		prompt = "One of your recovery codes"
	default:
		prompt = "Only a bypass code from your helpdesk counts now"
	}
	if !strings.Contains(got.prompts[0], prompt) {
		t.Errorf("the prompt is %q, want %q", got.prompts[0], prompt)
	}
}

// aTerminal is a pts(4) that stays open.
func aTerminal(t *testing.T) (name string) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	must(t, err)
	t.Cleanup(func() { must(t, master.Close()) })
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	must(t, err)
	return fmt.Sprintf("/dev/pts/%d", n)
}

// remembering is a computer whose rule remembers, and somebody on a terminal of it
// who comes from somewhere else.
func remembering(t *testing.T) (c *clocked, u *account, p phone, afar func(...func(*loginv1.Begin)) *loginv1.Begin) {
	t.Helper()
	terminal := aTerminal(t)
	c = newClocked(t)
	c.configure(`[policy]`, `rules = ['again: any, remember 1h']`)
	u, p = c.enrolled()
	return c, u, p, func(change ...func(*loginv1.Begin)) *loginv1.Begin {
		return begin(u.name, append([]func(*loginv1.Begin){func(b *loginv1.Begin) {
			b.Service, b.Scenario, b.RemoteHost, b.Session = []byte("login"), loginv1.Scenario_SCENARIO_REMOTE, []byte("192.0.2.7"), []byte(terminal)
		}}, change...)...)
	}
}

// asked wants a login to ask.
func (c *clocked) asked(uid uint32, b *loginv1.Begin) {
	c.t.Helper()
	s, _ := c.ask(uid, b)
	s.close()
}

// kill -9 right behind the verdict takes nothing away, and gives nothing; another
// boot does (CVE-2024-20301), and so do the other places.
func TestWhatIsRememberedOutlivesTheAgentAndNoBoot(t *testing.T) {
	need(t)
	c, u, p, afar := remembering(t)
	code := c.code(p, 0)
	want(t, c.login(0, afar(), code), allow, "code_accepted")
	c.kill()
	c.start()
	want(t, c.login(0, afar()), skip, "remembered")
	want(t, c.login(0, afar(func(b *loginv1.Begin) { b.Stage = loginv1.Stage_STAGE_ACCOUNT })), skip, "remembered")
	for _, b := range map[string]*loginv1.Begin{
		"another address":          afar(func(b *loginv1.Begin) { b.RemoteHost = []byte("192.0.2.8") }),
		"an address that is none":  afar(func(b *loginv1.Begin) { b.RemoteHost = []byte("a.example.com") }),
		"no address":               afar(func(b *loginv1.Begin) { b.RemoteHost = nil }),
		"another session":          afar(func(b *loginv1.Begin) { b.Session = []byte(aTerminal(t)) }),
		"any session over ssh":     afar(func(b *loginv1.Begin) { b.Session = []byte("ssh") }),
		"whatever is its own":      afar(func(b *loginv1.Begin) { b.Session = []byte("/dev/tty") }),
		"no session":               afar(func(b *loginv1.Begin) { b.Session = nil }),
		"a terminal that is none":  afar(func(b *loginv1.Begin) { b.Session = []byte("/dev/pts/9999") }),
		"a file for a terminal":    afar(func(b *loginv1.Begin) { b.Session = []byte("/etc/passwd") }),
		"the terminal's neighbour": afar(func(b *loginv1.Begin) { b.Session = []byte("../ssh") }),
	} {
		c.asked(0, b)
	}
	c.asked(u.uid, afar())    // the user's own program
	c.set(bend{Wall: "-30m"}) // clock set back: the boot clock counts
	want(t, c.login(0, afar()), skip, "remembered")
	c.set(bend{Wall: "-30m", Boot: "1h"})
	c.asked(0, afar()) // when it is over
	c.set(bend{BootID: "another"})
	c.asked(0, afar()) // in another boot
	c.set(bend{})
	want(t, c.login(0, afar()), skip, "remembered")
	c.cli(nil, "unlock", u.name)
	c.asked(0, afar())                                           // after an unlock
	want(t, c.login(0, afar(), code), deny, "code_already_used") // and the code stays used
}

// Of many logins at once with one code one is let in, and what it earned is its
// own place's alone.
func TestOneCodeIsRememberedOnce(t *testing.T) {
	need(t)
	c, u, p, afar := remembering(t)
	code := c.code(p, 0)
	const logins = 16
	place := func(i int) *loginv1.Begin {
		return afar(func(b *loginv1.Begin) { b.RemoteHost = fmt.Appendf(nil, "192.0.2.%d", 10+i) })
	}
	results := make(chan int, logins)
	for i := range logins {
		go func() {
			if r := c.login(0, place(i), code); r.in() {
				results <- i
			} else {
				results <- -1
			}
		}()
	}
	in := -1
	for range logins {
		if i := <-results; i >= 0 {
			if in >= 0 {
				t.Errorf("%d and %d are in", in, i)
			}
			in = i
		}
	}
	for i := range logins {
		if i == in {
			want(t, c.login(0, place(i)), skip, "remembered")
		} else {
			c.asked(0, place(i))
		}
	}
	if got := count(c.events(), event.LoginAttempt, u, "remembered"); in < 0 || got != 1 {
		t.Errorf("%d in, %d remembered", in, got)
	}
}
