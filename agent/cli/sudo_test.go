package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/internal/command"
	"sallyport/pam/sudolocal"
)

func TestSudoIsGuardedAndNoLonger(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{sudolocal.Sudo: "auth include sudo_local\nauth required pam_opendirectory.so\n", sudolocal.Module: "module"} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o444); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []struct {
		do   string
		exit int
		says string
	}{
		{"check", ExitFailed, "sudo is not guarded: the password is enough."},
		{"install", ExitOK, "sudo asks for the second factor."},
		{"check", ExitOK, "sudo asks for the second factor."},
		{"remove", ExitOK, "sudo is not guarded: the password is enough."},
	} {
		var out, errs strings.Builder
		a := &app{deps: Deps{Stdout: &out, Stderr: &errs, IsTTY: func(any) bool { return false }}}
		a.deps.fill()
		exit, _ := command.Execute(t.Context(), a.sudoCommand(root), []string{step.do})
		if exit != step.exit || !strings.HasPrefix(out.String(), step.says) {
			t.Errorf("%s: exit %d, %s%s", step.do, exit, out.String(), errs.String())
		}
	}
}
