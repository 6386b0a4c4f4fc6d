// Package cli holds the commands of the sallyport program, one file a command.
// All of them but run, service and the generators talk to the running agent
// over its admin socket; none reads or writes the agent's state itself.
package cli

import (
	"bufio"
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport/agent/cli/doctor"
	"sallyport/authplugin/authdb"
	"sallyport/installer/windows/setup"
	"sallyport/internal/command"
	"sallyport/internal/config"
	"sallyport/internal/localsock"
	"sallyport/internal/policy"
	adminv1 "sallyport/proto/sallyport/admin/v1"
)

// Target says which agent a command is about.
type Target struct {
	Config     string // the configuration file
	RuntimeDir string // --runtime-dir; empty: the configuration says
}

// ConfigValue is one value of the configuration and where it came from.
type ConfigValue struct {
	Key    string `json:"key"`
	Value  string `json:"value"`  // as TOML
	Source string `json:"source"` // "default", or file:line
}

// CheckedConfig is what a configuration says that is not broken.
type CheckedConfig struct {
	Values  []ConfigValue
	Policy  policy.Rules
	Unknown []string // policies that this version does not know, and ignores
}

// Deps is what the commands need from the rest of the agent and from the
// platform. main.go gives the first group; whatever else is nil or zero is the
// process's own.
type Deps struct {
	Version string
	// Run is the service itself: it returns when ctx ends.
	Run func(ctx context.Context, t Target, service bool) error
	// Service does install, uninstall, start, stop, restart or status with the
	// system's service manager, and says in one line what came of it.
	Service func(action string, t Target) (string, error)
	// RuntimeDir reads runtime_dir from a configuration file.
	RuntimeDir func(config string) (string, error)
	// CheckConfig reads a configuration file as the agent would; a draft may belong
	// to whoever asks.
	CheckConfig func(config string, draft bool) (CheckedConfig, error)
	// LocalVault does "init", "accept" or "wipe" when no agent is running.
	LocalVault func(action string, t Target) (*adminv1.VaultStatus, error)
	// System is what the installer changes; nil where there is no such installer.
	System setup.System
	// Rights is macOS's rights database as a configuration wants it; nil where there is
	// none. It comes with the error where that configuration is broken.
	Rights func(config string) (*authdb.Rights, error)

	command.Process
	CallTimeout time.Duration
	Executable  func() (string, error)
	// Exec runs another program in our place and returns its exit code, or does
	// not return. On Windows nothing does.
	Exec func(path string, argv []string) (int, error)
	// Command runs a program and returns what it wrote to its standard output.
	Command func(ctx context.Context, name string, args ...string) ([]byte, error)
	// ReadSecret reads a line from the terminal without showing it.
	ReadSecret func() (string, error)
	// Root is the file system from / on, for what status and doctor read on Linux;
	// Windows is what they read there.
	Root    fs.FS
	Windows *doctor.Windows
}

func (d *Deps) fill() {
	d.Process.Fill()
	if d.Version == "" {
		d.Version = "unknown"
	}
	if d.CallTimeout == 0 {
		d.CallTimeout = callTimeout
	}
	if d.Executable == nil {
		d.Executable = os.Executable
	}
	if d.Command == nil {
		d.Command = runProgram
	}
	if d.ReadSecret == nil {
		d.ReadSecret = readSecret
	}
	if d.Root == nil {
		d.Root = os.DirFS("/")
	}
}

// app is one run of the program: what it was given and the global flags.
type app struct {
	deps       Deps
	config     string
	runtimeDir string
	json       bool
	in         *bufio.Reader
}

func (a *app) target() Target { return Target{Config: a.config, RuntimeDir: a.runtimeDir} }

// Main runs one command line (without the program's name) and returns the exit
// code.
func Main(args []string, deps Deps) int {
	deps.fill()
	a := &app{deps: deps}
	exit, e := command.Execute(context.Background(), a.rootCommand(), args)
	if e != nil {
		e.Print(deps.Stderr, "sallyport", a.json || command.WantsJSON(args), a.paint(deps.Stderr))
	}
	return exit
}

func (a *app) rootCommand() *cobra.Command {
	a.in = bufio.NewReaderSize(a.deps.Stdin, 4096)
	root := &cobra.Command{
		Use:   "sallyport",
		Short: "the endpoint login agent: a second factor at the login itself",
		Long: `sallyport is the endpoint login agent: it asks for a second factor at the
login of this computer, online or offline, and refuses whoever does not have it.

"sallyport run" is the service; every other command asks the running agent.

Exit status:
` + exits.Table() + `
Files:
  ` + config.DefaultPath + `  the configuration
  ` + filepath.Join(config.Default().RuntimeDir, localsock.AdminName) + `      where the commands reach the agent`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		// Without a command there is nothing to do but to say what there is.
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(a.deps.Stdin)
	root.SetOut(a.deps.Stdout)
	root.SetErr(a.deps.Stderr)
	flags := root.PersistentFlags()
	flags.StringVar(&a.config, "config", config.DefaultPath, "the configuration `FILE`")
	flags.StringVar(&a.runtimeDir, "runtime-dir", "", "the agent's runtime `DIR` (default: as the configuration says)")
	flags.BoolVar(&a.json, "json", false, "print one JSON object (events, enroll --push: one per line)")
	_ = root.MarkPersistentFlagFilename("config", "toml")
	_ = root.MarkPersistentFlagDirname("runtime-dir")

	root.AddGroup(
		&cobra.Group{ID: "helpdesk", Title: "Helpdesk:"},
		&cobra.Group{ID: "users", Title: "Enrolment:"},
		&cobra.Group{ID: "admin", Title: "Administration:"},
		&cobra.Group{ID: "other", Title: "Other:"})
	add := func(group string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("helpdesk", a.statusCommand(), a.eventsCommand(), a.unlockCommand(), a.recoveryCommand(), a.bypassCommand(),
		a.pushCommand(), a.tryCommand(), a.doctorCommand(), a.supportBundleCommand())
	add("users", a.enrollCommand(), a.enrolmentCommand(), a.phonesCommand(), a.userCommand(), a.importCommand())
	add("admin", a.runCommand(), a.serviceCommand(), a.configCommand(), a.policyCommand(), a.vaultCommand(), a.clockCommand(), a.joinCommand(), a.leaveCommand())
	add("other", command.Completion("sallyport"), a.manCommand(), command.Version("sallyport", a.deps.Version, a.result))
	if a.deps.System != nil {
		add("other", a.setupCommand())
	}
	if a.deps.Rights != nil {
		add("admin", a.authdbCommand(), a.sudoCommand("/"))
	}
	root.SetHelpCommandGroupID("other")
	return root
}

// group is a command that only holds others.
var group = command.Group

// do adapts a command's function.
func do(f command.RunE) command.RunE {
	return command.Do(func(err error) *Error { return failed("%v", err) }, f)
}

// oneUser is the arguments of a command about one user.
func oneUser(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return badUsage("%s: say which user: %s", cmd.CommandPath(), cmd.UseLine())
	}
	return validUser(args[0])
}

// maxUser is the login wire's bound on a name.
const maxUser = 320

func validUser(name string) error {
	if name == "" {
		return badUsage("the user's name is empty")
	}
	if len(name) > maxUser {
		return badUsage("the user's name has %d bytes; %d at most", len(name), maxUser)
	}
	if strings.ContainsRune(name, 0) || clean(name) != name {
		return badUsage("the user's name holds a control character or is not UTF-8: %s", clean(name))
	}
	return nil
}
