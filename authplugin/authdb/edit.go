package authdb

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// The rights that are edited: security(1), "authorizationdb", and authorization.plist
// of macOS.
const (
	// Console is logging in at the login window.
	Console = "system.login.console"
	// Authenticate is what macOS runs wherever a password is asked for inside a
	// session: it guards elevation, and unlocking where Screensaver leads here.
	Authenticate = "authenticate"
	// Screensaver is unlocking the screen.
	Screensaver = "system.login.screensaver"
)

// Prefix is what all our mechanisms begin with: the bundle's name.
const Prefix = "Sallyport:"

// The neighbours of ours.
const (
	authenticated = "builtin:authenticate,privileged" // here the password was right
	kerberos      = "PKINITMechanism:auth,privileged" // gets a ticket with it
	loginSuccess  = "builtin:login-success"
)

// What Screensaver leads to.
const (
	ruleLoginWindow  = "use-login-window-ui"                 // by default: asks no mechanism of anybody's
	ruleAuthenticate = "authenticate-session-owner-or-admin" // to Authenticate
)

// ErrUnknown says that a right is not as any macOS that we know has it, and is left
// alone.
var ErrUnknown = errors.New("the right is not as we know it, and is left alone")

// ours are the mechanisms of a right, in their order.
func ours(right string) []string {
	begin := "begin"
	if right == Authenticate {
		begin = "begin-session"
	}
	return []string{Prefix + begin + ",privileged", Prefix + "prompt", Prefix + "verify,privileged"}
}

func isOurs(mechanism string) bool { return strings.HasPrefix(mechanism, Prefix) }

// Guard returns a right's definition with ours in it. What was right already comes
// back as it is. Whatever is somebody else's stays where it is, to the byte.
func Guard(right string, plist []byte) ([]byte, error) {
	if right == Screensaver {
		return point(plist, ruleLoginWindow, ruleAuthenticate)
	}
	l, err := listOf(plist)
	if err != nil {
		return nil, err
	}
	if err := inPlace(right, l.names()); err == nil {
		return plist, nil
	}
	bare := cut(plist, l)
	rest, err := listOf(bare)
	if err != nil {
		return nil, err
	}
	at, _, err := anchor(right, rest.names())
	if err != nil {
		return nil, err
	}
	edited := insert(bare, rest, at, ours(right))
	if err := proveGuarded(right, plist, edited); err != nil {
		return nil, fmt.Errorf("the edit came out wrong: %w", err)
	}
	return edited, nil
}

// Unguard returns a right's definition without anything of ours, as it was. was is
// what Screensaver led to; "" when that is not known to be our doing: then it stays.
func Unguard(right string, plist []byte, was string) ([]byte, error) {
	if right == Screensaver {
		if was == "" {
			return plist, nil
		}
		return point(plist, ruleAuthenticate, was)
	}
	l, err := listOf(plist)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(l.names(), isOurs) {
		return plist, nil
	}
	bare := cut(plist, l)
	rest, err := listOf(bare)
	if err != nil {
		return nil, fmt.Errorf("the edit came out wrong: %w", err)
	}
	if !slices.Equal(rest.names(), others(l.names())) || !same(l.root, rest.root, "mechanisms") {
		return nil, errors.New("the edit came out wrong")
	}
	return bare, nil
}

// list is the list of mechanisms in a definition.
type list struct{ root, array *value }

func (l list) names() (names []string) {
	for _, i := range l.array.items {
		names = append(names, i.text)
	}
	return names
}

// before is where what stands before the i-th mechanism ends.
func (l list) before(i int) int {
	if i == 0 {
		return l.array.inner
	}
	return l.array.items[i-1].end
}

func listOf(plist []byte) (list, error) {
	root, err := parse(plist)
	if err != nil {
		return list{}, err
	}
	if c := root.of("class"); c == nil || c.kind != "string" || c.text != "evaluate-mechanisms" {
		return list{}, fmt.Errorf("%w: its class is not evaluate-mechanisms", ErrUnknown)
	}
	array := root.of("mechanisms")
	if array == nil || array.kind != "array" {
		return list{}, fmt.Errorf("%w: it has no list of mechanisms", ErrUnknown)
	}
	for _, i := range array.items {
		if i.kind != "string" || i.text == "" {
			return list{}, fmt.Errorf("%w: a mechanism is no text", ErrUnknown)
		}
	}
	return list{root, array}, nil
}

func others(names []string) []string { return slices.DeleteFunc(slices.Clone(names), isOurs) }

// anchor says behind which of others' mechanisms ours go, and before which they have
// to be.
func anchor(right string, others []string) (behind, before int, err error) {
	before = len(others)
	if right == Console {
		if before = slices.Index(others, loginSuccess); before < 0 {
			return 0, 0, fmt.Errorf("%w: there is no %s", ErrUnknown, loginSuccess)
		}
	}
	behind = -1
	for i, name := range others {
		if name == authenticated {
			behind = i
		}
	}
	if behind < 0 {
		return 0, 0, fmt.Errorf("%w: there is no %s", ErrUnknown, authenticated)
	}
	if behind+1 < len(others) && others[behind+1] == kerberos {
		behind++
	}
	if behind >= before {
		return 0, 0, fmt.Errorf("%w: %s comes behind %s", ErrUnknown, authenticated, loginSuccess)
	}
	return behind, before, nil
}

// errNone and errOrder are what can be wrong with ours in a list.
var (
	errNone  = errors.New("ours are not there")
	errOrder = errors.New("ours are not all there, not in order, or more than once")
)

// inPlace says what is wrong with ours in a list. Others' mechanisms may stand between
// them: who put them behind the password's comes in front of ours, or of ours in front
// of those, with every product that installs.
func inPlace(right string, names []string) error {
	var have []string
	var at []int // how many of the others stand before each of ours
	var rest []string
	for _, name := range names {
		if isOurs(name) {
			have, at = append(have, name), append(at, len(rest))
		} else {
			rest = append(rest, name)
		}
	}
	if len(have) == 0 {
		return errNone
	}
	behind, before, err := anchor(right, rest)
	if err != nil {
		return err
	}
	if !slices.Equal(have, ours(right)) || at[0] <= behind || at[len(at)-1] > before {
		return errOrder
	}
	return nil
}

// cut takes ours out of the text, each with the space before it.
func cut(plist []byte, l list) []byte {
	var b bytes.Buffer
	from := 0
	for i, item := range l.array.items {
		if isOurs(item.text) {
			b.Write(plist[from:l.before(i)])
			from = item.end
		}
	}
	b.Write(plist[from:])
	return b.Bytes()
}

// insert puts names behind the i-th mechanism, spaced like that.
func insert(plist []byte, l list, i int, names []string) []byte {
	item := l.array.items[i]
	space := plist[l.before(i):item.start]
	var b bytes.Buffer
	b.Write(plist[:item.end])
	for _, name := range names {
		b.Write(space)
		b.WriteString("<string>" + name + "</string>")
	}
	b.Write(plist[item.end:])
	return b.Bytes()
}

// proveGuarded looks at an edit with fresh eyes: it is right, nothing but ours
// differs, and without ours it is what it was.
func proveGuarded(right string, old, edited []byte) error {
	was, err := listOf(old)
	if err != nil {
		return err
	}
	is, err := listOf(edited)
	if err != nil {
		return err
	}
	if err := inPlace(right, is.names()); err != nil {
		return err
	}
	if !slices.Equal(others(was.names()), others(is.names())) || !same(was.root, is.root, "mechanisms") || !bytes.Equal(cut(old, was), cut(edited, is)) {
		return errors.New("more than ours differs")
	}
	return nil
}

// ruleOf is what a right of class rule leads to: one rule, and where its name stands.
func ruleOf(plist []byte) (root, name *value, err error) {
	if root, err = parse(plist); err != nil {
		return nil, nil, err
	}
	if c := root.of("class"); c == nil || c.kind != "string" || c.text != "rule" {
		return nil, nil, fmt.Errorf("%w: its class is not rule", ErrUnknown)
	}
	name = root.of("rule")
	if name != nil && name.kind == "array" && len(name.items) == 1 {
		name = name.items[0]
	}
	if name == nil || name.kind != "string" {
		return nil, nil, fmt.Errorf("%w: it does not lead to one rule", ErrUnknown)
	}
	return root, name, nil
}

// point makes a right that leads to one rule lead to another one.
func point(plist []byte, from, to string) ([]byte, error) {
	was, name, err := ruleOf(plist)
	if err != nil {
		return nil, err
	}
	switch name.text {
	case to:
		return plist, nil
	case from:
	default:
		return nil, fmt.Errorf("%w: it leads to %q, another product's rule", ErrUnknown, name.text)
	}
	edited := slices.Concat(plist[:name.inner], []byte(to), plist[name.innerTo:])
	is, now, err := ruleOf(edited)
	if err != nil || now.text != to || !same(was, is, "rule") ||
		!bytes.Equal(plist, slices.Concat(edited[:now.inner], []byte(from), edited[now.innerTo:])) {
		return nil, errors.New("the edit came out wrong")
	}
	return edited, nil
}

// stamped are the keys that authd writes itself whenever a right is written, and the
// writer's own.
var stamped = []string{"created", "modified", "identifier", "requirement", "version"}

// Same says whether two definitions mean the same right to authd: it writes its own
// text, and stamps what it takes.
func Same(a, b []byte) bool {
	x, err := parse(a)
	if err != nil {
		return false
	}
	y, err := parse(b)
	return err == nil && same(x, y, stamped...)
}
