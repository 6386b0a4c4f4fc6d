package manpage

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func program() *cobra.Command {
	run := func(*cobra.Command, []string) {}
	root := &cobra.Command{Use: "prog", Short: "a program", Run: run}
	child := &cobra.Command{Use: "remove USER", Short: "remove somebody", Example: "  prog remove 'o''hara'\n.so /etc/passwd", Run: run}
	child.Flags().BoolP("yes", "y", false, "do not ask")
	secret := &cobra.Command{Use: "secret", Hidden: true, Run: run}
	root.AddCommand(child, secret)
	return root
}

func TestAPageForEachCommandButTheHidden(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "man1")
	files, err := Write(program(), dir, "1.2", "  0  done\n")
	if err != nil || len(files) != 2 {
		t.Fatalf("%q, %v", files, err)
	}
	page, err := os.ReadFile(filepath.Join(dir, "prog-remove.1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{".TH PROG\\-REMOVE 1", "sallyport 1.2", "remove somebody", "\n.B \\-y, \\-\\-yes\ndo not ask\n", "0  done", ".BR prog (1)"} {
		if !strings.Contains(string(page), want) {
			t.Errorf("the page lacks %q:\n%s", want, page)
		}
	}
}

// What a help text says is text: no line of it is a request to roff.
func TestAHelpTextIsNoRequestToRoff(t *testing.T) {
	text := page(program().Commands()[0], "1.2", "")
	if !strings.Contains(text, "\n\\&.so /etc/passwd\n") || strings.Contains(text, "o''hara") {
		t.Errorf("%s", text)
	}
	mandoc, err := exec.LookPath("groff")
	if err != nil {
		t.Log("groff is not here: the page was not set")
		return
	}
	c := exec.Command(mandoc, "-man", "-Tutf8", "-ww")
	c.Stdin = strings.NewReader(text)
	if out, err := c.CombinedOutput(); err != nil || !strings.Contains(string(out), ".so /etc/passwd") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestADirectoryThatCannotBeMadeIsAnError(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Write(program(), file, "1.2", ""); err == nil {
		t.Error("no error")
	}
}
