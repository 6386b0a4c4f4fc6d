//go:build linux

package pamstack

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/msteinert/pam/v2"

	pamd "sallyport/installer/linux/pam.d"
)

// Debian 12's shared files.
const (
	debianAuth = `
auth	[success=1 default=ignore]	pam_unix.so nullok
auth	requisite			pam_deny.so
auth	required			pam_permit.so
auth	optional			pam_cap.so
`
	debianAccount = `
account	[success=1 new_authtok_reqd=done default=ignore]	pam_unix.so
account	requisite			pam_deny.so
account	required			pam_permit.so
`
	// RHEL 9's password-auth, as authselect's sssd profile writes it.
	redhatAuth = `
auth        required                                     pam_env.so
auth        required                                     pam_faildelay.so delay=2000000
auth        [default=1 ignore=ignore success=ok]         pam_usertype.so isregular
auth        [default=1 ignore=ignore success=ok]         pam_localuser.so
auth        sufficient                                   pam_unix.so nullok
auth        [default=1 ignore=ignore success=ok]         pam_usertype.so isregular
auth        sufficient                                   pam_sss.so forward_pass
auth        required                                     pam_deny.so

account     required                                     pam_unix.so
account     sufficient                                   pam_localuser.so
account     sufficient                                   pam_usertype.so issystem
account     [default=bad success=ok user_unknown=ignore] pam_sss.so
account     required                                     pam_permit.so
`
)

// files makes an fs from file names under etc/pam.d.
func files(m map[string]string) fs.FS {
	fsys := fstest.MapFS{}
	for name, text := range m {
		if !strings.Contains(name, "/") {
			name = "etc/pam.d/" + name
		}
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return fsys
}

// verdict is a report in one line.
func verdict(r Report) string {
	var s []string
	list := func(name string, rules []Rule) {
		for _, rule := range rules {
			s = append(s, fmt.Sprintf("%s %s %s:%d", name, rule.Module, filepath.Base(rule.File), rule.Line))
		}
	}
	list("bypass", r.Bypass)
	list("deliberate", r.Deliberate)
	list("after", r.AskedAfterFailure)
	for name, on := range map[string]bool{"no-first": r.NoFirst, "code-alone": r.CodeAlone, "refusal-ignored": r.RefusalIgnored,
		"outage-ignored": r.OutageIgnored, "unenrolled-refused": r.UnenrolledRefused} {
		if on {
			s = append(s, name)
		}
	}
	if r.Later != nil {
		s = append(s, "later "+r.Later.Module)
	}
	if len(r.Ours) == 0 {
		s = append(s, "absent")
	}
	slices.Sort(s)
	return strings.Join(s, ", ")
}

func TestAnalyse(t *testing.T) {
	debian := map[string]string{"common-auth": debianAuth, "common-account": debianAccount}
	redhat := map[string]string{"password-auth": redhatAuth, "system-auth": redhatAuth}
	for _, c := range []struct {
		name  string
		base  map[string]string
		typ   string
		svc   string
		extra map[string]string
		want  string
	}{
		{"Debian, ours after common-auth", debian, "auth", "@include common-auth\nauth required pam_sallyport.so", nil, ""},
		{"Debian, ours in common-auth as Additional", nil, "auth", "@include common-auth",
			map[string]string{"common-auth": debianAuth + "auth required pam_sallyport.so\n"}, ""},
		{"Debian, pam-auth-update with Primary jumps over ours", nil, "auth", "@include common-auth", map[string]string{"common-auth": `
auth [success=2 default=ignore] pam_unix.so nullok
auth [success=1 default=ignore] pam_sallyport.so
auth requisite pam_deny.so
auth required pam_permit.so`}, "after pam_unix.so common-auth:2, bypass pam_unix.so common-auth:2, code-alone, unenrolled-refused"},
		{"Red Hat, ours behind an include that ends the list", redhat, "auth", "auth include password-auth\nauth required pam_sallyport.so", nil,
			"after pam_sss.so password-auth:8, after pam_unix.so password-auth:6, bypass pam_sss.so password-auth:8, bypass pam_unix.so password-auth:6, no-first, unenrolled-refused"},
		{"Red Hat, ours behind a substack is asked after a wrong password", redhat, "auth", "auth substack password-auth\nauth required pam_sallyport.so", nil,
			"after pam_sss.so password-auth:8, after pam_unix.so password-auth:6, no-first"},
		{"ours above pam_unix", debian, "auth", "auth required pam_sallyport.so\n@include common-auth", nil, "later pam_unix.so, no-first"},
		{"ours sufficient above pam_unix", debian, "auth", "auth sufficient pam_sallyport.so\n@include common-auth", nil,
			"code-alone, later pam_unix.so, no-first, outage-ignored, refusal-ignored"},
		{"ours optional", debian, "auth", "@include common-auth\nauth optional pam_sallyport.so", nil, "outage-ignored, refusal-ignored"},
		{"ours sufficient at the end", debian, "auth", "@include common-auth\nauth sufficient pam_sallyport.so", nil, "outage-ignored, refusal-ignored"},
		{"an outage that the operator ignores", debian, "auth", "@include common-auth\nauth [success=ok authinfo_unavail=ignore ignore=ignore default=bad] pam_sallyport.so", nil, "outage-ignored"},
		{"break-glass right above ours", debian, "auth", "@include common-auth\nauth [success=1 default=ignore] pam_succeed_if.so user ingroup glass\nauth required pam_sallyport.so", nil,
			"deliberate pam_succeed_if.so svc:2"},
		{"break-glass with a line put between", debian, "auth", "@include common-auth\nauth [success=1 default=ignore] pam_succeed_if.so user ingroup glass\nauth optional pam_cap.so\nauth required pam_sallyport.so", nil, ""},
		{"su lets root by", debian, "auth", "auth sufficient pam_rootok.so\n@include common-auth\nauth required pam_sallyport.so", nil, "deliberate pam_rootok.so svc:1"},
		{"pam_unix required asks after a wrong password", nil, "auth", "auth required pam_unix.so\nauth required pam_sallyport.so", nil, "after pam_unix.so svc:1"},
		{"pam_unix requisite", nil, "auth", "auth requisite pam_unix.so\nauth required pam_sallyport.so", nil, ""},
		{"ours alone", nil, "auth", "auth required pam_sallyport.so", nil, "no-first, unenrolled-refused"},
		{"ours alone, skip=success", nil, "auth", "auth required pam_sallyport.so skip=success", nil, "no-first"},
		{"not there", debian, "auth", "@include common-auth", nil, "absent"},
		{"an unknown module that is sufficient", debian, "auth", "auth sufficient pam_other.so\n@include common-auth\nauth required pam_sallyport.so", nil, "bypass pam_other.so svc:1"},
		{"sshd's account line in front", debian, "account", "account required pam_sallyport.so\n@include common-account", nil, ""},
		{"account behind common-account", debian, "account", "@include common-account\naccount required pam_sallyport.so", nil, "bypass pam_unix.so common-account:2"},
		{"account behind Red Hat's include", redhat, "account", "account include password-auth\naccount required pam_sallyport.so", nil,
			"bypass pam_localuser.so password-auth:12, bypass pam_usertype.so password-auth:13"},
		{"account behind Red Hat's substack", redhat, "account", "account substack password-auth\naccount required pam_sallyport.so", nil, ""},
	} {
		m := map[string]string{"svc": c.svc}
		for _, more := range []map[string]string{c.base, c.extra} {
			for k, v := range more {
				m[k] = v
			}
		}
		rules, err := Load(files(m), "svc", c.typ)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got := verdict(Analyse(rules)); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
	}
}

// The stacks that we ship are free of findings.
func TestShippedStacks(t *testing.T) {
	m := map[string]string{"common-auth": debianAuth, "common-account": debianAccount, "common-session": "", "common-password": "",
		"common-session-noninteractive": "", "postlogin": ""}
	for _, name := range []string{"sshd", "sudo", "sudo-i", "su", "login"} {
		data, err := pamd.Files.ReadFile("debian/" + name)
		if err != nil {
			t.Fatal(err)
		}
		m[name] = string(data)
	}
	lines, err := pamd.Files.ReadFile("redhat/auth-lines")
	if err != nil {
		t.Fatal(err)
	}
	// authselect's conditions, without and with the feature.
	m["redhat"] = regexp.MustCompile(`(?m)^.*\{include if .*\n`).ReplaceAllString(string(lines), "")
	m["redhat with-faillock"] = regexp.MustCompile(`(?m)^.*\{exclude if .*\n`).ReplaceAllString(string(lines), "")
	want := map[string]string{"su": "deliberate pam_rootok.so su"}
	for _, name := range []string{"sshd", "sudo", "sudo-i", "su", "login", "redhat", "redhat with-faillock"} {
		rules, err := Load(files(m), name, "auth")
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := verdict(Analyse(rules)); !strings.HasPrefix(got, want[name]) || want[name] == "" && got != "" {
			t.Errorf("%s: %s", name, got)
		}
	}
	rules, err := Load(files(m), "sshd", "account")
	if err != nil {
		t.Fatal(err)
	}
	if got := verdict(Analyse(rules)); got != "" {
		t.Errorf("sshd's account: %s", got)
	}
}

// Our dispatcher against libpam's own, on stacks of pam_debug.so, which returns
// what it is told to.
func TestDispatcherAgreesWithLibpam(t *testing.T) {
	if !pam.CheckPamHasStartConfdir() {
		t.Skip("this libpam has no pam_start_confdir")
	}
	rng := rand.New(rand.NewPCG(1, 2))
	returns := []string{retSuccess, retRefused, retIgnore, retUnknown, retUnavailable}
	actions := []string{"ok", "done", "bad", "die", "ignore", "reset", "1", "2", "3"}
	dir := t.TempDir()
	lines := func(n int, include bool) string {
		var b strings.Builder
		for range n {
			if include && rng.IntN(4) == 0 {
				// Whole: libpam 1.5.2 looks for included names in /etc/pam.d only.
				fmt.Fprintf(&b, "auth %s %s/inner\n", []string{"include", "substack"}[rng.IntN(2)], dir)
				continue
			}
			control := []string{"required", "requisite", "sufficient", "optional"}[rng.IntN(4)]
			if rng.IntN(2) == 0 {
				control = "[default=" + actions[rng.IntN(len(actions))]
				for _, ret := range returns {
					if rng.IntN(2) == 0 {
						control += " " + ret + "=" + actions[rng.IntN(len(actions))]
					}
				}
				control += "]"
			}
			fmt.Fprintf(&b, "auth %s pam_debug.so auth=%s\n", control, returns[rng.IntN(len(returns))])
		}
		return b.String()
	}
	success := 0
	for i := range 2000 {
		svc, inner := lines(1+rng.IntN(6), true), lines(1+rng.IntN(4), false)
		for name, text := range map[string]string{"svc": svc, "inner": inner} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		rules, err := Load(files(map[string]string{"svc": svc, strings.TrimPrefix(dir, "/") + "/inner": inner}), "svc", "auth")
		if err != nil {
			t.Fatal(err)
		}
		got := result(rules, func(r Rule) string { return strings.TrimPrefix(r.Args[0], "auth=") })
		tx, err := pam.StartConfDir("svc", "nobody", pam.ConversationFunc(func(pam.Style, string) (string, error) {
			return "", errors.New("nobody asks")
		}), dir)
		if err != nil {
			t.Fatalf("%v\n%s", err, svc)
		}
		err = tx.Authenticate(pam.Silent)
		_ = tx.End()
		if (got == retSuccess) != (err == nil) {
			t.Errorf("stack %d: we say %s, libpam %v\nsvc:\n%sinner:\n%s", i, got, err, svc, inner)
		}
		if err == nil {
			success++
		}
	}
	if success < 200 || success > 1800 {
		t.Errorf("%d of 2000 stacks let in: they test nothing", success)
	}
}

func TestParsing(t *testing.T) {
	rules, err := Load(files(map[string]string{
		"svc": `# comment
-auth   [success=ok \
         default=die]  /lib/security/pam_one.so  arg [two words \] x] # more
AUTH sufficient pam_two.so
account required pam_not_this.so
@include shared
auth include also
`,
		"shared": "auth required pam_three.so\naccount required pam_x.so\n",
		"also":   "auth optional pam_four.so\n",
	}), "svc", "auth")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range rules {
		got = append(got, fmt.Sprintf("%s %s", r.Module, r.Where()))
	}
	want := []string{"pam_one.so /etc/pam.d/svc:2", "pam_two.so /etc/pam.d/svc:4", "pam_three.so /etc/pam.d/shared:1", "pam_four.so /etc/pam.d/also:1"}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if !slices.Equal(rules[0].Args, []string{"arg", "[two words ]"}) && !slices.Equal(rules[0].Args, []string{"arg", "[two words ] x]"}) {
		t.Errorf("%q", rules[0].Args)
	}
}

func TestBrokenStacks(t *testing.T) {
	for name, m := range map[string]map[string]string{
		"an include that is not there": {"svc": "@include nothing\n"},
		"a loop":                       {"svc": "@include svc\n"},
		"an unknown control":           {"svc": "auth maybe pam_unix.so\n"},
		"an unknown action":            {"svc": "auth [success=perhaps] pam_unix.so\n"},
		"outside":                      {"svc": "@include ../passwd\n"},
	} {
		if _, err := Load(files(m), "svc", "auth"); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if rules, err := Load(files(map[string]string{"other": "auth required pam_deny.so\n"}), "svc", "auth"); err != nil || len(rules) != 1 {
		t.Errorf("a service without a file has other's stack: %v, %v", rules, err)
	}
}

func TestUses(t *testing.T) {
	uses, problems := Uses(files(map[string]string{
		"common-auth": debianAuth + "auth required pam_sallyport.so\n", "sshd": "@include common-auth\naccount required pam_sallyport.so\n",
		"login": "@include common-auth\n", "cron": "auth required pam_permit.so\n", "sshd.dpkg-old": "auth required pam_sallyport.so\n",
		"broken": "@include nothing\n", "usr/lib/pam.d/vendor": "auth required pam_sallyport.so\n"}))
	if len(problems) != 1 || len(uses) != 3 {
		t.Fatalf("%v, %v", uses, problems)
	}
	for i, want := range []string{"/etc/pam.d/common-auth:6 auth [login sshd]", "/etc/pam.d/sshd:2 account [sshd]", "/usr/lib/pam.d/vendor:1 auth [vendor]"} {
		if got := fmt.Sprintf("%s:%d %s %v", uses[i].File, uses[i].Line, uses[i].Type, uses[i].Services); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func FuzzLoad(f *testing.F) {
	f.Add("auth [success=1 default=ignore] pam_unix.so\nauth requisite pam_deny.so\nauth required pam_sallyport.so\n")
	f.Fuzz(func(_ *testing.T, text string) {
		rules, err := Load(files(map[string]string{"svc": text, "inner": "auth sufficient pam_unix.so\n"}), "svc", "auth")
		if err == nil && len(rules) < 60 {
			Analyse(rules)
		}
	})
}

// result is what pam_authenticate returns when each module returns what ret says.
func result(rules []Rule, ret func(Rule) string) string {
	s := start
	for s.at < len(rules) {
		if rules[s.at].substack {
			s.level = rules[s.at].level
			s.at++
			continue
		}
		s = next(rules, s, ret(rules[s.at]))
	}
	if s.impression == undefined || s.impression == negative && s.status == retSuccess {
		return "perm_denied" // libpam: PAM_MUST_FAIL_CODE
	}
	return s.status
}
