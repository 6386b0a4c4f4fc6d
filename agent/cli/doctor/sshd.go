package doctor

import (
	"bufio"
	"bytes"
	"context"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"sallyport/agent/cli/pamstack"
)

const sshdConfig = "etc/ssh/sshd_config"

// sshdDefaults are OpenSSH's own, sshd_config(5), for what matters here.
var sshdDefaults = map[string]string{
	"usepam": "no", "kbdinteractiveauthentication": "yes", "passwordauthentication": "yes", "pubkeyauthentication": "yes",
	"gssapiauthentication": "no", "hostbasedauthentication": "no", "authenticationmethods": "any",
	"permitrootlogin": "prohibit-password", "logingracetime": "120",
}

// sshdSettings is the effective configuration of sshd: what `sshd -T` says when
// it can be asked, else what the file says. Whatever stands in a Match block is
// in matches.
func sshdSettings(ctx context.Context, e *Env) (settings map[string]string, matches []string, found bool) {
	fromFile := map[string]string{}
	if !parseSSHD(e.Root, sshdConfig, fromFile, &matches, 0) {
		return nil, nil, false
	}
	settings = map[string]string{}
	for k, v := range sshdDefaults {
		settings[k] = v
	}
	if e.EUID == 0 {
		// A connection, so that Match blocks can be judged; nobody is in few of them.
		out, err := e.Run(ctx, "sshd", "-T", "-C", "user=nobody,host=localhost,addr=127.0.0.1,laddr=127.0.0.1,lport=22")
		if err == nil {
			for line := range strings.Lines(string(out)) {
				key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
				settings[strings.ToLower(key)] = value
			}
			return settings, matches, true
		}
	}
	for k, v := range fromFile {
		settings[k] = v
	}
	return settings, matches, true
}

// parseSSHD reads a file of sshd_config(5): the first value of a key counts.
func parseSSHD(fsys fs.FS, name string, into map[string]string, matches *[]string, depth int) bool {
	data, err := fs.ReadFile(fsys, name)
	if err != nil || depth > 16 {
		return false
	}
	match := ""
	s := bufio.NewScanner(bytes.NewReader(data))
	for s.Scan() {
		line := strings.TrimSpace(s.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		i := strings.IndexAny(line, " \t=")
		if i < 0 {
			continue
		}
		key := strings.ToLower(line[:i])
		value := strings.Trim(strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line[i:]), "=")), `"`)
		switch {
		case key == "match":
			match = value
			if strings.EqualFold(value, "all") {
				match = ""
			}
		case key == "include" && match == "":
			for pattern := range strings.FieldsSeq(value) {
				if !strings.HasPrefix(pattern, "/") {
					pattern = "/etc/ssh/" + pattern
				}
				for _, file := range glob(fsys, strings.TrimPrefix(path.Clean(pattern), "/")) {
					parseSSHD(fsys, file, into, matches, depth+1)
				}
			}
		case match != "":
			if _, ok := sshdDefaults[key]; ok {
				*matches = append(*matches, "Match "+match+": "+line)
			}
		default:
			if key == "challengeresponseauthentication" { // its old name
				key = "kbdinteractiveauthentication"
			}
			if _, ok := into[key]; !ok {
				into[key] = value
			}
		}
	}
	return true
}

// methodLists splits AuthenticationMethods: each list has to be gone through.
func methodLists(value string) (lists [][]string) {
	for list := range strings.FieldsSeq(value) {
		var methods []string
		for m := range strings.SplitSeq(list, ",") {
			name, _, _ := strings.Cut(strings.ToLower(m), ":")
			methods = append(methods, name)
		}
		lists = append(lists, methods)
	}
	return lists
}

// keyComesFirst says whether sshd demands a public key before anything that
// runs the auth stack.
func keyComesFirst(e *Env) bool {
	settings, _, found := sshdSettings(context.Background(), e)
	if !found {
		return false
	}
	lists := methodLists(settings["authenticationmethods"])
	for _, l := range lists {
		if l[0] != "publickey" && l[0] != "hostbased" && l[0] != "gssapi-with-mic" {
			return false
		}
	}
	return len(lists) > 0
}

// withoutStack are the methods that do not run PAM's auth stack.
func withoutStack(method string, s map[string]string) bool {
	switch method {
	case "publickey":
		return s["pubkeyauthentication"] != "no"
	case "gssapi-with-mic":
		return s["gssapiauthentication"] == "yes"
	case "hostbased":
		return s["hostbasedauthentication"] == "yes"
	}
	return false
}

// stackless lists the ways through sshd that never run the auth stack.
func stackless(s map[string]string) (ways []string) {
	lists := methodLists(s["authenticationmethods"])
	if len(lists) == 1 && len(lists[0]) == 1 && lists[0][0] == "any" {
		lists = [][]string{{"publickey"}, {"gssapi-with-mic"}, {"hostbased"}}
	}
	for _, l := range lists {
		if !slices.ContainsFunc(l, func(m string) bool { return !withoutStack(m, s) }) {
			ways = append(ways, strings.Join(l, ","))
		}
	}
	return ways
}

func checkSSHD(ctx context.Context, e *Env) []Result {
	s, matches, found := sshdSettings(ctx, e)
	if !found {
		return []Result{info("sshd", "no OpenSSH server (or its configuration cannot be read)")}
	}
	auth, _ := pamstack.Load(e.Root, "sshd", "auth")
	account, _ := pamstack.Load(e.Root, "sshd", "account")
	asks := len(pamstack.Analyse(auth).Ours) > 0
	guarded := len(pamstack.Analyse(account).Ours) > 0
	// What matters only once sshd's stack asks is a warning until then.
	severe := func(check, remedy, format string, args ...any) Result {
		if asks {
			return fail(check, remedy, format, args...)
		}
		return warn(check, remedy, format, args...)
	}
	reload := ", then: systemctl reload ssh"
	if e.Mac != nil { // launchd starts one for each connection
		reload = "; it is in force at the next connection"
	}
	var out []Result
	if s["usepam"] != "yes" {
		out = append(out, severe("sshd", "write UsePAM yes in sshd_config"+reload, "UsePAM is no: sshd runs no stack, and nobody is asked for a code"))
	}
	if s["kbdinteractiveauthentication"] != "yes" {
		out = append(out, severe("sshd", "write KbdInteractiveAuthentication yes in sshd_config"+reload,
			"KbdInteractiveAuthentication is %s: sshd cannot ask for a code, and refuses whoever is enrolled", s["kbdinteractiveauthentication"]))
	}
	const both = "write AuthenticationMethods publickey,keyboard-interactive in sshd_config (key and code), or set the account line, which refuses the enrolled: " +
		`"account required ` + pamstack.Module + `" in /etc/pam.d/sshd`
	if ways := stackless(s); len(ways) > 0 {
		list := strings.Join(ways, " or ")
		if guarded {
			out = append(out, ok("sshd", "%s alone runs no auth stack: the account line refuses whoever is enrolled", list))
		} else {
			out = append(out, severe("sshd", both, "%s alone lets in without a code, and the account line is not in /etc/pam.d/sshd", list))
		}
	}
	for _, l := range methodLists(s["authenticationmethods"]) {
		if slices.Contains(l, "password") && !slices.Contains(l, "keyboard-interactive") {
			out = append(out, severe("sshd", "write keyboard-interactive in its place",
				"AuthenticationMethods has %s: the password method cannot ask for a code, and refuses whoever is enrolled", strings.Join(l, ",")))
		}
	}
	if s["gssapiauthentication"] == "yes" && !guarded {
		out = append(out, info("not covered", "GSSAPIAuthentication is yes: a Kerberos ticket lets in without a code"))
	}
	if grace, ok := sshdTime(s["logingracetime"]); ok && grace > 0 && grace < e.PromptTime {
		out = append(out, warn("sshd", "write LoginGraceTime 120 in sshd_config",
			"LoginGraceTime is %v, shorter than the %v that a person may take for the code: sshd hangs up first", grace, e.PromptTime))
	}
	switch s["permitrootlogin"] {
	case "no":
	case "yes":
		out = append(out, info("sshd", "PermitRootLogin is yes: root is asked for a code only when root is enrolled or required"))
	default:
		out = append(out, info("sshd", "PermitRootLogin is %s: root gets in by key only; with keyboard-interactive demanded as well, not at all", s["permitrootlogin"]))
	}
	for _, m := range matches {
		out = append(out, info("sshd", "not judged here: %s", m))
	}
	if !slices.ContainsFunc(out, func(r Result) bool { return r.Status == Fail || r.Status == Warn }) && asks {
		out = append(out, ok("sshd", "UsePAM and KbdInteractiveAuthentication are on"))
	}
	return out
}

// sshdTime reads a time of sshd_config(5): seconds, or numbers with units.
func sshdTime(s string) (time.Duration, bool) {
	var total time.Duration
	for s != "" {
		n := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' })
		if n == 0 {
			return 0, false
		}
		unit := time.Second
		digits := s
		if n > 0 {
			digits = s[:n]
			units := map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour, 'w': 7 * 24 * time.Hour}
			var ok bool
			if unit, ok = units[s[n]|0x20]; !ok {
				return 0, false
			}
			s = s[n+1:]
		} else {
			s = ""
		}
		v, err := strconv.ParseUint(digits, 10, 31)
		if err != nil {
			return 0, false
		}
		total += time.Duration(v) * unit
	}
	return total, true
}
