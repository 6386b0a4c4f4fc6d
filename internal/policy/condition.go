package policy

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// A condition is what follows "when" in a rule: CEL (https://cel.dev, and its
// specification at https://github.com/google/cel-spec), cut down to what needs no
// loop and is the same on every computer. There is no arithmetic, there are no
// comprehensions and no time zones, and patterns, networks, groups and times are
// written in the rule, so a condition costs as much as its line is long.
//
// It is our own, since cel-go alone takes more memory than the agent may have:
// docs/adr/2026-11-22-policy-rules.md. Whatever is a condition here is one in cel-go
// and comes to the same there; TestAsInCEL holds them against each other.
type condition func(*facts) value

// kind is what a value is.
type kind int

// The kinds of values. The first two are none: something that it needs is not known,
// or hangs on what a program says that is not root's.
const (
	notKnown kind = iota
	hanging
	boolean
	number
	text
	duration
	timestamp
	list // of texts or numbers; only behind "in"
	set  // groups, which are asked about one at a time; only behind "in"
)

func (k kind) String() string {
	return [...]string{"nothing", "nothing", "true or false", "number", "text", "duration", "timestamp", "list", "set of groups"}[k]
}

// value is what a condition or a part of it comes to.
type value struct {
	kind kind
	n    int64  // of a number; 1 for true; nanoseconds
	s    string // the text; or why it is not known
}

func textOf(s string) value { return value{kind: text, s: s} }

func boolOf(b bool) value {
	if b {
		return value{kind: boolean, n: 1}
	}
	return value{kind: boolean}
}

func fails(format string, args ...any) value {
	return value{kind: notKnown, s: fmt.Sprintf(format, args...)}
}

func (v value) known() bool    { return v.kind > hanging }
func (v value) is(b bool) bool { return v == boolOf(b) }

// truth is what a condition comes to.
type truth int

// In the order of how much a rule that asks then asks.
const (
	no     truth = iota
	hangs        // on what a program says that is not root's
	failed       // something that it needs is not known
	yes
)

// eval evaluates a condition; why says why it failed.
func (c condition) eval(f *facts) (t truth, why string) {
	switch v := c(f); {
	case v.kind == notKnown:
		return failed, v.s
	case v.kind == hanging:
		return hangs, ""
	case v.is(true):
		return yes, ""
	}
	return no, ""
}

// compileCondition reads a condition. The error says where it is wrong.
func compileCondition(source string) (condition, error) {
	p := &parser{source: source}
	p.next()
	e := p.conditional()
	switch {
	case p.wrong != nil:
	case p.token != "":
		p.fail(p.start, "%q is not expected here; and is written &&, or is ||, equal is ==", p.token)
	case e.kind != boolean:
		p.fail(e.start, "the condition is a %s; it has to be true or false, such as user == \"alice\"", e.kind)
	}
	return e.eval, p.wrong
}

// expression is a part of a condition that was read.
type expression struct {
	eval     condition // nil: of a list or a set
	kind     kind
	of       kind // of a list: what it has in it
	elements []condition
	start    int
	// literal: it is written in the rule itself; constant is its value.
	literal  bool
	constant value
	name     string // of a variable
}

// maxDepth bounds how deep parentheses go.
const maxDepth = 50

// parser reads a condition from left to right, one function for each level of the
// grammar in the specification of CEL, and puts it together at once.
type parser struct {
	source     string
	start, end int    // of the token
	token      string // "" at the end; a text with its quotes
	value      string // of a text
	depth      int
	wrong      error // the first thing that is wrong; from then on the token is ""
}

func (p *parser) fail(at int, format string, args ...any) expression {
	if p.wrong == nil {
		p.wrong = fmt.Errorf("%s: when %s>>>%s", fmt.Sprintf(format, args...), p.source[:at], p.source[at:])
		p.token, p.end = "", len(p.source)
	}
	return expression{eval: func(*facts) value { return fails("the rule cannot be read") }, kind: boolean}
}

// next goes to the next token: an operator, a name, a number, or a text.
func (p *parser) next() {
	if p.wrong != nil {
		return
	}
	for p.end < len(p.source) && (p.source[p.end] == ' ' || p.source[p.end] == '\t') {
		p.end++
	}
	p.start = p.end
	rest := p.source[p.start:]
	if rest == "" {
		p.token = ""
		return
	}
	length := 1
	switch c := rest[0]; {
	case strings.IndexByte("\"'", c) >= 0:
		length = p.text(rest, c, false)
	case c|0x20 == 'r' && len(rest) > 1 && strings.IndexByte("\"'", rest[1]) >= 0:
		length = 1 + p.text(rest[1:], rest[1], true)
	case isName(c): // and numbers
		for length < len(rest) && isName(rest[length]) {
			length++
		}
	case len(rest) > 1 && slices.Contains(operators, rest[:2]):
		length = 2
	case strings.IndexByte("-+*/%!<>?:.,()[]", c) < 0:
		p.fail(p.start, "%q is not expected here; and is written &&, or is ||, equal is ==", string([]rune(rest)[0]))
		return
	}
	if p.wrong == nil {
		p.end = p.start + length
		p.token = p.source[p.start:p.end]
	}
}

// operators are those of two characters.
var operators = []string{"||", "&&", "==", "!=", "<=", ">="}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
func isName(c byte) bool  { return c|0x20 >= 'a' && c|0x20 <= 'z' || c == '_' || isDigit(c) }

// text reads a text in quotes, and returns how long it is.
func (p *parser) text(rest string, quote byte, raw bool) int {
	for i := 1; i < len(rest); i++ {
		switch {
		case rest[i] == '\\' && raw && i+1 < len(rest) && rest[i+1] == quote:
			p.fail(p.start+i, "a raw text cannot have its quote in it")
			return 0
		case rest[i] == '\\' && !raw:
			i++
		case rest[i] == quote:
			var ok bool
			if p.value, ok = rest[1:i], true; !raw {
				p.value, ok = unescape(rest[1:i])
				// "CORP\nora" has the end of a line in it, which nobody meant.
				ok = ok && !strings.ContainsFunc(p.value, unicode.IsControl)
			}
			if !ok {
				p.fail(p.start, "a backslash in a text is written \\\\; what follows it here means nothing")
			}
			return i + 1
		}
	}
	p.fail(p.start, "the text has no end")
	return 0
}

// unescape reads the escapes that CEL and Go have in common, and CEL's own.
func unescape(s string) (string, bool) {
	var b strings.Builder
	for s != "" {
		if len(s) > 1 && s[0] == '\\' && strings.IndexByte("\"'`?", s[1]) >= 0 {
			b.WriteByte(s[1])
			s = s[2:]
			continue
		}
		if strings.HasPrefix(s, `\x`) || len(s) > 1 && s[0] == '\\' && s[1] >= '0' && s[1] <= '7' {
			return "", false // bytes in Go, characters in CEL
		}
		r, _, rest, err := strconv.UnquoteChar(s, 0)
		if err != nil {
			return "", false
		}
		b.WriteRune(r)
		s = rest
	}
	return b.String(), true
}

// accept goes past a token if it is the next.
func (p *parser) accept(token string) bool {
	if p.token != token {
		return false
	}
	p.next()
	return true
}

func (p *parser) expect(token string) {
	if !p.accept(token) {
		p.fail(p.start, "%s is missing", token)
	}
}

// want complains about what is not of a kind.
func (p *parser) want(e expression, k kind) {
	if e.kind != k {
		p.fail(e.start, "this is a %s, and has to be %s", e.kind, k)
	}
}

// conditional is C ? A : B.
func (p *parser) conditional() expression {
	if p.depth++; p.depth > maxDepth {
		return p.fail(p.start, "the parentheses are too deep")
	}
	defer func() { p.depth-- }()
	e := p.or()
	if p.token != "?" {
		return e
	}
	p.want(e, boolean)
	p.next()
	a := p.or()
	p.expect(":")
	b := p.conditional()
	p.want(b, a.kind)
	if a.kind > timestamp {
		return p.fail(a.start, "a %s goes behind \"in\" alone", a.kind)
	}
	when, then, otherwise := e.eval, a.eval, b.eval
	return expression{start: e.start, kind: a.kind, eval: func(f *facts) value {
		switch v := when(f); {
		case !v.known():
			return v
		case v.is(true):
			return then(f)
		}
		return otherwise(f)
	}}
}

func (p *parser) or() expression  { return p.logical("||", true, p.and) }
func (p *parser) and() expression { return p.logical("&&", false, p.relation) }

// logical is && and ||. One side may decide whatever the other is, also when that is
// not known; the right one is not looked at where the left one decides.
func (p *parser) logical(op string, decides bool, operand func() expression) expression {
	e := operand()
	for p.token == op {
		p.want(e, boolean)
		p.next()
		right := operand()
		p.want(right, boolean)
		a, b := e.eval, right.eval
		e = expression{start: e.start, kind: boolean, eval: func(f *facts) value {
			left := a(f)
			if left.is(decides) {
				return left
			}
			right := b(f)
			switch {
			case right.is(decides) || left.known():
				return right
			case right.kind == hanging:
				return right
			}
			return left
		}}
	}
	return e
}

// relation is what compares.
func (p *parser) relation() expression {
	e := p.unary()
	for {
		op, start := p.token, p.start
		switch op {
		case "==", "!=", "<", "<=", ">", ">=":
			p.next()
			e = p.compare(e, op, start, p.unary())
		case "in":
			p.next()
			e = p.in(e, start, p.unary())
		case "+", "-", "*", "/", "%", "[":
			return p.fail(start, "there is no reckoning in conditions")
		default:
			return e
		}
	}
}

func (p *parser) compare(a expression, op string, at int, b expression) expression {
	if a.kind != b.kind || a.kind > timestamp {
		return p.fail(at, "a %s and a %s cannot be compared", a.kind, b.kind)
	}
	left, right := a.eval, b.eval
	return expression{start: a.start, kind: boolean, eval: func(f *facts) value {
		x, y, why := both(f, left, right)
		if !why.is(true) {
			return why
		}
		order := strings.Compare(x.s, y.s)
		switch {
		case x.n < y.n:
			order = -1
		case x.n > y.n:
			order = 1
		}
		switch op {
		case "==":
			return boolOf(order == 0)
		case "!=":
			return boolOf(order != 0)
		case "<":
			return boolOf(order < 0)
		case "<=":
			return boolOf(order <= 0)
		case ">":
			return boolOf(order > 0)
		}
		return boolOf(order >= 0)
	}}
}

// both evaluates two sides; known is true, or what is not known of them.
func both(f *facts, left, right condition) (x, y, known value) {
	if x = left(f); !x.known() {
		return x, y, x
	}
	if y = right(f); !y.known() {
		return x, y, y
	}
	return x, y, boolOf(true)
}

// in is "name" in groups, or user in ["a", "b"].
func (p *parser) in(a expression, at int, b expression) expression {
	if b.kind == set {
		group := p.written(a, badGroup)
		return expression{start: a.start, kind: boolean, eval: func(f *facts) value { return f.inGroup(group) }}
	}
	if b.kind != list || a.kind != b.of {
		return p.fail(at, "a %s cannot be in a %s here; behind \"in\" comes groups, or a list such as [\"a\", \"b\"] of the same", a.kind, b.kind)
	}
	left, elements := a.eval, b.elements
	return expression{start: a.start, kind: boolean, eval: func(f *facts) value {
		x := left(f)
		if !x.known() {
			return x
		}
		found := false
		for _, element := range elements {
			y := element(f)
			if !y.known() {
				return y
			}
			found = found || x == y
		}
		return boolOf(found)
	}}
}

func (p *parser) unary() expression {
	start := p.start
	switch {
	case p.accept("!"):
		if p.depth++; p.depth > maxDepth {
			return p.fail(start, "there are too many !")
		}
		e := p.unary()
		p.depth--
		p.want(e, boolean)
		eval := e.eval
		return expression{start: start, kind: boolean, eval: func(f *facts) value {
			v := eval(f)
			if v.known() {
				return boolOf(v.n == 0)
			}
			return v
		}}
	case p.token == "-":
		p.next()
		return p.integer(start, "-")
	}
	return p.member()
}

// member is a value, and what is asked of it: user.startsWith("svc-").
func (p *parser) member() expression {
	e := p.primary()
	for p.token == "." {
		p.next()
		at, method := p.start, p.token
		p.next()
		if p.token != "(" {
			return p.fail(at, "there is no %q", e.name+"."+method)
		}
		p.next()
		e = p.call(e, at, method, p.arguments(")"))
	}
	return e
}

// arguments are expressions with commas between them, up to a token.
func (p *parser) arguments(end string) (list []expression) {
	for !p.accept(end) {
		if len(list) > 0 {
			p.expect(",")
		}
		if p.wrong != nil {
			return nil
		}
		list = append(list, p.conditional())
	}
	return list
}

// primary is a literal, a variable, a list, or something in parentheses.
func (p *parser) primary() expression {
	start, token := p.start, p.token
	switch {
	case token == "":
		return p.fail(start, "something is missing here")
	case p.accept("("):
		e := p.conditional()
		p.expect(")")
		e.start, e.name = start, ""
		return e
	case p.accept("["):
		return p.list(start, p.arguments("]"))
	case token == "true" || token == "false":
		p.next()
		return constant(start, boolOf(token == "true"))
	case isDigit(token[0]):
		return p.integer(start, "")
	case strings.IndexByte("\"'", token[len(token)-1]) >= 0:
		v := textOf(p.value)
		p.next()
		return constant(start, v)
	case isName(token[0]):
		p.next()
		if p.accept("(") {
			return p.function(start, token, p.arguments(")"))
		}
		return p.variable(start, token)
	}
	return p.fail(start, "%q is not expected here", token)
}

func constant(start int, v value) expression {
	return expression{start: start, kind: v.kind, literal: true, constant: v, eval: func(*facts) value { return v }}
}

func (p *parser) integer(start int, sign string) expression {
	digits, base := p.token, 10
	if hex, ok := strings.CutPrefix(digits, "0x"); ok {
		digits, base = hex, 16
	}
	n, err := strconv.ParseInt(sign+digits, base, 64)
	if err != nil || strings.HasPrefix(digits, "-") {
		return p.fail(start, "%q is not a number", sign+p.token)
	}
	p.next()
	return constant(start, value{kind: number, n: n})
}

// variable is a name, with dots in it: device.os_version.
func (p *parser) variable(start int, name string) expression {
	for {
		if name == "groups" {
			return expression{start: start, kind: set}
		}
		if v := variableNamed(name); v != nil {
			return expression{start: start, kind: v.kind, name: name, eval: func(f *facts) value { return f.look(v) }}
		}
		if p.token != "." {
			return p.fail(start, "there is no %q; docs/policy.md lists what there is, and texts are in quotes", name)
		}
		p.next()
		name += "." + p.token
		p.next()
	}
}

// list goes behind "in".
func (p *parser) list(start int, elements []expression) expression {
	if p.wrong != nil || len(elements) == 0 {
		return p.fail(start, "the list is empty")
	}
	l := expression{start: start, kind: list, of: elements[0].kind}
	for _, e := range elements {
		if e.kind != l.of || e.kind != text && e.kind != number {
			return p.fail(e.start, "a list has texts in it, or numbers; this is a %s", e.kind)
		}
		l.elements = append(l.elements, e.eval)
	}
	return l
}

// written returns a text that has to be in the rule itself. So nothing is wrong with
// it later, when somebody wants in, and no pattern comes from outside.
func (p *parser) written(e expression, bad func(string) string) string {
	if !e.literal || e.kind != text {
		p.fail(e.start, "this has to be written here, in quotes")
	} else if why := bad(e.constant.s); why != "" {
		p.fail(e.start, "%s", why)
	}
	return e.constant.s
}

// function is duration("8h") or timestamp("2026-12-24T12:00:00Z").
func (p *parser) function(start int, name string, args []expression) expression {
	if name != "duration" && name != "timestamp" || len(args) != 1 {
		return p.fail(start, "there is no %s with %d arguments; there are duration(\"8h\") and timestamp(\"2026-12-24T12:00:00Z\")", name, len(args))
	}
	v := value{kind: duration}
	p.written(args[0], func(s string) string {
		if name == "duration" {
			d, err := time.ParseDuration(s)
			if v.n = int64(d); err != nil {
				return fmt.Sprintf("%q is not a time such as 8h or 90m", s)
			}
			return ""
		}
		at, err := time.Parse(time.RFC3339, s)
		if v = moment(at); err != nil || at.Year() < 1700 || at.Year() > 2200 { // what nanoseconds have room for
			return fmt.Sprintf("%q is not a moment such as 2026-12-24T12:00:00Z", s)
		}
		return ""
	})
	return constant(start, v)
}

func moment(t time.Time) value { return value{kind: timestamp, n: t.UnixNano()} }

// call is a method.
func (p *parser) call(e expression, at int, method string, args []expression) expression {
	if p.wrong != nil {
		return e
	}
	if method == "within" {
		return p.within(e, at, args)
	}
	if e.kind != text || len(args) != 1 {
		return p.fail(at, "there is no %s of a %s with %d arguments", method, e.kind, len(args))
	}
	var test func(s, arg string) value
	switch method {
	case "startsWith":
		test = func(s, prefix string) value { return boolOf(strings.HasPrefix(s, prefix)) }
	case "endsWith":
		test = func(s, suffix string) value { return boolOf(strings.HasSuffix(s, suffix)) }
	case "contains":
		test = func(s, part string) value { return boolOf(strings.Contains(s, part)) }
	case "matches":
		pattern, err := regexp.Compile(p.written(args[0], badPattern))
		if err != nil {
			return p.fail(args[0].start, "%v", err)
		}
		test = func(s, _ string) value { return boolOf(pattern.MatchString(s)) }
	case "atLeast":
		p.written(args[0], func(s string) string {
			if _, ok := version(s); !ok {
				return fmt.Sprintf("%q is not a version such as 12.4", s)
			}
			return ""
		})
		test = atLeast
	default:
		return p.fail(at, "there is no %q; a text has startsWith, endsWith, contains, matches and atLeast", method)
	}
	p.want(args[0], text)
	target, arg := e.eval, args[0].eval
	return expression{start: e.start, kind: boolean, eval: func(f *facts) value {
		x, y, why := both(f, target, arg)
		if !why.is(true) {
			return why
		}
		return test(x.s, y.s)
	}}
}

// within is remote.within("192.0.2.0/24", "2001:db8::/32").
func (p *parser) within(e expression, at int, args []expression) expression {
	if e.name != "remote" || len(args) == 0 {
		return p.fail(at, "within is for remote and names networks: remote.within(\"192.0.2.0/24\")")
	}
	var in networks
	for _, arg := range args {
		p.written(arg, func(s string) string {
			network, err := parseRange(s)
			if err != nil {
				return fmt.Sprintf("%q is not an address or a range such as 192.0.2.0/24", s)
			}
			in = append(in, network)
			return ""
		})
	}
	return expression{start: e.start, kind: boolean, eval: func(f *facts) value { return f.within(in) }}
}

func badGroup(name string) string {
	if why := notAName(name, true); why != "" {
		return fmt.Sprintf("the group %q %s", name, why)
	}
	if err := logonGroup(name); err != nil {
		return err.Error()
	}
	return ""
}

// maxPattern bounds a pattern, in instructions of regexp/syntax.
const maxPattern = 500

func badPattern(s string) string {
	parsed, err := syntax.Parse(s, syntax.Perl)
	if err != nil {
		return fmt.Sprintf("%q is not a pattern: %v", s, err)
	}
	if program, err := syntax.Compile(parsed.Simplify()); err != nil || len(program.Inst) > maxPattern {
		return "the pattern is too large; say it in several rules"
	}
	return ""
}

// atLeast compares versions number by number: 12.10 is after 12.9, and 12 is 12.0.
func atLeast(have, want string) value {
	a, ok := version(have)
	b, _ := version(want)
	if !ok {
		return fails("the version %q cannot be compared", have)
	}
	for i := range max(len(a), len(b)) {
		var x, y int
		if i < len(a) {
			x = a[i]
		}
		if i < len(b) {
			y = b[i]
		}
		if x != y {
			return boolOf(x > y)
		}
	}
	return boolOf(true)
}

// version reads numbers with dots between them.
func version(s string) (numbers []int, ok bool) {
	for part := range strings.SplitSeq(s, ".") {
		n, err := strconv.ParseUint(part, 10, 31)
		if err != nil {
			return nil, false
		}
		numbers = append(numbers, int(n))
	}
	return numbers, true
}
