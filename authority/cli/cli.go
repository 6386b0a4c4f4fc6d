// Package cli holds the commands of the sallyport-authority program. All but
// init, run and those that only read files work on the database itself, beside a
// running server, which the database tells of what changed.
package cli

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"sallyport/authority/config"
	"sallyport/authority/enrol"
	"sallyport/authority/server"
	"sallyport/authority/store"
	"sallyport/internal/command"
	"sallyport/internal/textout"
)

// Deps is what the commands need of the process; what is nil or zero is the
// process's own.
type Deps struct {
	command.Process
	Version string
	// Listening is told where 'run' listens; nil: nobody is.
	Listening func(server.Addresses)
	// AnswerTime is how long a command waits for a computer that is connected.
	AnswerTime time.Duration
}

func (d *Deps) fill() {
	d.Process.Fill()
	if d.Version == "" {
		d.Version = "unknown"
	}
	d.AnswerTime = cmp.Or(d.AnswerTime, answerTime)
}

// The exit codes, the same as of the agent's commands; see internal/command.
const (
	ExitOK         = command.ExitOK
	ExitFailed     = command.ExitFailed
	ExitNotRunning = command.ExitNotRunning
	ExitDenied     = command.ExitDenied
	ExitNotFound   = command.ExitNotFound
	ExitUsage      = command.ExitUsage
	ExitConflict   = command.ExitConflict
)

var exits = command.ExitTexts{
	ExitOK:         "done; status: healthy",
	ExitFailed:     "failed, or something needs attention",
	ExitNotRunning: "the database cannot be reached; status: the server is not running",
	ExitDenied:     "not permitted for this caller",
	ExitNotFound:   "no such user, device, phone or file",
	ExitUsage:      "bad usage or bad input",
	ExitConflict:   "it is there already",
}

// Error is what a command ends with when it fails.
type Error = command.Error

// errQuiet ends a command with an exit code when the output has said it all.
type errQuiet = command.Quiet

var (
	badUsage  = command.BadUsage
	group     = command.Group
	writeJSON = command.WriteJSON
)

// classify gives an error of the parts below its exit code.
func classify(err error) *Error {
	e := &Error{Exit: ExitFailed, Text: err.Error()}
	switch {
	case errors.Is(err, enrol.ErrInvalid):
		e.Exit = ExitUsage
		e.Text = strings.TrimPrefix(e.Text, enrol.ErrInvalid.Error()+": ")
	case errors.Is(err, fs.ErrPermission):
		e.Exit, e.Remedy = ExitDenied, "run it as root: sudo sallyport-authority ..."
	case errors.Is(err, store.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		e.Exit = ExitNotFound
		e.Text = strings.TrimSuffix(e.Text, ": "+store.ErrNotFound.Error())
	case errors.Is(err, store.ErrExists), errors.Is(err, fs.ErrExist):
		e.Exit = ExitConflict
	case errors.Is(err, store.ErrUnavailable):
		e.Exit, e.Remedy = ExitNotRunning, "look at the database, then at: journalctl -u sallyport-authority"
	}
	return e
}

// app is one run of the program: what it was given and the global flags.
type app struct {
	deps   Deps
	config string
	json   bool
	in     *bufio.Reader
}

// Main runs one command line (without the program's name) and returns the exit
// code.
func Main(ctx context.Context, args []string, deps Deps) int {
	deps.fill()
	a := &app{deps: deps, in: bufio.NewReaderSize(deps.Stdin, 4096)}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	exit, e := command.Execute(ctx, a.rootCommand(), args)
	if e != nil {
		e.Print(deps.Stderr, "sallyport-authority", a.json || command.WantsJSON(args), a.paint(deps.Stderr))
	}
	return exit
}

// do adapts a command's function.
func do(f command.RunE) command.RunE { return command.Do(classify, f) }

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "sallyport-authority",
		Short: "the authority: users, computers and phones of an organisation",
		Long: `sallyport-authority is the other end of Sallyport's push and of central enrolment.
Computers connect to it, phones approve by its page, and it decides nothing: what
opens a login is verified on the computer itself.

"sallyport-authority run" is the server; every other command works on the database
beside it.

Exit status:
` + exits.Table() + `
Files:
  ` + config.DefaultPath + `  the configuration
  ` + config.Default().StateDir + `            keys and database`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		Args:              cobra.NoArgs,
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(a.deps.Stdin)
	root.SetOut(a.deps.Stdout)
	root.SetErr(a.deps.Stderr)
	root.PersistentFlags().StringVar(&a.config, "config", config.DefaultPath, "the configuration `FILE`")
	root.PersistentFlags().BoolVar(&a.json, "json", false, "print one JSON object (events: one per line)")
	_ = root.MarkPersistentFlagFilename("config", "toml")
	root.AddGroup(&cobra.Group{ID: "people", Title: "People and computers:"}, &cobra.Group{ID: "helpdesk", Title: "Helpdesk:"},
		&cobra.Group{ID: "admin", Title: "Administration:"}, &cobra.Group{ID: "other", Title: "Other:"})
	add := func(group string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("people", a.userCommand(), a.deviceCommand(), a.phoneCommand(), a.tokenCommand())
	add("helpdesk", a.bypassCommand(), a.statusCommand(), a.eventsCommand())
	add("admin", a.initCommand(), a.runCommand(), a.configCommand(), a.operatorCommand(), a.manifestCommand(), a.policyCommand(), a.approverCommand(), a.backupCommand())
	add("other", command.Completion("sallyport-authority"), a.manCommand(), command.Version("sallyport-authority", a.deps.Version, a.result))
	root.SetHelpCommandGroupID("other")
	return root
}

// exactly wants so many arguments, named in the usage line.
func exactly(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != n {
			return badUsage("%s: %s", cmd.CommandPath(), "usage: "+cmd.UseLine())
		}
		return nil
	}
}

// load reads the configuration.
func (a *app) load() (*config.Loaded, error) { return config.Load(a.config) }

// with opens the authority for one command.
func (a *app) with(ctx context.Context, f func(au *server.Authority) error) (err error) {
	l, err := a.load()
	if err != nil {
		return err
	}
	log := slog.New(slog.DiscardHandler) // what happened, the command says; it is an event as well
	au, err := server.Open(ctx, l.Config, a.deps.Version, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, au.Close()) }()
	return f(au)
}

// by is who gives the command, for the events.
func (a *app) by() string {
	by := fmt.Sprintf("uid:%d", os.Getuid())
	if s := a.deps.Getenv("SUDO_USER"); s != "" && os.Getuid() == 0 && len(s) <= 64 {
		by += " sudo:" + textout.Clean(s)
	}
	return by
}

// result prints what a command found out: one object with --json, else text.
func (a *app) result(v any, text func(w io.Writer)) {
	if a.json {
		writeJSON(a.deps.Stdout, v)
		return
	}
	text(a.deps.Stdout)
}

// printf writes a line for people, its arguments cleaned.
func printf(w io.Writer, format string, args ...any) {
	for i, v := range args {
		switch v := v.(type) {
		case string:
			args[i] = textout.Clean(v)
		case error:
			args[i] = textout.Clean(v.Error())
		}
	}
	_, _ = fmt.Fprintf(w, format, args...)
}

// columns is how wide what is written to w may be; 0: it is no terminal, or not known.
func (a *app) columns(w io.Writer) int {
	if !a.deps.IsTTY(w) {
		return 0
	}
	return a.deps.Width(w)
}

// paint returns the command.Painter of a stream.
func (a *app) paint(stream any) command.Painter {
	return command.Paint(a.deps.IsTTY(stream), a.deps.Getenv)
}

// stampJSON is nil, and so left out, when the time is not set.
func stampJSON(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

func (a *app) confirm(yes bool, question string) error {
	return a.deps.Confirm(a.in, yes, question)
}

// waits says that something is in force only once it was signed elsewhere.
func (a *app) waits(w io.Writer, waits bool) {
	if waits {
		printf(w, "%s the organisation's key lies elsewhere; take this to it and back:\n", a.paint(w).Yellow("Not in force yet:"))
		printf(w, "  sallyport-authority manifest pending > pending.json\n  sallyport-authority manifest sign --key organisation.key pending.json > signed.json   (where the key is)\n  sallyport-authority manifest import signed.json\n")
	}
}

// readInput reads a small file, or standard input for "-".
func (a *app) readInput(path string) ([]byte, error) {
	const most = 8 << 20
	var r io.Reader = a.in
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		r = f
	}
	b, err := io.ReadAll(io.LimitReader(r, most+1))
	if err == nil && len(b) > most {
		err = badUsage("%s is over %d bytes", path, most)
	}
	return b, err
}

// get asks the running server's monitoring port.
func get(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	answer, err := (&http.Client{Transport: &http.Transport{Proxy: nil}}).Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(answer.Body, 512))
	if answer.StatusCode != http.StatusOK {
		return &Error{Exit: ExitFailed, Text: strings.TrimSpace(string(text))}
	}
	return nil
}
