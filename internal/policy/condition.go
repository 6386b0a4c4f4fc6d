package policy

import (
	"fmt"
	"net/netip"
	"regexp/syntax"
	"strconv"
	"strings"
	"sync"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/env"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// condition is what follows "when" in a rule: CEL (https://cel.dev), cut down to what
// needs no loop and is the same on every computer. There are no comprehensions, no
// arithmetic and no time zones, and a pattern is written in the rule, so a condition
// costs as much as its line is long.
type condition struct{ program cel.Program }

// Functions of conditions that are not the language's own.
const (
	withinFunction  = "@within" // what remote.within becomes; no text can name it
	atLeastFunction = "atLeast"
)

var (
	groupsType  = types.NewObjectType("groups", traits.ContainerType)
	addressType = types.NewOpaqueType("address")
)

// language is the environment that all conditions share. It takes a megabyte, so it
// is made when there is a first rule.
var language = sync.OnceValues(func() (*cel.Env, error) {
	functions := &env.LibrarySubset{DisableMacros: true}
	for _, name := range []string{operators.Conditional, operators.LogicalAnd, operators.LogicalOr, operators.LogicalNot, operators.Equals, operators.NotEquals,
		operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals, overloads.StartsWith, overloads.EndsWith, overloads.Contains} {
		functions.AddIncludedFunctions(env.NewFunction(name))
	}
	for name, overload := range map[string]string{operators.In: overloads.InList, overloads.Matches: overloads.MatchesString,
		overloads.TypeConvertDuration: overloads.StringToDuration, overloads.TypeConvertTimestamp: overloads.StringToTimestamp} {
		functions.AddIncludedFunctions(env.NewFunction(name, env.NewOverload(overload, nil, nil)))
	}
	options := []cel.EnvOption{
		cel.StdLib(cel.StdLibSubset(functions)),
		cel.Macros(cel.ReceiverVarArgMacro("within", expandWithin)),
		cel.Function(operators.In, cel.Overload("in_groups", []*cel.Type{cel.StringType, groupsType}, cel.BoolType)),
		cel.Function(withinFunction, cel.Overload("address_within", []*cel.Type{addressType, cel.ListType(cel.StringType)}, cel.BoolType, cel.BinaryBinding(within))),
		cel.Function(atLeastFunction, cel.MemberOverload("version_at_least", []*cel.Type{cel.StringType, cel.StringType}, cel.BoolType, cel.BinaryBinding(atLeast))),
		cel.ParserRecursionLimit(50),
		cel.ParserExpressionSizeLimit(maxLine),
	}
	for _, v := range variables {
		options = append(options, cel.Variable(v.name, v.kind))
	}
	return cel.NewCustomEnv(options...)
})

func compileCondition(text string) (*condition, error) {
	e, err := language()
	if err != nil {
		return nil, err // ours: a programming error
	}
	tree, issues := e.Compile(text)
	if issues.Err() != nil {
		return nil, explainIssue(text, issues.Errors()[0])
	}
	if tree.OutputType() != cel.BoolType {
		return nil, fmt.Errorf("the condition is a %s; it must be true or false, such as user == \"alice\"", tree.OutputType())
	}
	native := tree.NativeRep()
	check := &literals{}
	ast.PreOrderVisit(native.Expr(), check)
	if check.wrong != "" {
		return nil, at(text, native.SourceInfo().GetStartLocation(check.id), check.wrong)
	}
	program, err := e.Program(tree, cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		return nil, err
	}
	return &condition{program}, nil
}

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
func (c *condition) eval(f *facts) (t truth, why string) {
	v, _, err := c.program.Eval(f)
	switch {
	case err != nil:
		return failed, err.Error()
	case types.IsUnknown(v):
		return hangs, ""
	case v == types.True:
		return yes, ""
	case v == types.False:
		return no, ""
	}
	return failed, "neither true nor false" // the compiler has seen to it
}

// explainIssue says what is wrong in words of rules.
func explainIssue(text string, issue *common.Error) error {
	message, _, _ := strings.Cut(issue.Message, "\n")
	switch {
	case strings.HasPrefix(message, "undeclared reference to"):
		message = strings.NewReplacer("undeclared reference to", "there is no", " (in container '')", "", "'_", "'", "_'", "'").Replace(message) + "; docs/policy.md lists what there is, and texts are in quotes"
	case strings.HasPrefix(message, "found no matching overload for"):
		message = "what is compared does not fit together: " + message
	case strings.HasPrefix(message, "Syntax error"):
		message += "; equal is written ==, and is &&, or is ||"
	}
	return at(text, issue.Location, message)
}

// at names a place in a condition: what is wrong, and the text from there on.
func at(text string, place common.Location, wrong string) error {
	before, rest := text, ""
	if runes := []rune(text); place.Column() >= 0 && place.Column() <= len(runes) && place.Line() <= 1 {
		before, rest = string(runes[:place.Column()]), string(runes[place.Column():])
	}
	return fmt.Errorf("%s: when %s>>>%s", wrong, before, rest)
}

// literals checks what has to be written in the rule itself: names of groups,
// networks, versions, patterns and times. So nothing is wrong with them later, when
// somebody wants in, and no pattern comes from outside.
type literals struct {
	id    int64
	wrong string
}

// VisitEntryExpr implements ast.Visitor.
func (*literals) VisitEntryExpr(ast.EntryExpr) {}

// VisitExpr implements ast.Visitor.
func (l *literals) VisitExpr(e ast.Expr) {
	if e.Kind() != ast.CallKind || l.wrong != "" {
		return
	}
	call := e.AsCall()
	args := call.Args()
	check := func(arg ast.Expr, bad func(string) string) {
		text, ok := literal(arg)
		why := "has to be written here, in quotes"
		if ok {
			why = bad(text)
		}
		if why != "" && l.wrong == "" {
			l.id, l.wrong = arg.ID(), why
		}
	}
	switch call.FunctionName() {
	case operators.In:
		if args[1].Kind() == ast.IdentKind && args[1].AsIdent() == groupsVariable {
			check(args[0], badGroup)
		}
	case withinFunction:
		for _, network := range args[1].AsList().Elements() {
			check(network, func(text string) string {
				if _, err := parseRange(text); err != nil {
					return fmt.Sprintf("%q is not an address or a range such as 192.0.2.0/24", text)
				}
				return ""
			})
		}
	case atLeastFunction:
		check(args[0], func(text string) string {
			if _, ok := version(text); !ok {
				return fmt.Sprintf("%q is not a version such as 12.4", text)
			}
			return ""
		})
	case overloads.Matches:
		check(args[0], badPattern)
	case overloads.TypeConvertDuration:
		check(args[0], func(text string) string {
			if _, err := time.ParseDuration(text); err != nil {
				return fmt.Sprintf("%q is not a time such as 8h or 90m", text)
			}
			return ""
		})
	case overloads.TypeConvertTimestamp:
		check(args[0], func(text string) string {
			if _, err := time.Parse(time.RFC3339, text); err != nil {
				return fmt.Sprintf("%q is not a moment such as 2026-12-24T12:00:00Z", text)
			}
			return ""
		})
	}
}

func literal(e ast.Expr) (string, bool) {
	if e.Kind() != ast.LiteralKind {
		return "", false
	}
	text, ok := e.AsLiteral().(types.String)
	return string(text), ok
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

func badPattern(text string) string {
	parsed, err := syntax.Parse(text, syntax.Perl)
	if err == nil {
		var program *syntax.Prog
		if program, err = syntax.Compile(parsed.Simplify()); err == nil && len(program.Inst) > maxPattern {
			return "the pattern is too large; say it in several rules"
		}
	}
	if err != nil {
		return fmt.Sprintf("%q is not a pattern: %v", text, err)
	}
	return ""
}

// expandWithin makes remote.within("a", "b") a call with the address and a list.
func expandWithin(f cel.MacroExprFactory, target ast.Expr, args []ast.Expr) (ast.Expr, *cel.Error) {
	switch {
	case target.Kind() != ast.IdentKind || target.AsIdent() != "remote":
		return nil, f.NewError(target.ID(), "within is for remote: remote.within(\"192.0.2.0/24\")")
	case len(args) == 0:
		return nil, f.NewError(target.ID(), "within names no network, such as remote.within(\"192.0.2.0/24\")")
	}
	return f.NewCall(withinFunction, f.NewIdent(addressVariable), f.NewList(args...)), nil
}

// address is where a login comes from, as conditions see it.
type address struct {
	opaque
	netip.Addr // the zero Addr: at the computer itself
}

func within(from, networks ref.Val) ref.Val {
	addr, list := from.(address), networks.(traits.Lister)
	if !addr.IsValid() {
		return types.False
	}
	for i := types.Int(0); i < list.Size().(types.Int); i++ {
		text, _ := list.Get(i).(types.String)
		if p, err := parseRange(string(text)); err == nil && contains(p, addr.Addr) {
			return types.True
		}
	}
	return types.False
}

// atLeast compares versions number by number: 12.10 is after 12.9, and 12 is 12.0.
func atLeast(have, want ref.Val) ref.Val {
	a, ok := version(string(have.(types.String)))
	b, _ := version(string(want.(types.String)))
	if !ok {
		return types.NewErr("the version %q cannot be compared", have)
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
			return types.Bool(x > y)
		}
	}
	return types.True
}

// version reads numbers with dots between them.
func version(text string) (numbers []int, ok bool) {
	for part := range strings.SplitSeq(text, ".") {
		n, err := strconv.ParseUint(part, 10, 31)
		if err != nil {
			return nil, false
		}
		numbers = append(numbers, int(n))
	}
	return numbers, true
}
