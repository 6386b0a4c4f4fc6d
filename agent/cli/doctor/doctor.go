// Package doctor finds the usual mistakes in how Sallyport is put into a
// computer's logins. It reads and asks, and changes nothing; each check is a
// function of an Env, so that each can be tested on files that are not there.
package doctor

import (
	"context"
	"fmt"
	"io/fs"
	"time"

	"sallyport/internal/identity"
)

// Status is how a check came out.
type Status string

// The outcomes. Only Fail makes `sallyport doctor` fail.
const (
	OK   Status = "ok"
	Info Status = "info" // so that you know; nothing to do
	Warn Status = "warn" // works, but not as well as it should
	Fail Status = "fail" // somebody gets in without a code, or cannot get in with one
)

// Result is one finding.
type Result struct {
	Check  string `json:"check"` // stable, such as "sshd"
	Status Status `json:"status"`
	Text   string `json:"text"`
	Remedy string `json:"remedy,omitempty"`
}

// Env is the computer, as the checks see it.
type Env struct {
	// Run runs a program and returns what it wrote.
	Run func(ctx context.Context, name string, args ...string) ([]byte, error)
	// Peer is the account that listens on a socket, or owns a pipe.
	Peer func(socket string) (identity.ID, error)

	// Windows is what only a Windows computer has, and Mac what only a Mac; with
	// neither this is a Linux.
	Windows *Windows
	Mac     *Mac

	Root  fs.FS // from / on; this and the next ones are a Unix computer's
	EUID  int
	Lstat func(path string) (Stat, error)
	// Synchronised says whether Linux's clock is.
	Synchronised func() (bool, error)

	Version     string // of the agent, or of this program when none answers
	Config      string // the path of the configuration
	RuntimeDir  string
	LoginSocket string
	AdminSocket string
	// AgentDown says why no agent answers; empty: one does.
	AgentDown   string
	AgentRemedy string
	AgentNote   string        // set when it cannot be asked how it is
	Problems    []Problem     // what the agent complains of, or why it cannot start
	PromptTime  time.Duration // how long a person may take to type the code
	Keychain    string        // where the vault's key is, such as "wincred"; empty: that cannot be told
	Authority   *Authority    // nil: none was joined, or the agent cannot say
}

// Problem is one of the agent's own.
type Problem struct {
	Text, Remedy string
	Warning      bool // logins are as they should be
}

// Check runs every check.
func Check(ctx context.Context, e *Env) []Result {
	checks := []check{checkAgent, checkSockets, checkModule, checkStacks, checkAccount, checkProfiles, checkSSHD, checkAuthority, checkUnit,
		checkClock, checkSELinux, checkBreakGlass, checkUncovered}
	switch {
	case e.Mac != nil:
		checks = []check{checkAgent, checkDaemon, checkSockets, checkMacFiles, checkSystemKeychain, checkRights, checkSudo, checkAuthority,
			checkNetworkTime, checkBreakGlassList, checkFileVault, checkPlatformSSO, checkAutoLogin, checkRemoteWays, checkOtherMacWays}
	case e.Windows != nil:
		checks = []check{checkAgent, checkService, checkPipes, checkFiles, checkKeychain, checkProvider, checkSettings, checkAuthority,
			checkWindowsTime, checkEmergencyAccounts, checkOtherWays}
	}
	var out []Result
	for _, check := range checks {
		out = append(out, check(ctx, e)...)
	}
	return out
}

// check is one of them.
type check = func(context.Context, *Env) []Result

func ok(check, format string, args ...any) Result {
	return Result{Check: check, Status: OK, Text: fmt.Sprintf(format, args...)}
}

func info(check, format string, args ...any) Result {
	return Result{Check: check, Status: Info, Text: fmt.Sprintf(format, args...)}
}

func warn(check, remedy, format string, args ...any) Result {
	return Result{check, Warn, fmt.Sprintf(format, args...), remedy}
}

func fail(check, remedy, format string, args ...any) Result {
	return Result{check, Fail, fmt.Sprintf(format, args...), remedy}
}

func checkAgent(_ context.Context, e *Env) []Result {
	var out []Result
	switch {
	case e.AgentDown != "":
		out = append(out, fail("agent", e.AgentRemedy, "%s", e.AgentDown))
	case e.AgentNote != "":
		out = append(out, info("agent", "how it is cannot be told: %s", e.AgentNote))
	case len(e.Problems) == 0:
		out = append(out, ok("agent", "it runs and complains of nothing"))
	}
	for _, p := range e.Problems {
		report := fail
		if p.Warning {
			report = warn
		}
		out = append(out, report("agent", p.Remedy, "%s", p.Text))
	}
	return out
}
