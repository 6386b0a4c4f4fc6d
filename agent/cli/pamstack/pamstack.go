// Package pamstack reads the PAM stacks of this computer as libpam does and
// says what they do with our module: where it is, who gets past it, and whether
// its refusal counts. It follows pam.conf(5) and libpam's dispatcher; it never
// writes.
package pamstack

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Module is our module's file name.
const Module = "pam_sallyport.so"

// dirs are searched in this order, relative to the root: the administrator's
// files first, then the vendor's.
var dirs = []string{"etc/pam.d", "usr/lib/pam.d"}

// maxDepth bounds includes: libpam's own limit (PAM_SUBSTACK_MAX_LEVEL).
const maxDepth = 16

// Rule is one line of a stack.
type Rule struct {
	File     string // "/etc/pam.d/sshd"
	Line     int
	Type     string // "auth", "account", "password", "session"
	Control  string // as written
	Module   string // file name without its directory
	Args     []string
	level    int  // substacks around it
	substack bool // only the mark where a substack begins
	actions  map[string]action
}

// Where is the rule's place, for people.
func (r Rule) Where() string { return fmt.Sprintf("%s:%d", r.File, r.Line) }

// action is what libpam does after a module returned: a name or a jump.
type action struct {
	name string // "ok", "done", "bad", "die", "ignore", "reset", "jump"
	jump int
}

var keywords = map[string]string{
	"required":   "success=ok new_authtok_reqd=ok ignore=ignore default=bad",
	"requisite":  "success=ok new_authtok_reqd=ok ignore=ignore default=die",
	"sufficient": "success=done new_authtok_reqd=done default=ignore",
	"optional":   "success=ok new_authtok_reqd=ok default=ignore",
}

func parseControl(control string) (map[string]action, error) {
	spec, ok := keywords[strings.ToLower(control)]
	if !ok {
		if !strings.HasPrefix(control, "[") || !strings.HasSuffix(control, "]") {
			return nil, fmt.Errorf("unknown control %q", control)
		}
		spec = control[1 : len(control)-1]
	}
	actions := map[string]action{}
	for _, f := range strings.Fields(spec) {
		value, act, ok := strings.Cut(f, "=")
		if !ok {
			return nil, fmt.Errorf("control %q: %q is not value=action", control, f)
		}
		switch act {
		case "ok", "done", "bad", "die", "ignore", "reset":
			actions[value] = action{name: act}
		default:
			n, err := strconv.Atoi(act)
			if err != nil || n < 0 {
				return nil, fmt.Errorf("control %q: unknown action %q", control, act)
			}
			if n == 0 {
				actions[value] = action{name: "ignore"}
			} else {
				actions[value] = action{name: "jump", jump: n}
			}
		}
	}
	return actions, nil
}

func (r Rule) action(ret string) action {
	if a, ok := r.actions[ret]; ok {
		return a
	}
	if a, ok := r.actions["default"]; ok {
		return a
	}
	return action{name: "bad"} // libpam's initial value
}

// Services lists the services that have a file of their own.
func Services(fsys fs.FS) []string {
	var names []string
	for _, dir := range dirs {
		entries, err := fs.ReadDir(fsys, dir)
		if err != nil {
			continue
		}
		for _, e := range entries {
			if !e.IsDir() && !strings.ContainsAny(e.Name(), "~") && !ignored(e.Name()) && !slices.Contains(names, e.Name()) {
				names = append(names, e.Name())
			}
		}
	}
	slices.Sort(names)
	return names
}

// ignored says whether a file is what a package manager or an editor left.
func ignored(name string) bool {
	for _, suffix := range []string{".dpkg-old", ".dpkg-dist", ".dpkg-new", ".rpmnew", ".rpmsave", ".pam-old", ".bak", ".orig", ".swp"} {
		if strings.HasSuffix(name, suffix) {
			return true
		}
	}
	return false
}

// shared are the files that others include: no service of their own.
func shared(name string) bool {
	return strings.HasPrefix(name, "common-") || slices.Contains([]string{"system-auth", "password-auth", "fingerprint-auth",
		"smartcard-auth", "postlogin", "system-login", "system-local-login", "system-remote-login", "system-services",
		"system-account", "system-password", "system-session", "other"}, name)
}

// Shared says whether a file under pam.d is meant to be included by others.
func Shared(file string) bool { return shared(path.Base(file)) }

// Load reads the stack of one type of one service, with what it includes. A
// service without a file has the stack of "other", as in libpam.
func Load(fsys fs.FS, service, typ string) ([]Rule, error) {
	if _, _, err := open(fsys, service); errors.Is(err, fs.ErrNotExist) {
		service = "other"
	}
	return load(fsys, service, typ, 0, 0)
}

func open(fsys fs.FS, name string) (string, []byte, error) {
	if strings.HasPrefix(name, "/") {
		data, err := fs.ReadFile(fsys, strings.TrimPrefix(path.Clean(name), "/"))
		return path.Clean(name), data, err
	}
	if !fs.ValidPath(name) {
		return "", nil, fmt.Errorf("pam.d/%s: not a file's name", name)
	}
	var first error
	for _, dir := range dirs {
		data, err := fs.ReadFile(fsys, path.Join(dir, name))
		if err == nil {
			return "/" + path.Join(dir, name), data, nil
		}
		if first == nil || !errors.Is(err, fs.ErrNotExist) {
			first = err
		}
	}
	return "", nil, first
}

func load(fsys fs.FS, name, typ string, depth, level int) ([]Rule, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("pam.d/%s: includes are nested deeper than %d", name, maxDepth)
	}
	file, data, err := open(fsys, name)
	if err != nil {
		return nil, err
	}
	var rules []Rule
	for _, l := range lines(data) {
		f := fields(l.text)
		if len(f) == 0 {
			continue
		}
		if strings.EqualFold(f[0], "@include") {
			if len(f) < 2 {
				continue
			}
			more, err := load(fsys, f[1], typ, depth+1, level)
			if err != nil {
				return nil, fmt.Errorf("%s:%d: %w", file, l.number, err)
			}
			rules = append(rules, more...)
			continue
		}
		if !strings.EqualFold(strings.TrimPrefix(f[0], "-"), typ) || len(f) < 3 {
			continue
		}
		switch control := strings.ToLower(f[1]); control {
		case "include", "substack":
			inner := level
			if control == "substack" {
				inner++
				rules = append(rules, Rule{File: file, Line: l.number, Type: typ, Control: f[1], Module: f[2], level: level, substack: true})
			}
			more, err := load(fsys, f[2], typ, depth+1, inner)
			if err != nil {
				return nil, fmt.Errorf("%s:%d: %w", file, l.number, err)
			}
			rules = append(rules, more...)
		default:
			actions, err := parseControl(f[1])
			if err != nil {
				return nil, fmt.Errorf("%s:%d: %w", file, l.number, err)
			}
			rules = append(rules, Rule{File: file, Line: l.number, Type: typ, Control: f[1], Module: module(f[2]),
				Args: f[3:], level: level, actions: actions})
		}
	}
	return rules, nil
}

// module is a module's name, of its path. OpenPAM tries the name with the version of
// its interface before the plain one, and both may be written (pam.conf(5), macOS).
func module(name string) string { return strings.TrimSuffix(path.Base(name), ".2") }

type line struct {
	number int
	text   string
}

// lines joins continued lines and cuts comments; a line's number is that of its
// first part.
func lines(data []byte) []line {
	var out []line
	var open bool
	n := 0
	s := bufio.NewScanner(bytes.NewReader(data))
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		n++
		text := s.Text()
		if i := strings.IndexByte(text, '#'); i >= 0 {
			text = text[:i]
		}
		more := strings.HasSuffix(text, `\`)
		text = strings.TrimSuffix(text, `\`)
		if open {
			out[len(out)-1].text += " " + text
		} else {
			out = append(out, line{n, text})
		}
		open = more
	}
	return out
}

// fields splits at white space; [a b] is one field, in which \] stands for ].
func fields(s string) []string {
	var out []string
	for {
		s = strings.TrimLeft(s, " \t\r")
		if s == "" {
			return out
		}
		if s[0] == '[' {
			var b strings.Builder
			i := 0
			for i < len(s) {
				if s[i] == '\\' && i+1 < len(s) && s[i+1] == ']' {
					b.WriteByte(']')
					i += 2
					continue
				}
				b.WriteByte(s[i])
				i++
				if s[i-1] == ']' {
					break
				}
			}
			out = append(out, b.String())
			s = s[i:]
			continue
		}
		end := strings.IndexAny(s, " \t\r")
		if end < 0 {
			end = len(s)
		}
		out = append(out, s[:end])
		s = s[end:]
	}
}

// Use is one line that names our module.
type Use struct {
	File     string   `json:"file"`
	Line     int      `json:"line"`
	Type     string   `json:"type"`
	Control  string   `json:"control"`
	Services []string `json:"services"` // whose stacks run it
}

// Uses finds every line that names our module and the services it is in. Stacks
// that cannot be read are in problems.
func Uses(fsys fs.FS) (uses []Use, problems []error) {
	for _, service := range Services(fsys) {
		for _, typ := range []string{"auth", "account", "password", "session"} {
			rules, err := Load(fsys, service, typ)
			if err != nil {
				if typ == "auth" {
					problems = append(problems, err)
				}
				continue
			}
			for _, r := range rules {
				if r.Module != Module {
					continue
				}
				i := slices.IndexFunc(uses, func(u Use) bool { return u.File == r.File && u.Line == r.Line && u.Type == r.Type })
				if i < 0 {
					uses = append(uses, Use{File: r.File, Line: r.Line, Type: r.Type, Control: r.Control, Services: []string{}})
					i = len(uses) - 1
				}
				if !shared(service) && !slices.Contains(uses[i].Services, service) {
					uses[i].Services = append(uses[i].Services, service)
				}
			}
		}
	}
	slices.SortFunc(uses, func(a, b Use) int {
		if c := strings.Compare(a.File, b.File); c != 0 {
			return c
		}
		return a.Line - b.Line
	})
	return uses, problems
}
