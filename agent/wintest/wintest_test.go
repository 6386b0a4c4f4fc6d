//go:build linux

// Package wintest drives the shipped agent for Windows from outside, under Wine: the
// service, and the commands of IT and the helpdesk. Whole logins are
// credprovider/hosttest's, the installation is installer/windows's.
package wintest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/internal/testkit/wine"
)

// patience is how long one command may take on a busy machine.
const patience = 2 * time.Minute

// computer is a Windows with the agent's program on it.
type computer struct {
	*testing.T
	*wine.Wine
	exe, primer string
}

func newComputer(t *testing.T) *computer {
	t.Helper()
	dir := t.TempDir()
	c := &computer{T: t, exe: filepath.Join(dir, "sallyport.exe"), primer: filepath.Join(dir, "primer.exe")}
	c.Wine = wine.New(t)
	if built := os.Getenv("SALLYPORT_WINDOWS_DIST"); built != "" {
		program, err := os.ReadFile(filepath.Join(built, "sallyport.exe"))
		if err == nil {
			err = os.WriteFile(c.exe, program, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	} else {
		build(t, c.exe, "sallyport/agent")
	}
	build(t, c.primer, "sallyport/internal/testkit/wine/primer")
	return c
}

func build(t *testing.T, out, pkg string) {
	t.Helper()
	cmd := exec.Command("go", "build", "-trimpath", "-o", out, pkg)
	cmd.Env = append(os.Environ(), "GOOS=windows", "GOARCH=amd64", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building %s: %v\n%s", pkg, err, out)
	}
}

// ran is what came of a command.
type ran struct {
	t      *testing.T
	what   string
	out    string
	err    string
	status int
}

func (c *computer) command(stdin, program string, args ...string) ran {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.Context(), patience)
	defer cancel()
	cmd := c.Command(ctx, program, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		c.Fatalf("%s %q: %v\n%s", filepath.Base(program), args, err, stderr.String())
	}
	return ran{c.T, filepath.Base(program) + " " + strings.Join(args, " "), stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

func (c *computer) run(args ...string) ran {
	c.Helper()
	return c.command("", c.exe, args...)
}

// exits checks the status.
func (r ran) exits(status int) ran {
	r.t.Helper()
	if r.status != status {
		r.t.Fatalf("%s: exit status %d, want %d\n%s%s", r.what, r.status, status, r.out, r.err)
	}
	return r
}

// says checks for texts, wherever they are.
func (r ran) says(texts ...string) ran {
	r.t.Helper()
	for _, text := range texts {
		if !strings.Contains(r.out+r.err, text) {
			r.t.Errorf("%s does not say %q:\n%s%s", r.what, text, r.out, r.err)
		}
	}
	return r
}

// json reads the output.
func (r ran) json() map[string]any {
	r.t.Helper()
	var v map[string]any
	if err := json.Unmarshal([]byte(r.out), &v); err != nil {
		r.t.Fatalf("%s: %v\n%s%s", r.what, err, r.out, r.err)
	}
	return v
}

// prime spends the pipes' first instances, which are dead under Wine.
func (c *computer) prime() {
	c.Helper()
	c.command("", c.primer, `\\.\pipe\ProtectedPrefix\Administrators\sallyport\login`, `\\.\pipe\ProtectedPrefix\Administrators\sallyport\admin`).exits(0)
}

// service has the agent installed as a service, and running.
func (c *computer) service() {
	c.Helper()
	c.run("service", "install").exits(0)
	c.run("service", "start").exits(0)
	c.prime()
}

// starts says whether the service's process is there.
func (c *computer) starts() bool {
	processes, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range processes {
		line, err := os.ReadFile(p) // it may have ended
		if err == nil && strings.Contains(string(line), filepath.Base(filepath.Dir(filepath.Dir(c.exe)))) && strings.Contains(string(line), "--service") {
			return true
		}
	}
	return false
}

// where Windows keeps what a service's installation writes.
var serviceKeys = []string{
	`HKLM\System\CurrentControlSet\Services\sallyport`,
	`HKLM\System\CurrentControlSet\Services\EventLog\Application\sallyport`,
	`HKLM\System\CurrentControlSet\Control\SafeBoot\Minimal\sallyport`,
	`HKLM\System\CurrentControlSet\Control\SafeBoot\Network\sallyport`,
}

func (c *computer) key(name string) (text string, there bool) {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.Context(), patience)
	defer cancel()
	text, err := c.Export(ctx, name)
	return text, err == nil
}

func TestTheServiceFromInstallationToRemoval(t *testing.T) {
	c := newComputer(t)
	for _, key := range serviceKeys {
		if _, there := c.key(key); there {
			t.Fatalf("%s is there before", key)
		}
	}
	c.run("status").exits(2).says("the agent is not running")
	c.service()
	c.run("service", "status").exits(0).says("running")
	for _, key := range serviceKeys {
		if text, there := c.key(key); !there {
			t.Errorf("%s is missing", key)
		} else if strings.Contains(key, "SafeBoot") && !strings.Contains(text, `@="Service"`) {
			t.Errorf("Safe Mode would not start it:\n%s", text)
		} else if strings.Contains(key, `Services\sallyport`) && !strings.Contains(text, `run --service`) {
			t.Errorf("it is not started as a service:\n%s", text)
		}
	}
	if s := c.run("status", "--json").exits(0).json(); s["running"] != true || s["account"] == "" {
		t.Errorf("%v", s)
	}
	c.run("service", "stop").exits(0)
	c.run("service", "status").exits(0).says("stopped")
	c.run("status").exits(2).says("the agent is not running")
	c.run("service", "uninstall").exits(0)
	for _, key := range serviceKeys {
		if _, there := c.key(key); there {
			t.Errorf("%s is left behind", key)
		}
	}
}

func TestServiceIsForTheServiceManager(t *testing.T) {
	c := newComputer(t)
	if r := c.run("run", "--service"); r.status == 0 {
		t.Error("it ran")
	} else {
		r.says("leave it out")
	}
}

// TestTheCommandsOfTheHelpdesk: what is enrolled stays so over a restart of Windows.
func TestTheCommandsOfTheHelpdesk(t *testing.T) {
	c := newComputer(t)
	c.service()
	person := strings.TrimSpace(c.command("", "cmd", "/c", "echo %USERNAME%").exits(0).out)
	c.run("enroll", person, "--no-confirm").exits(0).says("otpauth://totp/", "Recovery codes")
	c.run("enroll", "nosuchuser", "--no-confirm").exits(4).says("no user", "net user")
	c.run("enroll", "Administrators", "--no-confirm").exits(4) // a group is nobody
	user := c.run("user", "show", person, "--json").exits(0).json()
	key, _ := user["key"].(string)
	if !strings.HasPrefix(key, "sid:S-1-5-21-") || user["totp"] != true {
		t.Fatalf("%v", user)
	}
	c.run("user", "show", key).exits(0).says(person)
	c.run("user", "list").exits(0).says(person)
	c.run("recovery", person).exits(0).says("Recovery codes")
	c.run("bypass", person, "--for", "1h", "--reason", "ticket 4711").exits(0).says("-")
	c.run("unlock", person).exits(0)
	c.run("events", "--last", "20").exits(0).says("user_enrolled", "bypass_issued", "recovery_issued")

	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	if err := c.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	c.prime() // an automatic service: it starts with Windows
	c.run("user", "show", person).exits(0).says("10 codes left")
	c.run("user", "remove", person, "--yes").exits(0)
	c.run("user", "list").exits(0)
}

// TestAPolicyInTheRegistryHoldsOnceItHasSettled, one that makes no sense is refused,
// and what a refresh deletes and writes anew never went away.
func TestAPolicyInTheRegistryHoldsOnceItHasSettled(t *testing.T) {
	c := newComputer(t)
	c.service()
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	set := func(key, name string, value any) {
		t.Helper()
		if err := c.SetValue(ctx, `HKLM\Software\Policies\Sallyport`+key, name, value); err != nil {
			t.Fatal(err)
		}
	}
	// Each change of the configuration in force is one event, and what is none is none.
	c.run("status").exits(0) // the first one finds the directory that the agent has made, which is one, too
	changes := strings.Count(c.run("events", "--last", "100").exits(0).out, "config_")
	changed := func(event string) {
		t.Helper()
		changes++
		for {
			list := c.run("events", "--last", "100").exits(0).out
			switch n := strings.Count(list, "config_"); {
			case n > changes:
				t.Fatalf("%d changes, want %d:\n%s", n, changes, list)
			case n == changes && strings.Count(list, event) > 0:
				return
			case ctx.Err() != nil:
				t.Fatalf("there is no %s:\n%s", event, list)
			}
		}
	}
	// By its name, for it may be ours then: under Wine whatever is made belongs to
	// the user, and not to the administrators.
	file := `C:\ProgramData\Sallyport\sallyport.toml`
	set(`\Policy`, "ask", "required")
	changed("config_loaded")
	c.run("config", "show").exits(0).says("policy.ask = 'required'", `HKLM\Software\Policies\Sallyport\Policy`)
	person := strings.TrimSpace(c.command("", "cmd", "/c", "echo %USERNAME%").exits(0).out)
	c.run("user", "show", person).exits(0).says("required")

	// A refresh, in one go: what takes longer than policies need to settle is none.
	if err := c.Import(ctx, "[HKEY_LOCAL_MACHINE\\Software\\Policies\\Sallyport\\Policy]\r\n\"ask\"=-\r\n\"ask\"=\"required\"\r\n"); err != nil {
		t.Fatal(err)
	}
	c.run("user", "show", person).exits(0).says("required")

	set(`\Policy`, "ask", "sometimes")
	changed("config_rejected")
	c.run("status").exits(1).says(`HKLM\Software\Policies\Sallyport\Policy`, "sometimes")
	c.run("user", "show", person).exits(0).says("required") // the last good one
	c.run("config", "check", file).exits(1).says("sometimes")

	set(`\Policy`, "ask", "required")
	changed("config_loaded")
	c.run("status").exits(0)
	set("", "of_a_later_version", uint32(1))
	changed("of_a_later_version")
	c.run("status").exits(1).says("of_a_later_version")
	c.run("config", "check", file).exits(0).says("of_a_later_version")
	c.run("user", "show", person).exits(0).says("required")
	set("", "of_a_later_version", nil)
	changed("config_loaded")

	// A start amid a refresh: the policies come when the agent has begun to start. Who
	// writes them stands by: it has only the two seconds that the agent waits.
	c.run("service", "stop").exits(0)
	set(`\Policy`, "ask", nil)
	refresh := c.Unix(ctx, "sh", "-c", `echo ready; read -r _ && wine reg add "$0" /v ask /d required /f`, `HKLM\Software\Policies\Sallyport\Policy`)
	now, err := refresh.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	said, err := refresh.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := refresh.Start(); err != nil {
		t.Fatal(err)
	}
	standing := bufio.NewReader(said)
	if line, err := standing.ReadString('\n'); line != "ready\n" {
		t.Fatalf("%q, %v", line, err)
	}
	written := make(chan error, 1)
	go func() {
		for !c.starts() && ctx.Err() == nil {
			time.Sleep(10 * time.Millisecond) // nobody tells
		}
		_, err := io.WriteString(now, "\n")
		_, _ = io.Copy(io.Discard, standing)
		written <- errors.Join(err, refresh.Wait())
	}()
	c.run("service", "start").exits(0)
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	c.prime()
	c.run("user", "show", person).exits(0).says("required")

	set(`\Policy`, "ask", nil)
	changed("config_loaded")
	c.run("status").exits(0)
	c.run("config", "show").exits(0).says("policy.ask = 'enrolled'")
}

func TestASecondAgentIsRefused(t *testing.T) {
	c := newComputer(t)
	c.service()
	if r := c.run("run"); r.status == 0 {
		t.Error("two agents run")
	} else {
		r.says("another agent")
	}
	c.run("status").exits(0)
}

// TestNoSecretInTheRegistryOrTheState: neither the seed nor a recovery code lies
// anywhere in the clear.
func TestNoSecretInTheRegistryOrTheState(t *testing.T) {
	c := newComputer(t)
	c.service()
	person := strings.TrimSpace(c.command("", "cmd", "/c", "echo %USERNAME%").exits(0).out)
	out := c.run("enroll", person, "--no-confirm", "--json").exits(0).json()
	uri, _ := out["otpauth_uri"].(string)
	_, seed, ok := strings.Cut(uri, "secret=")
	if !ok {
		t.Fatal("no URI came")
	}
	seed, _, _ = strings.Cut(seed, "&")
	c.run("service", "stop").exits(0)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	// The whole drive, with the files of the registry, written by now.
	search := func(text string) error {
		return c.Unix(ctx, "sh", "-c", `wineserver --kill; wineserver --wait; grep -rlaF -e "$1" /var/lib/wine`, "sh", text).Run()
	}
	if search(seed) == nil {
		t.Error("the seed lies in the clear")
	}
	if err := search("run --service"); err != nil {
		t.Errorf("the search does not see what is there: %v", err)
	}
}

// TestTheDLLIsOfTheSameBuild: doctor compares the two.
func TestTheDLLIsOfTheSameBuild(t *testing.T) {
	built := os.Getenv("SALLYPORT_WINDOWS_DIST")
	if built == "" {
		t.Skip("nothing was built by build.sh: SALLYPORT_WINDOWS_DIST is not set")
	}
	c := newComputer(t)
	said := strings.Fields(c.run("version").exits(0).out)
	dll, err := os.ReadFile(filepath.Join(built, "SallyportCredentialProvider.dll"))
	if err != nil || len(said) < 2 {
		t.Fatalf("%v, %q", err, said)
	}
	var wide []byte
	for _, b := range []byte("ProductVersion") {
		wide = append(wide, b, 0)
	}
	_, resource, _ := bytes.Cut(dll, wide)
	if !bytes.Contains(bytes.ReplaceAll(resource[:min(len(resource), 200)], []byte{0}, nil), []byte(said[1])) {
		t.Errorf("the agent is version %s, and the DLL says %q", said[1], resource[:min(len(resource), 200)])
	}
}
