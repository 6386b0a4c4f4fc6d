package policy

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Bounds of rules.
const (
	MaxRules    = 1000
	maxLine     = 1000 // characters
	maxName     = 64   // characters
	minRemember = time.Minute
	maxRemember = 7 * 24 * time.Hour
)

// rule is one line, ready to decide.
type rule struct {
	name   string
	effect Decision  // where it decides
	when   condition // nil: always
}

// compileRules reads the lines of policy.rules. The error names the first that is
// wrong, and its place.
func compileRules(lines []string) ([]rule, error) {
	if len(lines) > MaxRules {
		return nil, fmt.Errorf("policy.rules has %d rules; there is room for %d", len(lines), MaxRules)
	}
	rules := make([]rule, 0, len(lines))
	names := make(map[string]bool, len(lines))
	for i, line := range lines {
		r, err := compileRule(line)
		if err == nil && names[r.name] {
			err = errors.New("there is another rule of that name; the events name rules, so each has its own")
		}
		if err != nil {
			return nil, fmt.Errorf("policy.rules: rule %d, %s: %w", i+1, quoteName(line), err)
		}
		names[r.name] = true
		rules = append(rules, r)
	}
	return rules, nil
}

// quoteName is what a rule that is wrong is called in the error.
func quoteName(line string) string {
	name, _, _ := strings.Cut(line, ":")
	if runes := []rune(name); len(runes) > maxName {
		name = string(runes[:maxName]) + "..."
	}
	return strconv.Quote(name)
}

// compileRule reads one line: NAME: EFFECT when CONDITION.
func compileRule(line string) (rule, error) {
	if !utf8.ValidString(line) {
		return rule{}, errors.New("is not UTF-8")
	}
	if n := utf8.RuneCountInString(line); n > maxLine {
		return rule{}, fmt.Errorf("has %d characters; there is room for %d: make two rules of it", n, maxLine)
	}
	if i := strings.IndexFunc(line, func(r rune) bool { return !unicode.IsPrint(r) && r != '\t' }); i >= 0 {
		return rule{}, fmt.Errorf("has a character in it that cannot be shown, behind %q", line[:i])
	}
	name, rest, found := strings.Cut(line, ":")
	if !found {
		return rule{}, errors.New("has no colon; a rule is written NAME: EFFECT when CONDITION, such as 'at night: deny when hour < 6'")
	}
	if why := badName(name); why != "" {
		return rule{}, fmt.Errorf("the name %s", why)
	}
	effect, text, conditional := strings.Cut(rest, " when ")
	if !conditional && strings.HasSuffix(rest, " when") {
		return rule{}, errors.New("nothing follows \"when\"; leave it out for a rule that always holds")
	}
	r := rule{name: name}
	var err error
	if r.effect, err = parseEffect(strings.TrimSpace(effect)); err != nil {
		return rule{}, err
	}
	if conditional {
		if r.when, err = compileCondition(text); err != nil {
			return rule{}, err
		}
	}
	return r, nil
}

// badName says why a rule cannot have that name, or "".
func badName(name string) string {
	switch {
	case name == "":
		return "is missing; it comes first, before the colon"
	case utf8.RuneCountInString(name) > maxName:
		return fmt.Sprintf("has more than %d characters", maxName)
	case strings.TrimSpace(name) != name:
		return "begins or ends with a space"
	case strings.Contains(name, "\t"):
		return "has a tab in it"
	}
	return ""
}

// parseEffect reads what a rule does: skip, deny, or methods with options.
func parseEffect(text string) (Decision, error) {
	parts := strings.Split(text, ",")
	var d Decision
	switch methods := strings.TrimSpace(parts[0]); methods {
	case "":
		return d, errors.New("says nothing to do; it may say skip, deny, any, or totp, push and recovery with \"or\" between them")
	case "skip", "deny":
		if len(parts) > 1 {
			return d, fmt.Errorf("%q goes with nothing else; %q follows it", methods, strings.TrimSpace(parts[1]))
		}
		d.Effect = map[string]Effect{"skip": Skip, "deny": Deny}[methods]
	case "any":
	default:
		for method := range strings.SplitSeq(methods, " or ") {
			switch method = strings.TrimSpace(method); {
			case method == Bypass:
				return d, errors.New("a bypass from the helpdesk always counts and is not named")
			case !slices.Contains(nameable, method):
				return d, fmt.Errorf("%q is nothing to do; it may be skip, deny, any, or totp, push and recovery with \"or\" between them", method)
			case slices.Contains(d.Factors, method):
				return d, fmt.Errorf("%s is named twice", method)
			}
			d.Factors = append(d.Factors, method)
		}
	}
	for _, option := range parts[1:] {
		if err := d.option(strings.TrimSpace(option)); err != nil {
			return d, err
		}
	}
	return d, nil
}

// nameable are the factors that a rule can name.
var nameable = []string{TOTP, Push, Recovery}

// option reads "number 3" or "remember 15m".
func (d *Decision) option(text string) error {
	key, value, _ := strings.Cut(text, " ")
	value = strings.TrimSpace(value)
	switch key {
	case "number":
		n, err := strconv.Atoi(value)
		switch {
		case d.Digits != 0:
			return errors.New("number is there twice")
		case d.Factors != nil && !slices.Contains(d.Factors, Push):
			return errors.New("number is the one that is typed on the phone, and push is not named")
		case err != nil || n < 2 || n > 6:
			return fmt.Errorf("number is %q; it must be 2 to 6, the digits that are typed on the phone", value)
		}
		d.Digits = n
	case "remember":
		t, err := time.ParseDuration(value)
		switch {
		case d.Remember != 0:
			return errors.New("remember is there twice")
		case err != nil || t < minRemember || t > maxRemember:
			return fmt.Errorf("remember is %q; it must be 1m to 168h, written as 15m or 8h", value)
		}
		d.Remember = t
	default:
		return fmt.Errorf("%q is not known behind the factors; there may be number 2 to 6, and remember with a time such as 15m", text)
	}
	return nil
}
