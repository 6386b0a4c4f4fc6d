package pamstack

import (
	"slices"
)

// What libpam has made of the modules so far, and what a module can return, as
// far as it matters here.
const (
	undefined = iota
	positive
	negative

	retSuccess     = "success"
	retNewToken    = "new_authtok_reqd"
	retRefused     = "auth_err"
	retUnknown     = "user_unknown"
	retUnavailable = "authinfo_unavail"
	retIgnore      = "ignore"
)

// first are the modules that check a first factor.
var first = []string{"pam_unix.so", "pam_sss.so", "pam_ldap.so", "pam_krb5.so", "pam_winbind.so", "pam_systemd_home.so",
	"pam_pkcs11.so", "pam_fprintd.so", "pam_u2f.so", "pam_himmelblau.so", "pam_authd.so", "pam_authd_exec.so", "pam_kanidm.so",
	"pam_ecryptfs.so", "pam_tcb.so", "pam_pwdb.so", "pam_userdb.so", "pam_radius_auth.so", "pam_lwidentity.so", "pam_lsass.so",
	"pam_centrifydc.so", "pam_vas3.so"}

// deliberate are the modules with which an administrator lets somebody by on
// purpose: root without a password in su, a break-glass group.
var deliberate = []string{"pam_rootok.so", "pam_succeed_if.so", "pam_listfile.so", "pam_wheel.so"}

func isFirst(r Rule) bool { return !r.substack && slices.Contains(first, r.Module) }

// outcomes is what a module may return. All are tried.
func outcomes(r Rule) []string {
	switch {
	case r.Module == Module:
		return []string{retSuccess, retRefused, retUnavailable, retIgnore}
	case r.Module == "pam_deny.so":
		return []string{retRefused}
	case r.Module == "pam_permit.so":
		return []string{retSuccess}
	case isFirst(r) && r.Type == "account":
		return []string{retSuccess, retNewToken, retRefused, retUnknown, retUnavailable}
	case isFirst(r):
		return []string{retSuccess, retRefused, retUnknown, retUnavailable}
	default:
		return []string{retSuccess, retRefused, retIgnore}
	}
}

// state is a point in one way through the stack.
type state struct {
	at         int    // the next rule
	impression int    // libpam's
	status     string // libpam's
	ours       string // what our module returned; empty: it did not run
	proven     bool   // a first factor was proven
	failed     int    // the last rule that refused a first factor; -1: none
	skipper    int    // the rule that went past ours; -1: none
	level      int    // of the last rule
	// saved is what "reset" goes back to: what was at the start of each substack.
	saved [maxDepth + 2]mark
}

// mark is what libpam has made of the modules at one point.
type mark struct {
	impression int
	status     string
}

// start is where every login starts; a stack that nobody decides fails.
var start = func() state {
	s := state{failed: -1, skipper: -1, status: retRefused}
	s.saved[0] = mark{undefined, retRefused}
	return s
}()

// Report says what a stack does with our module. Its rules are those to blame.
type Report struct {
	Ours []Rule // the lines with our module; everything else is empty without one
	// Bypass: who passes this one is let in and our module never runs.
	Bypass []Rule
	// Deliberate is the same, by a module that is there for that.
	Deliberate []Rule
	// AskedAfterFailure: this one may refuse the first factor, and our module asks
	// all the same.
	AskedAfterFailure []Rule
	// NoFirst: our module asks and nothing before it checks a first factor. Later
	// is what would, were it not below ours.
	NoFirst bool
	Later   *Rule
	// CodeAlone: a right code lets in without the first factor.
	CodeAlone bool
	// RefusalIgnored: whoever our module refuses is let in.
	RefusalIgnored bool
	// UnenrolledRefused: whoever policy asks nothing is refused, as no other module
	// says yes.
	UnenrolledRefused bool
	// OutageIgnored: while the agent is down everybody is let in.
	OutageIgnored bool
}

// Analyse follows every way through a stack as libpam's dispatcher would
// (libpam/pam_dispatch.c), whatever the modules return.
func Analyse(rules []Rule) Report {
	var report Report
	for _, r := range rules {
		if r.Module == Module && !r.substack {
			report.Ours = append(report.Ours, r)
		}
	}
	if len(report.Ours) == 0 {
		return report
	}
	hasFirst := slices.ContainsFunc(rules, isFirst)
	var bypass, after []int
	report.UnenrolledRefused = true
	begin := start
	todo := []state{begin}
	seen := map[state]bool{begin: true}
	for len(todo) > 0 {
		s := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if s.at >= len(rules) {
			if s.impression == positive && (s.status == retSuccess || s.status == retNewToken) {
				switch {
				case s.ours == "" && s.skipper >= 0:
					bypass = append(bypass, s.skipper)
				case s.ours == retRefused:
					report.RefusalIgnored = true
				case s.ours == retUnavailable:
					report.OutageIgnored = true
				case s.ours == retIgnore:
					report.UnenrolledRefused = false
				case s.ours == retSuccess && !s.proven && hasFirst && rules[0].Type == "auth":
					report.CodeAlone = true
				}
			}
			continue
		}
		r := rules[s.at]
		if r.substack {
			s.level = r.level
			s.at++
			push(&todo, seen, s)
			continue
		}
		if r.Module == Module && r.Type == "auth" && !s.proven {
			if s.failed >= 0 {
				after = append(after, s.failed)
			} else {
				report.NoFirst = true
			}
		}
		for _, ret := range outcomes(r) {
			if ret == retIgnore && slices.Contains(r.Args, "skip=success") {
				report.UnenrolledRefused = false
				continue
			}
			push(&todo, seen, next(rules, s, ret))
		}
	}
	if report.NoFirst {
		last := report.Ours[len(report.Ours)-1]
		after := false
		for i := range rules {
			after = after || (rules[i].File == last.File && rules[i].Line == last.Line)
			if after && isFirst(rules[i]) {
				report.Later = &rules[i]
				break
			}
		}
	}
	report.AskedAfterFailure = pick(rules, after)
	for _, r := range pick(rules, bypass) {
		if slices.Contains(deliberate, r.Module) {
			report.Deliberate = append(report.Deliberate, r)
		} else {
			report.Bypass = append(report.Bypass, r)
		}
	}
	return report
}

func push(todo *[]state, seen map[state]bool, s state) {
	if !seen[s] {
		seen[s] = true
		*todo = append(*todo, s)
	}
}

func pick(rules []Rule, indices []int) (out []Rule) {
	slices.Sort(indices)
	for _, i := range slices.Compact(indices) {
		out = append(out, rules[i])
	}
	return out
}

// next is the state after rule s.at returned ret.
func next(rules []Rule, s state, ret string) state {
	r := rules[s.at]
	switch {
	case r.Module == Module:
		s.ours = ret
	case isFirst(r) && ret == retSuccess:
		s.proven = true
	case isFirst(r):
		s.failed = s.at
	}
	from := s.at
	if r.level > s.level {
		s.saved[r.level] = mark{s.impression, s.status}
	}
	s.level = r.level
	act := r.action(ret)
	switch act.name {
	case "ok", "done":
		if s.impression == undefined || s.impression == positive && s.status == retSuccess {
			s.impression, s.status = positive, ret
		}
		if act.name == "done" && s.impression == positive {
			s.at = endOfLevel(rules, s.at)
		} else {
			s.at++
		}
	case "bad", "die":
		if s.impression != negative {
			s.impression, s.status = negative, ret
		}
		if act.name == "die" {
			s.at = endOfLevel(rules, s.at)
		} else {
			s.at++
		}
	case "reset":
		s.impression, s.status = s.saved[r.level].impression, s.saved[r.level].status
		s.at++
	case "jump":
		to, ok := jump(rules, s.at, act.jump)
		if !ok { // libpam: a jump out of the stack fails the login
			s.impression, s.status = negative, retRefused
		}
		s.at = to
	default:
		s.at++
	}
	if s.ours == "" && s.skipper < 0 {
		for i := from + 1; i < s.at && i < len(rules); i++ {
			if rules[i].Module == Module && !rules[i].substack {
				s.skipper = from
				break
			}
		}
	}
	return s
}

// endOfLevel is the rule behind the (sub)stack that rule i is in.
func endOfLevel(rules []Rule, i int) int {
	level := rules[i].level
	for i++; i < len(rules) && rules[i].level >= level && level > 0; i++ {
	}
	if level == 0 {
		return len(rules)
	}
	return i
}

// jump goes past n rules of the same level; a substack counts as one.
func jump(rules []Rule, i, n int) (to int, ok bool) {
	level := rules[i].level
	i++
	for ; n > 0; n-- {
		if i >= len(rules) || rules[i].level < level {
			return i, false
		}
		i++
		for i < len(rules) && rules[i].level > level {
			i++
		}
	}
	return i, true
}
