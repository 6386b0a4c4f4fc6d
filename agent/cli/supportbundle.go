package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport/agent/cli/bundle"
	"sallyport/internal/event"
	"sallyport/internal/textout"
	adminv1 "sallyport/proto/sallyport/admin/v1"
)

const (
	// bundleEvents and bundleLines bound what is taken of the events and of the log.
	bundleEvents = "5000"
	bundleLines  = "5000"
	// What hangs must not keep the helpdesk from the rest: a program of the system, the
	// agent itself.
	bundleWait = 20 * time.Second
	agentWait  = 10 * time.Second
)

func (a *app) supportBundleCommand() *cobra.Command {
	var out, since string
	var redact bool
	c := &cobra.Command{
		Use:   "support-bundle",
		Short: "collect what whoever looks into a problem needs, in one file without secrets",
		Long: `Writes a .tar.gz with the version, status, doctor, the settings in force, the last
events, the agent's log, and how this computer's logins are set up. MANIFEST.txt in
it says what is there and what could not be had. It works as far as it can while the
agent does not run. Run it as root or administrator, else much of it is missing.

No seeds, codes, keys, tokens or passwords are in it. User names, addresses and this
computer's name are; look through it before you send it.`,
		Example: `  sallyport support-bundle
  sallyport support-bundle --since 3d --redact-users --out /tmp/pc42.tar.gz`,
		Args: cobra.NoArgs,
		RunE: do(func(cmd *cobra.Command, _ []string) error {
			back, err := parseFor(since)
			if err != nil {
				return badUsage("--since %s: from 1m to 7d, such as 24h or 3d", clean(since))
			}
			return a.supportBundle(cmd.Context(), out, a.deps.Now().Add(-back), redact)
		}),
	}
	c.Flags().StringVar(&out, "out", "", "write `FILE`, which must not be there yet (default: a name with this computer's and the time, here)")
	c.Flags().StringVar(&since, "since", "24h", "how far back events and the log go: `TIME` such as 24h or 3d")
	c.Flags().BoolVar(&redact, "redact-users", false, "replace the names of users by user-1 and so on")
	_ = c.MarkFlagFilename("out", "tar.gz")
	_ = c.RegisterFlagCompletionFunc("since", cobra.FixedCompletions([]string{"1h", "24h", "7d"}, cobra.ShellCompDirectiveNoFileComp))
	return c
}

// bundleView is `support-bundle --json`.
type bundleView struct {
	File  string     `json:"file"`
	Bytes int        `json:"bytes"`
	Parts []partView `json:"parts"`
}

type partView struct {
	Name    string `json:"name"`
	Bytes   int    `json:"bytes"`
	Missing string `json:"missing,omitempty"`
}

func (a *app) supportBundle(ctx context.Context, out string, since time.Time, redact bool) error {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	b := &bundle.Bundle{Version: a.deps.Version, Host: host, Made: a.deps.Now()}
	if out == "" {
		out = bundle.FileName(host, b.Made)
	}
	if _, err := os.Lstat(out); err == nil {
		return &Error{Exit: ExitConflict, Text: out + " is there already, and is not overwritten", Remedy: "give another name: --out FILE"}
	}
	for _, p := range a.bundleParts(ctx, since) {
		text, err := p.get()
		part := bundle.Part{Name: p.name, What: p.what, Text: text, Log: p.log}
		if err != nil {
			part.Missing = err.Error()
		}
		b.Add(part)
	}
	if redact {
		b.Names = bundle.NewNames(a.bundleNames(ctx, b.Parts))
	}
	packed, err := b.Pack()
	if err == nil {
		err = bundle.Write(out, packed)
	}
	switch {
	case errors.Is(err, fs.ErrExist):
		return &Error{Exit: ExitConflict, Text: out + " is there already, and is not overwritten", Remedy: "give another name: --out FILE"}
	case err != nil:
		return failed("the bundle cannot be written: %v", err)
	}
	v := bundleView{File: out, Bytes: len(packed), Parts: []partView{}}
	for _, p := range b.Parts {
		p.Missing = b.Names.Replace(p.Missing)
		v.Parts = append(v.Parts, partView{p.Name, len(p.Text), p.Missing})
	}
	a.result(v, func(w io.Writer) { a.printBundle(w, v, redact) })
	return nil
}

func (a *app) printBundle(w io.Writer, v bundleView, redacted bool) {
	p := a.paint(w)
	_, _ = fmt.Fprintf(w, "%s %s (%s)\n", p.Green("written:"), clean(v.File), size(int64(v.Bytes)))
	for _, part := range v.Parts {
		if part.Missing != "" {
			_, _ = fmt.Fprintf(w, "%s %-13s %s\n", p.Yellow("missing:"), clean(part.Name), textout.Fold(clean(part.Missing), a.columns(w), 23))
		}
	}
	names := "It holds user names (--redact-users replaces them),"
	if redacted {
		names = "User names are replaced. It holds"
	}
	_, _ = fmt.Fprintf(w, "\n%s\n%s\n%s\n", names+" addresses and this computer's name;", "no seeds, codes, keys, tokens or passwords. Look through it before you send it:",
		"  tar -xzOf "+quoteArg(v.File)+" | less")
}

// bundlePart is one file of the bundle, and how it is come by. What there is of it
// counts also when there is an error.
type bundlePart struct {
	name, what string
	log        bool
	get        func() (string, error)
}

func (a *app) bundleParts(ctx context.Context, since time.Time) []bundlePart {
	own := func(args ...string) func() (string, error) {
		return func() (string, error) { return a.own(args...) }
	}
	parts := []bundlePart{
		{name: "version.txt", what: "versions of Sallyport and of the system", get: func() (string, error) { return a.bundleVersion(ctx) }},
		{name: "status.txt", what: "sallyport status", get: own("status")},
		{name: "status.json", what: "the same for programs", get: own("status", "--json")},
		{name: "doctor.txt", what: "sallyport doctor: the usual mistakes", get: own("doctor")},
		{name: "config.txt", what: "the settings in force and where each comes from", get: own("config", "show")},
		{name: "events.jsonl", what: "the events since " + since.UTC().Format(time.RFC3339), get: func() (string, error) { return a.bundleEvents(since) }},
		{name: "files.txt", what: "the state and configuration directories: names, sizes and modes, no content", get: a.bundleFiles},
	}
	return append(parts, a.platformParts(ctx, since)...)
}

// own runs a command of ours as whoever asked would, and returns what it printed.
func (a *app) own(args ...string) (string, error) {
	var out, errOut bytes.Buffer
	deps := a.deps
	deps.Stdin, deps.Stdout, deps.Stderr = strings.NewReader(""), &out, &errOut
	deps.IsTTY = func(any) bool { return false }
	deps.CallTimeout = min(deps.CallTimeout, agentWait)
	line := []string{"--config", a.config}
	if a.runtimeDir != "" {
		line = append(line, "--runtime-dir", a.runtimeDir)
	}
	Main(append(line, args...), deps)
	// status and doctor fail with what they found; only what has no output is missing.
	if out.Len() == 0 {
		why, _, _ := strings.Cut(strings.TrimSpace(errOut.String()), "\n")
		var e struct{ Error struct{ Message string } }
		if json.Unmarshal([]byte(why), &e) == nil {
			why = e.Error.Message
		}
		return "", errors.New(strings.TrimPrefix(why, "sallyport: "))
	}
	return out.String() + errOut.String(), nil
}

func (a *app) bundleVersion(ctx context.Context) (string, error) {
	var b strings.Builder
	_, _ = fmt.Fprintf(&b, "sallyport %s, %s/%s, %s\n", a.deps.Version, runtime.GOOS, runtime.GOARCH, runtime.Version())
	if path, err := os.Executable(); err == nil {
		_, _ = fmt.Fprintf(&b, "program %s\n", path)
	}
	var failed error
	for _, line := range versionCommands {
		text, err := a.program(ctx, line[0], line[1:]...)
		b.WriteString(text)
		failed = errors.Join(failed, err)
	}
	if text, err := fs.ReadFile(a.deps.Root, "etc/os-release"); err == nil {
		b.Write(text)
	}
	return b.String(), failed
}

// program runs a program of the system for a while.
func (a *app) program(ctx context.Context, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, bundleWait)
	defer cancel()
	out, err := a.deps.Command(ctx, name, args...)
	if err != nil {
		why := err.Error()
		var exit *exec.ExitError
		if errors.As(err, &exit) && len(exit.Stderr) > 0 {
			why, _, _ = strings.Cut(strings.TrimSpace(string(exit.Stderr)), "\n")
		}
		err = fmt.Errorf("%s: %s", strings.Join(append([]string{name}, args[:min(1, len(args))]...), " "), why)
	}
	return string(out), err
}

// bundleEvents are those since a time, as they are kept.
func (a *app) bundleEvents(since time.Time) (string, error) {
	text, err := a.own("events", "--json", "--last", bundleEvents)
	var b strings.Builder
	for line := range strings.Lines(text) {
		var e event.Event
		if json.Unmarshal([]byte(line), &e) != nil || !e.Time.Before(since) {
			b.WriteString(line)
		}
	}
	if err == nil && b.Len() == 0 {
		err = errors.New("there are no events since then")
	}
	return b.String(), err
}

// bundleFiles lists the directories of ours, and of the state all that is below.
func (a *app) bundleFiles() (string, error) {
	const most = 1000
	state := a.bundleStateDir()
	dirs := []string{filepath.Dir(a.config), filepath.Join(filepath.Dir(a.config), "config.d"), a.socketDir(), state}
	var b strings.Builder
	var failed error
	n := 0
	for _, dir := range dirs {
		if dir == "" || strings.HasPrefix(dir, `\\.\pipe`) {
			continue
		}
		_, _ = fmt.Fprintf(&b, "%s:\n", clean(dir))
		_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			switch n++; {
			case n > most:
				return filepath.SkipAll
			case errors.Is(err, fs.ErrNotExist):
				b.WriteString("  is not there\n")
				return nil
			case err != nil:
				failed = errors.Join(failed, err)
				return nil
			}
			if st, err := d.Info(); err == nil { // else it went away
				name, _ := filepath.Rel(dir, path)
				_, _ = fmt.Fprintf(&b, "  %s %s %9d %s %s\n", st.Mode(), fileOwner(st), st.Size(), st.ModTime().UTC().Format(time.RFC3339), clean(name))
			}
			if d.IsDir() && path != dir && dir != state {
				return fs.SkipDir
			}
			return nil
		})
	}
	if n > most {
		failed = errors.Join(failed, fmt.Errorf("there are more than %d files", most))
	}
	return b.String(), failed
}

// bundleStateDir is where the state is; "" when nobody can say.
func (a *app) bundleStateDir() string {
	text, err := a.own("config", "show", "--json")
	var v configView
	if err != nil || json.Unmarshal([]byte(text), &v) != nil {
		return ""
	}
	for _, value := range v.Values {
		if value.Key == "state_dir" {
			return strings.Trim(value.Value, `"'`)
		}
	}
	return ""
}

// bundleNames are the names of people that this computer knows of: of its accounts, of
// the agent's records, of its events and of its settings.
func (a *app) bundleNames(ctx context.Context, parts []bundle.Part) []string {
	var names []string
	_ = a.call(ctx, func(ctx context.Context, c *agent) error { // one that is dead knows nobody
		answer, err := c.ListUsers(ctx, &adminv1.ListUsersRequest{})
		for _, u := range answer.GetUsers() {
			names = append(names, u.GetName())
		}
		for _, u := range answer.GetPending() {
			names = append(names, u.GetName())
		}
		return err
	})
	for _, p := range parts {
		switch p.Name {
		case "events.jsonl":
			for line := range strings.Lines(p.Text) {
				var e event.Event
				if json.Unmarshal([]byte(line), &e) == nil {
					names = append(names, e.User, strings.TrimPrefix(e.By, "operator:"))
				}
			}
		case "config.txt":
			for line := range strings.Lines(p.Text) {
				key, value, _ := strings.Cut(line, " = ")
				if strings.HasSuffix(key, ".users") {
					value, _, _ = strings.Cut(value, "]")
					names = append(names, strings.FieldsFunc(value, func(r rune) bool { return strings.ContainsRune(`[]'", `, r) })...)
				}
			}
		}
	}
	names = append(names, a.deps.Getenv("SUDO_USER"), a.deps.Getenv("USERNAME"))
	return append(names, a.accountNames()...)
}

// accountNames are those of the people in /etc/passwd, and of their home directories:
// whoever a directory server knows has at least that.
func (a *app) accountNames() []string {
	var names []string
	if f, err := a.deps.Root.Open("etc/passwd"); err == nil {
		defer func() { _ = f.Close() }()
		for s := bufio.NewScanner(f); s.Scan(); {
			fields := strings.Split(s.Text(), ":")
			if len(fields) == 7 && len(fields[2]) >= 4 && fields[0] != "nobody" { // from 1000 on: login.defs(5)
				names = append(names, fields[0])
			}
		}
	}
	for _, dir := range []string{"home", "Users"} {
		entries, err := fs.ReadDir(a.deps.Root, dir)
		for _, e := range entries {
			if err == nil && e.IsDir() && !slices.Contains([]string{"Shared", "Public", "Default", "lost+found"}, e.Name()) {
				names = append(names, e.Name())
			}
		}
	}
	return names
}
