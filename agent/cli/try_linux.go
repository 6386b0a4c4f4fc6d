package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	adminv1 "sallyport/proto/sallyport/admin/v1"
)

// tryProgram is a program of its own: it needs libpam, which the agent does not.
const tryProgram = "sallyport-try"

// libexec is where packages put programs that are not for the PATH.
var libexec = []string{"/usr/libexec/sallyport", "/usr/lib/sallyport"}

func (a *app) tryCommand() *cobra.Command {
	var service, confdir, rhost string
	c := &cobra.Command{
		Use:   "try USER",
		Short: "run one login through this computer's PAM stacks and show each step",
		Long: `Runs one login for USER through the stack of a PAM service, as the login program
would, and shows each question, notice, step and the verdict. No session is
opened. A code that is typed here is used; a wrong one counts. Run it as root, or
as USER: what an unprivileged caller may try of others is nothing.

Exit status: 0 let in, 1 refused, 2 refused because a module could not reach its
service (the agent is not running).`,
		Example: `  sallyport try alice
  sallyport try alice --service sshd --rhost 192.0.2.7`,
		Args:              oneUser,
		ValidArgsFunction: a.completeUser,
		RunE: do(func(cmd *cobra.Command, args []string) error {
			program, err := a.findTry()
			if err != nil {
				return err
			}
			a.noteAgentDown(cmd.Context())
			argv := []string{program, "--service=" + service}
			if confdir != "" {
				argv = append(argv, "--confdir="+confdir)
			}
			if rhost != "" {
				argv = append(argv, "--rhost="+rhost)
			}
			if a.json {
				argv = append(argv, "--json")
			}
			run := a.deps.Exec
			if run == nil {
				run = execProgram
			}
			exit, err := run(program, append(argv, "--", args[0]))
			switch {
			case err != nil:
				return err
			case exit != ExitOK:
				return errQuiet(exit)
			}
			return nil
		}),
	}
	c.Flags().StringVar(&service, "service", "login", "the PAM service: the `NAME` of a file in /etc/pam.d")
	c.Flags().StringVar(&confdir, "config-dir", "", "read the stacks from `DIR`, not from /etc/pam.d")
	c.Flags().StringVar(&rhost, "rhost", "", "say that the login comes from `HOST`")
	_ = c.MarkFlagDirname("config-dir")
	return c
}

// findTry looks beside this program first, so that both are of one build.
func (a *app) findTry() (string, error) {
	var dirs []string
	if self, err := a.deps.Executable(); err == nil {
		if real, err := filepath.EvalSymlinks(self); err == nil {
			self = real
		}
		dirs = append(dirs, filepath.Dir(self))
	}
	for _, dir := range append(dirs, libexec...) {
		path := filepath.Join(dir, tryProgram)
		if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	if path, err := exec.LookPath(tryProgram); err == nil {
		return path, nil
	}
	return "", &Error{Exit: ExitFailed, Text: fmt.Sprintf("%s is neither beside this program nor in the PATH", tryProgram),
		Remedy: "it comes with the package; from the source: ./build.sh build"}
}

// noteAgentDown says beforehand why the login is about to be refused.
func (a *app) noteAgentDown(ctx context.Context) {
	err := a.call(ctx, func(ctx context.Context, c *agent) error {
		_, err := c.Status(ctx, &adminv1.StatusRequest{})
		return err
	})
	var e *Error
	if errors.As(err, &e) && isDown(err) {
		_, _ = fmt.Fprintf(a.deps.Stderr, "note: %s\n  %s\n", clean(e.Text), clean(e.Remedy))
	}
}

// execProgram replaces this process, so that the terminal has one owner.
func execProgram(path string, argv []string) (int, error) {
	err := syscall.Exec(path, argv, os.Environ())
	return ExitFailed, fmt.Errorf("%s does not start: %w", path, err)
}
