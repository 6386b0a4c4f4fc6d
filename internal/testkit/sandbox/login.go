//go:build linux

package sandbox

import (
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Answer is one line of a login's script: the prompt to wait for and what the
// person types at it.
type Answer struct {
	Prompt *regexp.Regexp
	Text   string
	// Act is what the person does on seeing the prompt, whose match and groups it
	// is given; they then type what it returns. Nil: they type Text.
	Act func(shown []string) (string, error)
}

// What the real programs ask with. Each matches only at the end of what is
// shown: the cursor stands behind a prompt.
var (
	PasswordPrompt = regexp.MustCompile(`(?i)password(?: for [^:\n]*)?: ?$`)
	// CodePrompt is any other question.
	CodePrompt = regexp.MustCompile(`(?i)(?:code|one-time password)[^\n]*[:?>] ?$`)
)

// PushPrompt is the question that shows a number for the phone; its group is the
// number.
var PushPrompt = regexp.MustCompile(`(?is)type (\d{2,6}) on your phone.*code[^\n]*: ?$`)

// Push is what a person does who has a phone to approve with: act, on the number
// shown, and then press Enter.
func Push(act func(number string) error) Answer {
	return Answer{Prompt: PushPrompt, Act: func(shown []string) (string, error) { return "", act(shown[1]) }}
}

// Password answers a password prompt.
func Password(text string) Answer { return Answer{Prompt: PasswordPrompt, Text: text} }

// Code answers a prompt for a one-time, recovery or bypass code.
func Code(text string) Answer { return Answer{Prompt: CodePrompt, Text: text} }

// Result is how a login ended.
type Result struct {
	In     bool   // a command ran in the session
	As     string // as whom it ran
	Status int    // the program's exit status; -1 when it had to be ended
	Screen string // all that the person saw
	Unused int    // answers for which no prompt came
}

// Session is a login through one of the system's own programs.
type Session struct {
	cmd     *exec.Cmd
	refused *regexp.Regexp // what the program says when it lets nobody in
	shell   *regexp.Regexp // the prompt of an interactive shell; nil: the program runs the command itself
}

// proof is run in the session that was let in. What the terminal echoes of it
// does not look like its output.
const proof = `echo "in""side: $(id -un)"`

var (
	insidePattern = regexp.MustCompile(`inside: ([^\r\n]+)\r?\n`)
	anyPrompt     = regexp.MustCompile(`(?i)(?:password|code)[^\n]*[:?>] ?$`)
)

// loginTimeout bounds one step of a login: pam_unix takes 2 s to refuse, and
// this machine may be busy.
const loginTimeout = time.Minute

// SSH is a login by the OpenSSH client, run as root, to this server. Options are
// those of ssh_config(5), and win over what is set here.
func (s *SSHD) SSH(name string, options ...string) *Session {
	args := []string{"-F", "none", "-tt", "-p", strconv.Itoa(s.Port), "-l", name}
	for _, option := range append(options,
		"UserKnownHostsFile="+s.knownHosts(), "StrictHostKeyChecking=yes",
		"PreferredAuthentications=publickey,keyboard-interactive,password",
		"NumberOfPasswordPrompts=1", "IdentityAgent=none", "LogLevel=ERROR") {
		args = append(args, "-o", option)
	}
	cmd := exec.Command("ssh", append(args, "127.0.0.1", proof)...)
	return &Session{cmd: cmd, refused: regexp.MustCompile(`Permission denied|Connection closed|Connection reset|Too many authentication failures`)}
}

// Sudo runs a command as root by sudo, started by u, who must type their
// password (and whatever else PAM asks) anew.
func Sudo(u User) *Session {
	return &Session{
		cmd:     as(u, "sudo", "--reset-timestamp", "--", "/bin/sh", "-c", proof),
		refused: regexp.MustCompile(`sudo: \S+ incorrect password attempt|sudo: .*(?:[Aa]uthentication|[Aa]ccount|PAM)|is not allowed|not in the sudoers file`),
	}
}

// Su runs a command as target by su, started by u.
func Su(u User, target string) *Session {
	return &Session{
		cmd:     as(u, "su", "--command", proof, target),
		refused: regexp.MustCompile(`su: .+`),
	}
}

// Login logs name in by login(1), as telnetd or a serial console does; host is
// the remote host login is told ("" for a local login).
func Login(name, host string) *Session {
	var args []string
	if host != "" {
		args = []string{"-h", host}
	}
	return &Session{
		cmd:     exec.Command("login", append(args, name)...),
		refused: regexp.MustCompile(`Login incorrect|Authentication failure|Permission denied|Account|Cannot|Authentication service cannot`),
		shell:   regexp.MustCompile(`[$#] $`),
	}
}

func as(u User, name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = u.Home
	cmd.Env = []string{"HOME=" + u.Home, "USER=" + u.Name, "LOGNAME=" + u.Name, "SHELL=/bin/sh", "PATH=/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL=C.UTF-8"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: u.UID, Gid: u.GID}}
	return cmd
}

// Start begins the login on a terminal of its own, for whoever gives no script.
func (s *Session) Start() (*Terminal, error) { return Start(s.cmd) }

// Run logs in: it gives the answers in their order, each when its prompt shows,
// and says how it ended. A prompt that no answer is left for ends the login and
// is an error, as is a program that falls silent; being refused is neither.
func (s *Session) Run(answers ...Answer) (Result, error) {
	t, err := Start(s.cmd)
	if err != nil {
		return Result{}, err
	}
	defer t.Close()
	result := Result{Status: -1, Unused: len(answers)}
	fail := func(format string, args ...any) (Result, error) {
		result.Screen = t.Screen()
		return result, fmt.Errorf("sandbox: %s: "+format+"; the screen:\n%s",
			append(append([]any{s.cmd.Args[0]}, args...), result.Screen)...)
	}
	never := regexp.MustCompile(`[^\s\S]`)
	for {
		prompt, shell := anyPrompt, never
		if result.Unused > 0 {
			prompt = answers[len(answers)-result.Unused].Prompt
		}
		if s.shell != nil {
			shell = s.shell
		}
		which, groups, err := t.Expect(loginTimeout, insidePattern, s.refused, prompt, shell)
		switch {
		case errors.Is(err, ErrEnded):
			return s.ended(t, result)
		case err != nil:
			return fail("%w", err)
		case which == 0:
			result.In, result.As = true, groups[1]
			if s.shell != nil {
				if err := t.Send("exit"); err != nil {
					return fail("%w", err)
				}
			}
			return s.ended(t, result)
		case which == 1:
			if s.shell != nil { // login asks for the next user's name: hang up
				result.Screen = t.Screen()
				return result, nil
			}
			return s.ended(t, result)
		case which == 2 && result.Unused == 0:
			return fail("asked %q, and the script has no answer left", strings.TrimSpace(groups[0]))
		case which == 2:
			a := answers[len(answers)-result.Unused]
			if a.Act != nil {
				if a.Text, err = a.Act(groups); err != nil {
					return fail("%w", err)
				}
			}
			if err := t.Send(a.Text); err != nil {
				return fail("%w", err)
			}
			result.Unused--
		case which == 3:
			if err := t.Send(proof); err != nil {
				return fail("%w", err)
			}
		}
	}
}

func (s *Session) ended(t *Terminal, result Result) (Result, error) {
	status, err := t.Wait(loginTimeout)
	result.Status, result.Screen = status, t.Screen()
	if err != nil {
		return result, fmt.Errorf("sandbox: %s: %w; the screen:\n%s", s.cmd.Args[0], err, result.Screen)
	}
	return result, nil
}
