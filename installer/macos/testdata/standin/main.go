// Command standin is, in a root of its own, the programs that the package's scripts
// run: macOS's tools, of which it lets through what their manual pages have; launchd,
// the rights database and codesign, made up in files below /fake; and the agent, with
// the real code that talks to them.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"sallyport/authplugin/authdb"
	"sallyport/installer/macos/launchd"
)

// options are those of macOS 12's manual pages that may be used of each tool.
var options = map[string][]string{
	"cp": {"-p", "-Rp"}, "cut": {"-d ", "-f2"}, "date": {}, "diff": {"-rq"}, "dirname": {}, "find": {"-maxdepth", "-user", "-perm", "-020", "-002"},
	"grep": {"-qF"}, "id": {"-u"}, "ln": {"-sfn"}, "mkdir": {"-p", "-m"}, "mv": {"-f"}, "rm": {"-f", "-rf"}, "sleep": {},
	"tail": {"-n"}, "tr": {"-d"},
}

func main() {
	name, args := filepath.Base(os.Args[0]), os.Args[1:]
	if strings.HasPrefix(strings.Join(args, " "), "agent:") { // #!/standin agent:VERSION:BEHAVIOUR
		kind := strings.Split(args[0], ":")
		name, args = "sallyport", args[2:]
		step(name, args)
		os.Exit(agent(kind[1], kind[2], args))
	}
	if name == "standin" {
		supervise()
		return
	}
	step(name, args)
	switch name {
	case "launchctl":
		os.Exit(launchctl(args))
	case "security":
		os.Exit(security(args))
	case "codesign":
		fmt.Fprintln(os.Stderr, "TeamIdentifier=ABCDE12345")
	case "pkgutil", "sync": // the machine's own disks are no part of this
	case "sleep":
		n, _ := strconv.Atoi(args[0])
		put("clock", strconv.Itoa(clock()+n))
		if get("pid") != "" { // what is real takes its time
			time.Sleep(time.Duration(n) * time.Second)
		}
	case "date":
		fmt.Println(clock())
	default:
		for _, a := range args {
			if strings.HasPrefix(a, "-") && !slices.Contains(options[name], a) {
				put("unknown", name+" "+a)
			}
		}
		err := syscall.Exec("/real/"+name, append([]string{name}, args...), []string{"PATH=/usr/bin", "LC_ALL=C"})
		fmt.Fprintln(os.Stderr, name, err)
		os.Exit(127)
	}
}

func get(name string) string {
	b, _ := os.ReadFile("/fake/" + name)
	return string(b)
}

func put(name, text string) {
	if err := os.WriteFile("/fake/"+name, []byte(text), 0o644); err != nil {
		panic(err)
	}
}

func drop(name string) { _ = os.Remove("/fake/" + name) }

// clock is the time, which only sleep(1) makes go on.
func clock() int {
	n, _ := strconv.Atoi(get("clock"))
	return n
}

// step writes down what is done, and how things are at that moment: whether a right
// names the plug-in, whether it is there, whether the agent answers. When its number
// has come, everything is killed.
func step(name string, args []string) {
	bundle := "whole"
	if _, err := os.Stat(authdb.DefaultBundle + "/Contents/MacOS/Sallyport"); err != nil {
		bundle = "gone"
	}
	f, err := os.OpenFile("/fake/log", os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		panic(err)
	}
	_, _ = fmt.Fprintf(f, "%d\t%t\t%s\t%t\t%s %s\n", clock(), named(), bundle, answers(), name, strings.Join(args, " "))
	_ = f.Close()
	if !changes(name, args) { // to be killed then is to be killed at the next one that does
		return
	}
	n, _ := strconv.Atoi(get("step"))
	put("step", strconv.Itoa(n+1))
	if get("kill") == strconv.Itoa(n) {
		drop("kill")
		_ = syscall.Kill(0, syscall.SIGKILL)
		select {}
	}
}

// changes says whether a program changes anything.
func changes(name string, args []string) bool {
	switch name {
	case "launchctl":
		return args[0] != "print"
	case "security":
		return len(args) < 2 || args[1] != "read"
	case "sallyport":
		return args[0] != "version" && args[0] != "status" && !slices.Contains(args, "dry-load")
	}
	return slices.Contains([]string{"cp", "ln", "mkdir", "mv", "pkgutil", "rm"}, name)
}

func named() bool {
	list, _ := filepath.Glob("/fake/rights/*")
	return slices.ContainsFunc(list, func(path string) bool {
		b, _ := os.ReadFile(path)
		return strings.Contains(string(b), "Sallyport:")
	})
}

// answers says whether the agent that runs does. What runs is VERSION:BEHAVIOUR.
func answers() bool {
	running := get("running")
	return running != "" && !strings.HasSuffix(running, ":dumb")
}

// launchctl is launchctl(1), by what launchd.Control reads of it.
func launchctl(args []string) int {
	if fails := get("launchctl-fails"); fails != "" && fails == args[0] {
		fmt.Fprintln(os.Stderr, "Bootstrap failed: 5: Input/output error")
		return 5
	}
	switch args[0] {
	case "print":
		if get("loaded") == "" {
			return 113
		}
		fmt.Print("\tstate = running\n\tpid = 42\n")
	case "bootout":
		if get("loaded") == "" {
			return 3
		}
		drop("loaded")
		drop("running")
		stop()
	case "bootstrap":
		if _, err := os.Stat(args[2]); err != nil || get("disabled") != "" {
			fmt.Fprintln(os.Stderr, "Bootstrap failed: 5: Input/output error")
			return 5
		}
		put("loaded", "yes")
		start()
	case "kickstart":
		if get("loaded") == "" {
			return 113
		}
		start()
	case "enable":
		drop("disabled")
	default:
		return 64
	}
	return 0
}

// start runs the agent that is there: its first line says which.
func start() {
	b, err := os.ReadFile(launchd.Program)
	line, _, _ := strings.Cut(string(b), "\n")
	kind := strings.TrimPrefix(line, "#!/standin agent:")
	if err != nil || kind == line {
		drop("running")
		return
	}
	put("running", kind)
	if strings.HasSuffix(kind, ":real") && get("pid") == "" {
		cmd := exec.Command("/standin")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := cmd.Start(); err != nil {
			panic(err)
		}
		wait(func() bool { return get("pid") != "" })
	}
}

// The agent for Linux, where it is the shipped one that runs.
const (
	real   = "/agent"
	config = "/etc/sallyport.toml"
)

// supervise runs it as launchd does, and notes that it has ended.
func supervise() {
	cmd := exec.Command(real, "run", "--config", config)
	if err := cmd.Start(); err != nil {
		panic(err)
	}
	put("pid", strconv.Itoa(cmd.Process.Pid))
	_ = cmd.Wait()
	drop("pid")
}

func stop() {
	if pid, err := strconv.Atoi(get("pid")); err == nil {
		_ = syscall.Kill(pid, syscall.SIGTERM)
		wait(func() bool { return get("pid") == "" })
	}
}

func wait(until func() bool) {
	for !until() {
		time.Sleep(5 * time.Millisecond)
	}
}

// security is security(1): the rights are files.
func security(args []string) int {
	if fails := get("security-fails"); fails != "" && len(args) > 1 && fails == args[1] {
		fmt.Fprintln(os.Stderr, "NO (-60005)")
		return 1
	}
	switch {
	case args[0] == "delete-generic-password":
		if get("key") == "" {
			return 44
		}
		drop("key")
	case args[1] == "read":
		b, err := os.ReadFile("/fake/rights/" + args[2])
		if err != nil {
			return 1
		}
		_, _ = os.Stdout.Write(b)
	case args[1] == "write":
		b, err := io.ReadAll(os.Stdin)
		if err != nil {
			return 1
		}
		put("rights/"+args[2], string(b))
	}
	return 0
}

// agent is the program that a package brings. Behaviours: ok; dumb: it runs and does
// not answer; broken: it does not run; noload: its plug-in does not load; real: it is
// the shipped one, for Linux, but for what only macOS has.
func agent(version, behaviour string, args []string) int {
	if behaviour == "broken" {
		return 86
	}
	ctx := context.Background()
	said, err := "", error(nil)
	switch strings.Join(args[:min(2, len(args))], " ") {
	case "version":
		if behaviour == "real" {
			return run(real, args...)
		}
		said = "sallyport " + version
	case "status --json":
		switch {
		case behaviour == "real":
			return run(real, append(args, "--config", config)...)
		case !answers():
			return 3
		}
		running, _, _ := strings.Cut(get("running"), ":")
		said = fmt.Sprintf("{\n  \"healthy\": true,\n  \"running\": true,\n  \"version\": %q,\n  \"pid\": 42\n}", running)
	case "service restart":
		said, err = launchd.Control{Run: program}.Do(ctx, "restart")
	case "service uninstall":
		if err = (launchd.Control{Run: program}).Stop(ctx); err == nil {
			err = os.Remove(launchd.Path)
		}
	case "authdb install":
		_, err = rights().Install(ctx)
	case "authdb remove":
		_, err = rights().Remove(ctx)
	case "authdb place":
		err = rights().Place(ctx, args[2])
	case "authdb dry-load":
		if b, _ := os.ReadFile(args[2] + "/Contents/behaviour"); string(b) == "noload" {
			err = errors.New("dlopen: symbol not found")
		}
		said = "loaded"
	case "sudo remove":
		if get("sudo-fails") != "" {
			err = errors.New("sudo_local cannot be written")
		}
	default:
		err = fmt.Errorf("no such command: %q", args)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "sallyport:", err)
		return 1
	}
	fmt.Println(said)
	return 0
}

func rights() *authdb.Rights {
	return &authdb.Rights{StateDir: "/Library/Application Support/Sallyport/state", Wanted: authdb.Wanted{Login: true},
		Bundle: authdb.DefaultBundle, Program: launchd.Program, Patience: time.Second,
		Answers: func(context.Context) error {
			if !answers() {
				return errors.New("nobody there")
			}
			return nil
		}}
}

func program(ctx context.Context, name string, args ...string) ([]byte, error) {
	out, err := exec.CommandContext(ctx, name, args...).Output()
	if failed := (*exec.ExitError)(nil); errors.As(err, &failed) {
		err = fmt.Errorf("%w: %s", err, failed.Stderr)
	}
	return out, err
}

func run(name string, args ...string) int {
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr // as the script has them
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
