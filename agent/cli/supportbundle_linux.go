package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// versionCommands say what system this is, besides /etc/os-release.
var versionCommands = [][]string{{"uname", "-srmo"}, {"systemctl", "--version"}}

func (a *app) platformParts(ctx context.Context, since time.Time) []bundlePart {
	return []bundlePart{
		{name: "log.txt", what: "what the agent and the PAM module logged", log: true, get: func() (string, error) { return a.journal(ctx, since) }},
		{name: "pam.txt", what: "the auth and account lines of /etc/pam.d", get: a.pamLines},
		{name: "sshd.txt", what: "what sshd does about logins: sshd -T", get: func() (string, error) { return a.sshd(ctx) }},
		{name: "unit.txt", what: "what systemd knows of the agent; no environment", get: func() (string, error) {
			return a.program(ctx, "systemctl", "show", "sallyport.service", "--property="+
				"LoadState,ActiveState,SubState,Result,UnitFileState,FragmentPath,DropInPaths,MainPID,NRestarts,ExecMainStatus,ExecMainCode,ActiveEnterTimestamp,InactiveEnterTimestamp,MemoryCurrent,MemoryPeak,TasksCurrent,NeedDaemonReload")
		}},
	}
}

// journal is what was logged since a time: to the journal, or where there is none to
// the files of syslog.
func (a *app) journal(ctx context.Context, since time.Time) (string, error) {
	args := []string{"--no-pager", "--quiet", "--output=short-iso", "--lines=" + bundleLines, fmt.Sprintf("--since=@%d", since.Unix())}
	agent, err := a.program(ctx, "journalctl", append(args, "--unit=sallyport.service")...)
	// It fails when nothing matches.
	module, _ := a.program(ctx, "journalctl", append(args, "--grep=pam_sallyport")...)
	text := agent
	if module != "" {
		text += "\n# pam_sallyport, in the log of whoever asked it\n" + module
	}
	if err != nil || text == "" {
		lines, err2 := a.syslogFiles()
		text += lines
		err = errors.Join(err, err2)
	}
	if text == "" && err == nil {
		err = errors.New("nothing was logged since then")
	}
	return text, err
}

// syslogFiles are the lines about us at the end of syslog's files.
func (a *app) syslogFiles() (string, error) {
	const tail = 1 << 20
	var b strings.Builder
	var failed error
	for _, name := range []string{"var/log/auth.log", "var/log/secure", "var/log/syslog", "var/log/messages"} {
		f, err := a.deps.Root.Open(name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		var text []byte
		if err == nil {
			if s, ok := f.(io.Seeker); ok {
				if size, err := s.Seek(0, io.SeekEnd); err == nil {
					_, _ = s.Seek(max(0, size-tail), io.SeekStart)
				}
			}
			text, err = io.ReadAll(io.LimitReader(f, tail))
			_ = f.Close()
		}
		failed = errors.Join(failed, err)
		for line := range strings.Lines(string(text)) {
			if strings.Contains(line, "sallyport") {
				b.WriteString(line)
			}
		}
	}
	return b.String(), failed
}

// sshdKeys are the settings of sshd_config(5) that decide how somebody logs in.
var sshdKeys = []string{"usepam", "kbdinteractiveauthentication", "passwordauthentication", "pubkeyauthentication", "gssapiauthentication", "hostbasedauthentication",
	"authenticationmethods", "permitrootlogin", "permitemptypasswords", "logingracetime", "maxauthtries", "maxstartups", "maxsessions", "usedns"}

func (a *app) sshd(ctx context.Context) (string, error) {
	text, err := a.program(ctx, "sshd", "-T", "-C", "user=nobody,host=localhost,addr=127.0.0.1,laddr=127.0.0.1,lport=22")
	var b strings.Builder
	for line := range strings.Lines(text) {
		if key, _, _ := strings.Cut(line, " "); slices.Contains(sshdKeys, strings.ToLower(key)) {
			b.WriteString(line)
		}
	}
	return b.String(), err
}
