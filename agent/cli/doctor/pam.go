package doctor

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"sallyport/agent/cli/pamstack"
)

var moduleDirs = []string{"lib/security", "lib64/security", "lib/*/security", "usr/lib/security", "usr/lib64/security", "usr/lib/*/security"}

func checkModule(_ context.Context, e *Env) []Result {
	var found []string
	for _, dir := range moduleDirs {
		for _, f := range glob(e.Root, dir+"/"+pamstack.Module) {
			// With a merged /usr both names are one file.
			if !slices.Contains(found, strings.TrimPrefix(f, "usr/")) {
				found = append(found, f)
			}
		}
	}
	uses, _ := pamstack.Uses(e.Root)
	if len(found) == 0 {
		if len(uses) > 0 {
			return []Result{fail("module", "install the package, or take the line out",
				"%s:%d names %s, which is not installed: that service refuses everybody", uses[0].File, uses[0].Line, pamstack.Module)}
		}
		return []Result{warn("module", "install the package", "%s is not installed", pamstack.Module)}
	}
	var out []Result
	for _, f := range found {
		st, err := e.Lstat("/" + f)
		switch {
		case err != nil:
			out = append(out, warn("module", "", "/%s: %v", f, plainError(err)))
		case st.UID != 0 || st.Mode.Type() == 0 && st.Mode.Perm()&0o022 != 0:
			out = append(out, fail("module", "chown root:root /"+f+" && chmod 0644 /"+f,
				"/%s can be changed by others than root (uid %d, mode %#o)", f, st.UID, st.Mode.Perm()))
		default:
			out = append(out, ok("module", "/%s", f))
		}
	}
	return out
}

// finding is one thing wrong with one line, in the stacks of some services.
type finding struct {
	result   Result
	services []string
}

// findings keeps one entry for each text: a line of a shared file is wrong in
// many stacks, and said once.
type findings []finding

func (l *findings) add(service string, r Result) {
	for i := range *l {
		if (*l)[i].result == r {
			(*l)[i].services = append((*l)[i].services, service)
			return
		}
	}
	*l = append(*l, finding{r, []string{service}})
}

func (l findings) results() (out []Result) {
	for _, f := range l {
		f.result.Text += " (" + inStacks(f.services) + ")"
		out = append(out, f.result)
	}
	return out
}

func inStacks(services []string) string {
	return "in the stack of " + strings.Join(services, ", ")
}

// services are those of pam.d that log somebody in, not the files they share.
func services(fsys fs.FS) (out []string) {
	for _, s := range pamstack.Services(fsys) {
		if !pamstack.Shared(s) {
			out = append(out, s)
		}
	}
	return out
}

// passes says how a rule goes past ours.
func passes(r pamstack.Rule) string {
	return fmt.Sprintf("%s %s %s", r.Where(), r.Control, r.Module)
}

const (
	remedyBehind = "put our line behind the whole block that checks the password, where everybody who passes comes by; " +
		"with pam-auth-update that is Auth-Type: Additional; on Red Hat change the auth lines themselves (installer/linux/pam.d/README.md)"
	remedyAbove = "put our line below the password's: strangers must not be asked, nor have their wrong codes counted"
)

func checkStacks(_ context.Context, e *Env) []Result {
	var found findings
	var good []string
	used := false
	keyFirst := keyComesFirst(e)
	for _, service := range services(e.Root) {
		rules, err := pamstack.Load(e.Root, service, "auth")
		if err != nil {
			found.add(service, warn("stacks", "correct it: such a service refuses everybody", "%v", err))
			continue
		}
		r := pamstack.Analyse(rules)
		if len(r.Ours) == 0 {
			continue
		}
		used = true
		ours := r.Ours[0]
		bad := false
		add := func(result Result) {
			bad = bad || result.Status == Fail || result.Status == Warn
			found.add(service, result)
		}
		for _, by := range r.Bypass {
			add(fail("stacks", remedyBehind, "whoever passes %q is let in and never comes by %s", passes(by), ours.Where()))
		}
		switch {
		case r.CodeAlone:
			add(fail("stacks", remedyAbove, "%s: a code alone lets in, without the password", ours.Where()))
		case r.NoFirst && r.Later != nil:
			add(fail("stacks", remedyAbove, "%s is above %q: it asks before the password is proven", ours.Where(), passes(*r.Later)))
		case r.NoFirst && service == "sshd" && keyFirst:
			add(info("stacks", "%s asks after the public key that sshd_config demands first", ours.Where()))
		case r.NoFirst:
			add(warn("stacks", "put a line that checks the password above it", "%s: nothing above it checks a first factor for everybody: strangers can lock people out", ours.Where()))
		}
		for _, by := range r.AskedAfterFailure {
			add(warn("stacks", "make that line requisite, so that a wrong password ends the login there",
				"%s asks for a code even when %q refused: strangers can lock people out", ours.Where(), passes(by)))
		}
		switch {
		case r.RefusalIgnored:
			add(fail("stacks", `write "auth required `+pamstack.Module+`"`, "%s (%s): whoever it refuses is let in all the same", ours.Where(), ours.Control))
		case r.OutageIgnored:
			add(warn("stacks", `write "auth required `+pamstack.Module+`" and set up break-glass instead`,
				"%s (%s): while the agent is down everybody is let in without a code", ours.Where(), ours.Control))
		}
		if r.UnenrolledRefused {
			add(warn("stacks", `add "auth required pam_permit.so" in front of our line, or the option skip=success`,
				"%s: whoever is asked for nothing is refused, as no other line says yes", ours.Where()))
		}
		for _, by := range r.Deliberate {
			found.add(service, info("stacks", "%q lets some in without a code, as it is meant to", passes(by)))
		}
		if !bad {
			good = append(good, service)
		}
	}
	out := found.results()
	if len(good) > 0 {
		out = append(out, ok("stacks", "a code is asked for after the first factor: %s", strings.Join(good, ", ")))
	}
	if !used {
		out = append(out, warn("stacks", "add the lines of installer/linux/pam.d to the services that are to ask",
			"no stack of /etc/pam.d runs %s: no login asks for a code", pamstack.Module))
	}
	return out
}

// noVerdict are the services that come to the account step without an auth step
// of their own: ours would refuse whoever is enrolled.
var noVerdict = []string{"cron", "crond", "atd", "su", "su-l", "sudo", "sudo-i", "runuser", "runuser-l", "systemd-user"}

func checkAccount(_ context.Context, e *Env) []Result {
	var out []Result
	uses, _ := pamstack.Uses(e.Root)
	const remedy = `the line "account required ` + pamstack.Module + `" belongs into /etc/pam.d/sshd only`
	for _, u := range uses {
		if u.Type != "account" {
			continue
		}
		where := fmt.Sprintf("%s:%d", u.File, u.Line)
		lockedOut := slices.DeleteFunc(slices.Clone(u.Services), func(s string) bool { return !slices.Contains(noVerdict, s) })
		switch {
		case pamstack.Shared(u.File):
			out = append(out, fail("account", remedy, "%s: an account line in a shared file locks enrolled users out of cron, "+
				"of su from root and of sudo's remembered password (%s)", where, inStacks(u.Services)))
		case len(lockedOut) > 0:
			out = append(out, fail("account", remedy, "%s: an account line there refuses enrolled users who were not asked in that login", where))
		case !slices.Contains(u.Services, "sshd"):
			out = append(out, warn("account", remedy, "%s: an account line that is not sshd's", where))
		}
	}
	rules, err := pamstack.Load(e.Root, "sshd", "account")
	if err != nil {
		return out
	}
	r := pamstack.Analyse(rules)
	if len(r.Ours) == 0 {
		return out
	}
	ours := r.Ours[0]
	const above = "put our account line first, above common-account or password-auth"
	for _, by := range r.Bypass {
		out = append(out, fail("account", above, "whoever passes %q never comes by %s: a public key alone gets in", passes(by), ours.Where()))
	}
	if r.RefusalIgnored {
		out = append(out, fail("account", remedy, "%s (%s): its refusal does not count", ours.Where(), ours.Control))
	} else if r.OutageIgnored {
		out = append(out, warn("account", remedy, "%s (%s): while the agent is down a public key alone gets in", ours.Where(), ours.Control))
	}
	return out
}

// checkProfiles reads the profiles of pam-auth-update(8).
func checkProfiles(_ context.Context, e *Env) []Result {
	var out []Result
	for _, name := range glob(e.Root, "usr/share/pam-configs/*") {
		data, err := fs.ReadFile(e.Root, name)
		if err != nil || !strings.Contains(string(data), pamstack.Module) {
			continue
		}
		section, types := "", map[string]string{}
		named := map[string]bool{}
		for line := range strings.Lines(string(data)) {
			key, value, isField := strings.Cut(line, ":")
			if isField && !strings.ContainsAny(key, " \t") {
				section = strings.TrimSuffix(strings.ToLower(key), "-initial")
				types[strings.ToLower(key)] = strings.ToLower(strings.TrimSpace(value))
			} else if strings.Contains(line, pamstack.Module) {
				named[section] = true
			}
		}
		switch {
		case named["auth"] && types["auth-type"] != "additional":
			out = append(out, fail("pam-auth-update", `write "Auth-Type: Additional" in it, then: pam-auth-update --force`,
				"/%s has Auth-Type: Primary: the jump that is made of it goes past our line", name))
		case named["account"]:
			out = append(out, fail("pam-auth-update", "take the Account section out, then: pam-auth-update --force",
				"/%s puts an account line into common-account: it locks enrolled users out of cron and of su from root", name))
		default:
			out = append(out, ok("pam-auth-update", "/%s: Auth-Type: Additional", name))
		}
	}
	return out
}

func checkBreakGlass(_ context.Context, e *Env) []Result {
	groups := map[string][]string{}
	for _, service := range services(e.Root) {
		rules, err := pamstack.Load(e.Root, service, "auth")
		if err != nil {
			continue
		}
		for _, r := range pamstack.Analyse(rules).Deliberate {
			if r.Module != "pam_succeed_if.so" {
				continue
			}
			group := "whoever meets " + strings.Join(r.Args, " ")
			if i := slices.Index(r.Args, "ingroup"); i >= 0 && i+1 < len(r.Args) {
				group = "the group " + r.Args[i+1]
			}
			groups[group] = append(groups[group], service)
		}
	}
	if len(groups) == 0 {
		return []Result{info("break-glass", "not set up: while the agent is broken, nobody gets in where a code is asked for, enrolled or not")}
	}
	var out []Result
	for group, in := range groups {
		r := info("break-glass", "set up for %s: %s", group, strings.Join(in, ", "))
		if name, ok := strings.CutPrefix(group, "the group "); ok {
			r.Text += "; " + members(e.Root, name)
		}
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b Result) int { return strings.Compare(a.Text, b.Text) })
	return out
}

// members says who is in a local group: group(5).
func members(fsys fs.FS, group string) string {
	data, err := fs.ReadFile(fsys, "etc/group")
	if err != nil {
		return "its members are not known"
	}
	for line := range strings.Lines(string(data)) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) == 4 && f[0] == group {
			if f[3] == "" {
				return "nobody is in it"
			}
			return "in it: " + strings.ReplaceAll(f[3], ",", ", ")
		}
	}
	return "there is no such local group: nobody is in it"
}

// loginServices are the usual ways in, worth naming when they ask for no code.
var loginServices = []string{"sshd", "login", "remote", "su", "su-l", "sudo", "sudo-i", "polkit-1", "gdm-password", "gdm-fingerprint",
	"gdm-smartcard", "gdm-autologin", "lightdm", "sddm", "xdm", "lxdm", "xrdp-sesman", "cockpit", "doas", "vsftpd", "samba"}

func checkUncovered(_ context.Context, e *Env) []Result {
	var out []Result
	var without []string
	for _, service := range services(e.Root) {
		if !slices.Contains(loginServices, service) {
			continue
		}
		rules, err := pamstack.Load(e.Root, service, "auth")
		if err == nil && len(pamstack.Analyse(rules).Ours) == 0 {
			without = append(without, service)
		}
	}
	if len(without) > 0 {
		out = append(out, info("not covered", "no code is asked for by: %s", strings.Join(without, ", ")))
	}
	return append(out, noPasswords(e)...)
}

// noPasswords are the lines of sudoers(5) that ask for nothing.
func noPasswords(e *Env) []Result {
	var out []Result
	for _, name := range append([]string{"etc/sudoers"}, glob(e.Root, "etc/sudoers.d/*")...) {
		data, err := fs.ReadFile(e.Root, name)
		if err != nil {
			continue
		}
		n := 0
		for line := range strings.Lines(string(data)) {
			n++
			text, _, _ := strings.Cut(line, "#")
			if strings.Contains(text, "NOPASSWD") {
				out = append(out, info("not covered", "/%s:%d: NOPASSWD: sudo asks for neither password nor code there", name, n))
			}
		}
	}
	return out
}
