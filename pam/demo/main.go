//go:build linux

// Command demo shows a real login being guarded: the shipped agent, the shipped
// stacks, the real sshd and the real ssh, in a private machine.
//
//	./build.sh demo          every step, then everything is gone
//	./build.sh demo --keep   and then it stays, to log in by hand
//	./build.sh demo push     logins that are approved on a phone (push.go)
//
// It exits 0 only if every login came out as it should.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"

	"sallyport/internal/event"
	"sallyport/internal/testkit/sandbox"
	"sallyport/pam/e2e/machine"
)

const (
	guarded  = "maya" // has a second factor
	plain    = "noor" // has none
	password = "correct horse"
	patience = time.Minute
)

func main() {
	keep, push := false, false
	for _, a := range os.Args[1:] {
		switch a {
		case "--keep":
			keep = true
		case "push":
			push = true
		default:
			fmt.Fprintf(os.Stderr, "demo: unknown argument %s; usage: ./build.sh demo [push] [--keep]\n", a)
			os.Exit(2)
		}
	}
	if !sandbox.Inside() {
		fmt.Fprintln(os.Stderr, "demo: it would change this machine; run it as: ./build.sh demo")
		os.Exit(2)
	}
	pid := outerPID()
	d := &demo{out: os.Stdout, colour: term.IsTerminal(int(os.Stdout.Fd())) && os.Getenv("NO_COLOR") == ""}
	run := d.run
	if push {
		run = d.runPush
	}
	err := run()
	if err == nil && keep {
		d.keep(pid)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
	if d.wrong > 0 {
		os.Exit(1)
	}
}

// demo is one run.
type demo struct {
	out    io.Writer
	colour bool

	machine *machine.Machine
	agent   *machine.Agent // nil while it is stopped
	sshd    *sandbox.SSHD
	phone   *machine.Phone
	seq     uint64 // the last event that was looked at

	steps, wrong int
}

func (d *demo) run() error {
	d.title("Sallyport: a login being guarded")
	d.say("All this happens in a private copy of this machine: users, files, network and")
	d.say("processes of its own, which are gone afterwards.")
	if err := d.prepare(); err != nil {
		return err
	}
	codes, err := d.enrol()
	if err != nil {
		return err
	}
	d.title("Logins by ssh, password first")
	return d.logins(codes)
}

// prepare sets the machine up.
func (d *demo) prepare(settings ...string) (err error) {
	dist, err := dist()
	if err != nil {
		return err
	}
	if d.machine, err = machine.Install(dist); err != nil {
		return err
	}
	if len(settings) > 0 {
		if err := os.WriteFile(machine.Config, []byte(strings.Join(settings, "\n")+"\n"), 0o644); err != nil {
			return err
		}
	}
	for _, user := range []string{guarded, plain} {
		if _, err := sandbox.AddUser(user, password); err != nil {
			return err
		}
	}
	if d.agent, err = machine.StartAgent(); err != nil {
		return err
	}
	if d.sshd, err = sandbox.StartSSHD(machine.SSHDOptions()...); err != nil {
		return fmt.Errorf("%w\n%s", err, d.machine.Log.Since(0))
	}
	var status struct {
		Version  string `json:"version"`
		Keychain string `json:"keychain"`
	}
	// status says by its exit code that a real installation lacks some things
	// here, such as a TPM: what counts is that it answers.
	stdout, stderr, _, err := machine.Do("status", "--json")
	if err != nil {
		return err
	}
	if err := machine.Decode(stdout, &status); err != nil {
		return fmt.Errorf("sallyport status: %w: %s", err, stderr)
	}
	d.say("")
	d.fact("agent", "sallyport %s; its key is kept in: %s", status.Version, status.Keychain)
	d.fact("sshd", "%s on 127.0.0.1, port %d", version("ssh", "-V"), d.sshd.Port)
	d.fact("stack", "/etc/pam.d/sshd: the password (common-auth), then auth required pam_sallyport.so")
	d.fact("users", "%s, who gets a second factor, and %s, who has none; password of both: %s", guarded, plain, password)
	return nil
}

// dist is where the binaries are: beside this one.
func dist() (string, error) {
	program, err := os.Executable()
	return filepath.Dir(program), err
}

func version(name string, args ...string) string {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return name
	}
	first, _, _ := strings.Cut(string(out), ",")
	return strings.TrimSpace(first)
}

var (
	uriShown    = regexp.MustCompile(`otpauth://\S+\s`)
	codeAsked   = regexp.MustCompile(`Code from the phone: $`)
	recoveryRow = regexp.MustCompile(`\b[0-9A-Z]{5}-[0-9A-Z]{5}\b`)
	sgr         = regexp.MustCompile("\x1b\\[[0-9;]*m")
)

// enrol runs "sallyport enroll" on a terminal, as the helpdesk would, and answers
// with the code of a phone that scanned what it shows. It returns the recovery
// codes.
func (d *demo) enrol() ([]string, error) {
	d.title("sallyport enroll " + guarded)
	t, err := sandbox.Start(exec.Command(machine.Program, "enroll", guarded))
	if err != nil {
		return nil, err
	}
	defer t.Close()
	_, uri, err := t.Expect(patience, uriShown)
	if err != nil {
		return nil, fmt.Errorf("sallyport enroll showed no otpauth URI: %w:\n%s", err, t.Screen())
	}
	if d.phone, err = machine.NewPhone(strings.TrimSpace(uri[0])); err != nil {
		return nil, err
	}
	if _, _, err := t.Expect(patience, codeAsked); err != nil {
		return nil, fmt.Errorf("sallyport enroll asked for no code: %w:\n%s", err, t.Screen())
	}
	d.phone.Lag()
	if err := t.Send(d.phone.Next()); err != nil {
		return nil, err
	}
	status, err := t.Wait(patience)
	if err != nil || status != 0 {
		return nil, fmt.Errorf("sallyport enroll ended with status %d: %w:\n%s", status, err, t.Screen())
	}
	screen := t.Screen()
	if !d.colour {
		screen = sgr.ReplaceAllString(screen, "")
	}
	fmt.Fprintln(d.out, strings.TrimRight(screen, "\n"))
	codes := recoveryRow.FindAllString(t.Screen(), -1)
	if len(codes) == 0 {
		return nil, fmt.Errorf("sallyport enroll showed no recovery codes:\n%s", screen)
	}
	return codes, nil
}

// logins goes through the steps.
func (d *demo) logins(recovery []string) error {
	right := d.phone.Next()
	for _, s := range []step{
		{name: "the right code", in: true, code: right},
		{name: "a wrong code", code: d.phone.Wrong(1)},
		{name: "the first code again", code: right},
	} {
		if err := d.login(s); err != nil {
			return err
		}
	}

	if err := d.showNetwork(); err != nil {
		return err
	}
	if err := d.login(step{name: "no network, the phone's next code", in: true, code: d.phone.Next()}); err != nil {
		return err
	}

	for _, s := range []step{
		{name: "no phone at hand: a recovery code", in: true, code: recovery[0]},
		{name: "the same recovery code again", code: recovery[0]},
	} {
		if err := d.login(s); err != nil {
			return err
		}
	}

	bypass, err := d.bypass()
	if err != nil {
		return err
	}
	for _, s := range []step{
		{name: "the code the helpdesk read out", in: true, code: bypass},
		{name: "the same code again", code: bypass},
		{name: "a user without a second factor", user: plain, in: true},
	} {
		if err := d.login(s); err != nil {
			return err
		}
	}

	if err := d.agent.Stop(); err != nil {
		return err
	}
	d.agent = nil
	fmt.Fprintln(d.out)
	d.say("(the agent is stopped)")
	if err := d.login(step{name: "no agent: closed"}); err != nil {
		return err
	}

	d.sum()
	return nil
}

func (d *demo) sum() {
	if d.wrong > 0 {
		d.title(fmt.Sprintf("%d of %d logins did not come out as they should", d.wrong, d.steps))
		return
	}
	d.title(fmt.Sprintf("All %d logins came out as they should", d.steps))
}

// step is one login: who, what is typed behind the password ("" when no code
// should be asked for), and whether it must succeed.
type step struct {
	name string
	user string
	code string
	then []sandbox.Answer // what is done after that
	now  func()           // called when the password is typed; nil: nothing is
	in   bool
	why  string // the reason that it must have; "": any
}

// login logs in by ssh and says what was expected and what happened.
func (d *demo) login(s step) error {
	if s.user == "" {
		s.user = guarded
	}
	answers := []sandbox.Answer{{Prompt: sandbox.PasswordPrompt, Act: func([]string) (string, error) {
		if s.now != nil {
			s.now()
		}
		return password, nil
	}}}
	if s.code != "" {
		answers = append(answers, sandbox.Code(s.code))
	}
	mark := d.machine.Log.Mark()
	got, err := d.sshd.SSH(s.user).Run(append(answers, s.then...)...)
	if err != nil {
		return fmt.Errorf("step %d, %s: %w", d.steps+1, s.name, err)
	}
	why, err := d.why(mark)
	if err != nil {
		return err
	}
	d.judge(s, got, why)
	return nil
}

// judge says whether a login came out as it should.
func (d *demo) judge(s step, got sandbox.Result, why string) {
	d.steps++
	expected, happened := verdict(s.in), verdict(got.In)
	good := got.In == s.in && got.Unused == 0 && (!got.In || got.As == s.user) && (s.why == "" || s.why == why)
	if got.In && got.As != s.user {
		happened = "in, as " + got.As
	}
	if got.Unused > 0 {
		happened += ", and was not asked for everything"
	}
	fmt.Fprintln(d.out)
	d.command("$ ssh " + s.user + "@127.0.0.1")
	for _, line := range strings.Split(got.Screen, "\n") {
		if line = strings.TrimSpace(line); line != "" {
			fmt.Fprintln(d.out, d.paint("2", "   | "+line))
		}
	}
	result := d.paint("32;1", "ok   ")
	if !good {
		d.wrong++
		result = d.paint("31;1", "WRONG")
	}
	fmt.Fprintf(d.out, "%s %2d. %-38s expected: %-3s  happened: %s %s\n", result, d.steps, s.name, expected,
		d.paint("1", fmt.Sprintf("%-3s", happened)), d.paint("2", "("+why+")"))
}

// why is the reason of the last login: from the agent's event, or, where there is
// no agent, from what the module logged.
func (d *demo) why(mark int) (string, error) {
	if d.agent == nil {
		line, err := d.machine.Log.Wait(mark, `pam_sallyport\(sshd:auth\)`)
		_, text, _ := strings.Cut(line, "pam_sallyport(sshd:auth): ")
		text, _, _ = strings.Cut(text, ":")
		return text, err
	}
	events, err := machine.Events(d.seq)
	if err != nil {
		return "", err
	}
	why := "no event"
	for _, e := range events {
		d.seq = e.Seq
		if e.Name == event.LoginAttempt {
			why = strings.ReplaceAll(e.Reason, "_", " ")
		}
	}
	return why, nil
}

func verdict(in bool) string {
	if in {
		return "in"
	}
	return "out"
}

// showNetwork shows that there is none.
func (d *demo) showNetwork() error {
	fmt.Fprintln(d.out)
	d.command("# ip -brief address; ip route")
	for _, args := range [][]string{{"-brief", "address"}, {"route"}} {
		out, err := exec.Command("ip", args...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
		}
		for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
			if line != "" {
				fmt.Fprintln(d.out, d.paint("2", "   | "+line))
			}
		}
	}
	fmt.Fprintln(d.out, d.paint("2", "   (the loopback alone, and no route: there has been no network all along)"))
	return nil
}

func (d *demo) bypass() (string, error) {
	var answer struct {
		Code string `json:"code"`
	}
	err := machine.JSON(&answer, "bypass", guarded, "--for", "10m", "--reason", "demo: phone left at home")
	fmt.Fprintln(d.out)
	d.command(`# sallyport bypass maya --for 10m --reason "demo: phone left at home"`)
	fmt.Fprintln(d.out, d.paint("2", "   | "+answer.Code))
	return answer.Code, err
}

// keep leaves everything running until somebody ends it.
func (d *demo) keep(pid string) {
	agent, err := machine.StartAgent()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		d.wrong++
		return
	}
	d.agent = agent
	d.title("It stays. Log in by hand")
	d.say("Scan the QR code above with an authenticator app. Then, as root, in another")
	d.say("terminal on this machine:")
	fmt.Fprintf(d.out, "\n  nsenter -t %s -n ssh -p %d -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null %s@127.0.0.1\n\n", pid, d.sshd.Port, guarded)
	d.say("Password: %s. The demo has used codes of the next seconds; the app's own are good", password)
	d.say("from %s on. A shell of the helpdesk's, for sallyport status, events, bypass:", d.phone.Ready().Format(time.TimeOnly))
	fmt.Fprintf(d.out, "\n  nsenter -t %s -m -u -i -n -p -r -w bash\n\n", pid)

	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	enter := make(chan struct{})
	if term.IsTerminal(int(os.Stdin.Fd())) {
		d.say("Press Enter, or Ctrl-C, to end it all.")
		go func() {
			_, _ = bufio.NewReader(os.Stdin).ReadString('\n') // the end of input ends it as well
			close(enter)
		}()
	} else {
		d.say("Ctrl-C, or ending the process, ends it all.")
	}
	select {
	case <-ended:
	case <-enter:
	}
}

// outerPID is this process's id outside of the private machine, where whoever
// reads it is. build.sh leaves the outer /proc open as descriptor 3.
func outerPID() string {
	const outer = 3
	pid, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d/self", outer))
	if closed := syscall.Close(outer); err != nil || errors.Is(closed, syscall.EBADF) {
		return "$(pgrep -nf 'demo --keep')"
	}
	return pid
}

func (d *demo) title(text string) { fmt.Fprintf(d.out, "\n%s\n", d.paint("1", "== "+text)) }

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.out, "   "+format+"\n", args...) }

func (d *demo) fact(name, format string, args ...any) {
	fmt.Fprintf(d.out, "   %-7s %s\n", name, fmt.Sprintf(format, args...))
}

func (d *demo) command(line string) { fmt.Fprintf(d.out, "   %s\n", d.paint("36", line)) }

// paint colours text, on a terminal only.
func (d *demo) paint(code, text string) string {
	if !d.colour {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}
