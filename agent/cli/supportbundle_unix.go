//go:build unix

package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strings"
	"syscall"

	"sallyport/agent/cli/pamstack"
)

func fileOwner(st fs.FileInfo) string {
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		return fmt.Sprintf("%d:%d", sys.Uid, sys.Gid)
	}
	return "?"
}

// pamLines are the lines of all PAM files that are about auth and account. What other
// modules are given may be a password of theirs: of a value only a number is shown.
func (a *app) pamLines() (string, error) {
	var b strings.Builder
	var failed error
	for _, dir := range []string{"etc/pam.d", "usr/lib/pam.d"} {
		entries, err := fs.ReadDir(a.deps.Root, dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed = errors.Join(failed, err)
		}
		for _, e := range entries {
			if !e.Type().IsRegular() && e.Type()&fs.ModeSymlink == 0 {
				continue
			}
			f, err := a.deps.Root.Open(path.Join(dir, e.Name()))
			if err != nil {
				failed = errors.Join(failed, err)
				continue
			}
			n := 0
			for s := bufio.NewScanner(f); s.Scan(); {
				n++
				if line := pamLine(s.Text()); line != "" {
					_, _ = fmt.Fprintf(&b, "/%s/%s:%d: %s\n", dir, clean(e.Name()), n, clean(line))
				}
			}
			_ = f.Close()
		}
	}
	return b.String(), failed
}

// pamRule is a line of pam.conf(5): its type, its control, the module, its arguments.
var pamRule = regexp.MustCompile(`^(-?(?i:auth|account|password|session))\s+(\[[^\]]*\]|\S+)\s+(\S+)\s*(.*)$`)

// pamLine is a line as it may be shown; "" for one that is about something else.
func pamLine(line string) string {
	line = strings.TrimSpace(line)
	m := pamRule.FindStringSubmatch(line)
	switch {
	case strings.HasPrefix(line, "@include"):
		return line
	case m == nil:
		return ""
	case strings.Contains(m[3], pamstack.Module):
		return line
	case !strings.HasSuffix(strings.ToLower(m[1]), "auth") && !strings.HasSuffix(strings.ToLower(m[1]), "account"):
		return ""
	}
	args := strings.Fields(m[4])
	for i, arg := range args {
		if name, value, ok := strings.Cut(arg, "="); ok && strings.Trim(value, "0123456789") != "" {
			args[i] = name + "=..."
		}
	}
	return strings.Join(append(m[1:4], args...), " ")
}
