// Command sallyport-try runs one login through this computer's PAM stacks, as a
// login program would, and shows each question, notice, step and the verdict in
// plain words. It opens no session and changes nothing but what the stack's own
// modules count. It is a program of its own because it needs libpam, which the
// agent does not.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/msteinert/pam/v2"
	"github.com/spf13/pflag"
)

// The exit codes, a part of those of sallyport(1).
const (
	exitIn          = 0
	exitRefused     = 1
	exitUnavailable = 2
	exitUsage       = 5
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

type options struct {
	user    string
	service string
	confdir string
	rhost   string
	json    bool
}

func parse(args []string, stderr io.Writer) (o options, exit int) {
	flags := pflag.NewFlagSet("sallyport-try", pflag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		_, _ = fmt.Fprintf(stderr, `Usage: sallyport-try USER [flags]

Runs pam_authenticate and pam_acct_mgmt for USER and shows what happens.

%s
Exit status:
  0  let in
  1  refused
  2  refused, as a module could not reach its service: is the agent running?
  5  bad usage
`, flags.FlagUsages())
	}
	flags.StringVar(&o.service, "service", "login", "the PAM service: the `NAME` of a file in /etc/pam.d")
	flags.StringVar(&o.confdir, "confdir", "", "read the stacks from `DIR`, not from /etc/pam.d")
	flags.StringVar(&o.rhost, "rhost", "", "say that the login comes from `HOST` (PAM_RHOST)")
	flags.BoolVar(&o.json, "json", false, "print one JSON object")
	switch err := flags.Parse(args); {
	case errors.Is(err, pflag.ErrHelp):
		return o, exitIn
	case err != nil:
		_, _ = fmt.Fprintf(stderr, "sallyport-try: %v\n", err)
		return o, exitUsage
	case flags.NArg() != 1 || flags.Arg(0) == "":
		_, _ = fmt.Fprintln(stderr, "sallyport-try: say which user: sallyport-try USER [--service NAME]")
		return o, exitUsage
	}
	o.user = flags.Arg(0)
	// libpam takes the service for a file's name.
	if o.service == "" || strings.ContainsAny(o.service, "/\x00") || o.service[0] == '.' {
		_, _ = fmt.Fprintf(stderr, "sallyport-try: --service %q is not a service's name\n", o.service)
		return o, exitUsage
	}
	return o, -1
}

// message is one thing a module showed or asked.
type message struct {
	Kind string `json:"kind"` // "secret" and "visible" ask; "info" and "error" tell
	Text string `json:"text"`
}

// step is one call into libpam.
type step struct {
	Name     string  `json:"name"`
	Result   string  `json:"result"` // "PAM_SUCCESS"
	Text     string  `json:"text"`
	Seconds  float64 `json:"seconds"`        // in all
	Answered float64 `json:"person_seconds"` // of these, while the person answered
}

// report is what --json prints.
type report struct {
	User     string    `json:"user"`
	Service  string    `json:"service"`
	Verdict  string    `json:"verdict"` // "in", "refused", "unavailable"
	Text     string    `json:"text"`
	Messages []message `json:"messages"`
	Steps    []step    `json:"steps"`
}

// conversation answers the modules' questions: it implements
// pam.ConversationHandler.
type conversation struct {
	in       *bufio.Reader
	terminal *terminal // nil: read lines
	show     io.Writer
	messages []message
	waited   time.Duration // how long the person took in this step
}

var kinds = map[pam.Style]string{pam.PromptEchoOff: "secret", pam.PromptEchoOn: "visible", pam.ErrorMsg: "error", pam.TextInfo: "info"}

// RespondPAM shows one message and, where it asks, returns the answer. What was
// typed is neither shown nor kept.
func (c *conversation) RespondPAM(style pam.Style, text string) (string, error) {
	kind, ok := kinds[style]
	if !ok {
		return "", fmt.Errorf("a message of style %d", style)
	}
	c.messages = append(c.messages, message{kind, text})
	asks := style == pam.PromptEchoOff || style == pam.PromptEchoOn
	shown := strings.ReplaceAll(clean(strings.TrimSuffix(text, "\n")), "\n", "\n           ")
	if !asks {
		_, _ = fmt.Fprintf(c.show, "  %-8s %s\n", kind, shown)
		return "", nil
	}
	ask := func() {
		_, _ = fmt.Fprintf(c.show, "  asks     %s", shown)
		if !strings.HasSuffix(shown, " ") {
			_, _ = fmt.Fprint(c.show, " ")
		}
	}
	begin := time.Now()
	defer func() { c.waited += time.Since(begin) }()
	if c.terminal != nil && style == pam.PromptEchoOff {
		answer, err := c.terminal.readSecret(ask)
		_, _ = fmt.Fprintln(c.show)
		return answer, err
	}
	ask()
	answer, err := readLine(c.in)
	if c.terminal == nil {
		_, _ = fmt.Fprintln(c.show, "(answered from standard input)")
	}
	return answer, err
}

// readLine reads one line; the end of the input before any of it is no answer.
func readLine(in *bufio.Reader) (string, error) {
	line, err := in.ReadString('\n')
	if err != nil && line == "" {
		return "", errors.New("no answer on standard input")
	}
	return strings.TrimRight(line, "\r\n"), nil
}

func run(args []string, stdin *os.File, stdout, stderr io.Writer) int {
	o, exit := parse(args, stderr)
	if exit >= 0 {
		return exit
	}
	show := stdout
	if o.json {
		show = stderr
	}
	c := &conversation{in: bufio.NewReader(stdin), terminal: newTerminal(stdin), show: show}
	r := report{User: o.user, Service: o.service}
	_, _ = fmt.Fprintf(show, "PAM service %s, user %s\n", clean(o.service), clean(o.user))

	// A module may keep state by thread, or change one thread's rights.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	tx, err := start(o, c)
	if err != nil {
		r.add(show, step{Name: "start"}, err)
		return r.finish(o, stdout, c)
	}
	defer func() { _ = tx.End() }()
	for _, s := range []struct {
		name string
		call func(pam.Flags) error
	}{{"authenticate", tx.Authenticate}, {"account", tx.AcctMgmt}} {
		c.waited = 0
		begin := time.Now()
		err := s.call(0)
		r.add(show, step{Name: s.name, Seconds: time.Since(begin).Seconds(), Answered: c.waited.Seconds()}, err)
		if err != nil {
			break
		}
	}
	return r.finish(o, stdout, c)
}

func start(o options, c *conversation) (*pam.Transaction, error) {
	var tx *pam.Transaction
	var err error
	if o.confdir != "" {
		tx, err = pam.StartConfDir(o.service, o.user, c, o.confdir)
	} else {
		tx, err = pam.Start(o.service, o.user, c)
	}
	if err != nil {
		return nil, err
	}
	items := map[pam.Item]string{pam.Rhost: o.rhost}
	if c.terminal != nil {
		items[pam.Tty] = c.terminal.name
	}
	for item, value := range items {
		if value == "" {
			continue
		}
		if err := tx.SetItem(item, value); err != nil {
			_ = tx.End()
			return nil, err
		}
	}
	return tx, nil
}

func (r *report) add(show io.Writer, s step, err error) {
	s.Result = resultName(err)
	s.Text = "ok"
	if err != nil {
		s.Text = err.Error()
	}
	r.Steps = append(r.Steps, s)
	_, _ = fmt.Fprintf(show, "%-12s  %s: %s, %.3f s", s.Name, s.Result, clean(s.Text), s.Seconds)
	if s.Answered >= 0.001 {
		_, _ = fmt.Fprintf(show, " (%.3f s of them waiting for answers)", s.Answered)
	}
	_, _ = fmt.Fprintln(show)
}

func (r *report) finish(o options, stdout io.Writer, c *conversation) int {
	last := r.Steps[len(r.Steps)-1]
	exit := exitRefused
	switch {
	case len(r.Steps) == 2 && last.Result == "PAM_SUCCESS":
		exit, r.Verdict, r.Text = exitIn, "in", "this login would be let in"
	case last.Result == "PAM_AUTHINFO_UNAVAIL":
		exit, r.Verdict = exitUnavailable, "unavailable"
		r.Text = "refused: a module could not reach its service; is the agent running? sallyport status"
	default:
		r.Verdict = "refused"
		r.Text = fmt.Sprintf("refused in the step %s: %s", last.Name, explain(last.Result))
	}
	if o.json {
		r.Messages = append([]message{}, c.messages...)
		e := json.NewEncoder(stdout)
		e.SetEscapeHTML(false)
		_ = e.Encode(r)
		return exit
	}
	_, _ = fmt.Fprintf(stdout, "=> %s\n", r.Text)
	return exit
}

// results names libpam's return values and says what they mean here.
var results = map[pam.Error]struct{ name, text string }{
	pam.ErrOpen:             {"PAM_OPEN_ERR", "a module could not be loaded; is its file there?"},
	pam.ErrSymbol:           {"PAM_SYMBOL_ERR", "a module lacks a function"},
	pam.ErrService:          {"PAM_SERVICE_ERR", "a module failed; its log says why"},
	pam.ErrSystem:           {"PAM_SYSTEM_ERR", "a system error; the log says why"},
	pam.ErrBuf:              {"PAM_BUF_ERR", "out of memory"},
	pam.ErrConv:             {"PAM_CONV_ERR", "a question was not answered"},
	pam.ErrPermDenied:       {"PAM_PERM_DENIED", "permission denied, or no module of the stack decided"},
	pam.ErrMaxtries:         {"PAM_MAXTRIES", "too many tries"},
	pam.ErrAuth:             {"PAM_AUTH_ERR", "the password or the code was wrong, or the policy refuses; see: sallyport events"},
	pam.ErrNewAuthtokReqd:   {"PAM_NEW_AUTHTOK_REQD", "the password has expired and has to be changed"},
	pam.ErrCredInsufficient: {"PAM_CRED_INSUFFICIENT", "too few rights to check this user; try it as root"},
	pam.ErrAuthinfoUnavail:  {"PAM_AUTHINFO_UNAVAIL", "a module could not reach its service"},
	pam.ErrUserUnknown:      {"PAM_USER_UNKNOWN", "no such user"},
	pam.ErrCredUnavail:      {"PAM_CRED_UNAVAIL", "credentials could not be had"},
	pam.ErrCredExpired:      {"PAM_CRED_EXPIRED", "credentials have expired"},
	pam.ErrCred:             {"PAM_CRED_ERR", "credentials failed"},
	pam.ErrAcctExpired:      {"PAM_ACCT_EXPIRED", "the account has expired"},
	pam.ErrAuthtokExpired:   {"PAM_AUTHTOK_EXPIRED", "the password has expired"},
	pam.ErrSession:          {"PAM_SESSION_ERR", "the session failed"},
	pam.ErrAbort:            {"PAM_ABORT", "the stack cannot be used: is there a file for this service, and does it parse?"},
	pam.ErrModuleUnknown:    {"PAM_MODULE_UNKNOWN", "a module is not installed"},
	pam.ErrIgnore:           {"PAM_IGNORE", "no module decided"},
	pam.ErrConvAgain:        {"PAM_CONV_AGAIN", "the conversation was broken off"},
	pam.ErrIncomplete:       {"PAM_INCOMPLETE", "the conversation was broken off"},
}

func resultName(err error) string {
	if err == nil {
		return "PAM_SUCCESS"
	}
	var code pam.Error
	if !errors.As(err, &code) {
		return "PAM_SYSTEM_ERR"
	}
	if r, ok := results[code]; ok {
		return r.name
	}
	return fmt.Sprintf("PAM error %d", int(code))
}

func explain(name string) string {
	for _, r := range results {
		if r.name == name {
			return r.text + " (" + name + ")"
		}
	}
	return name
}

// clean writes control characters and bytes that are not UTF-8 out; lines stay.
func clean(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case r == '\n' || unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
		s = s[size:]
	}
	return b.String()
}
