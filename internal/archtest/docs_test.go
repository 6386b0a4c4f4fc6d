package archtest

import (
	"go/ast"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestWhatVerificationNamesIsThere: docs/verification.md says which test shows what.
// Where it says in which package, the test is there; else it is somewhere.
func TestWhatVerificationNamesIsThere(t *testing.T) {
	tests := map[string]map[string]bool{} // name -> directories
	for _, s := range tree(t) {
		if !s.isTest() {
			continue
		}
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && strings.HasPrefix(f.Name.Name, "Test") {
				if tests[f.Name.Name] == nil {
					tests[f.Name.Name] = map[string]bool{}
				}
				tests[f.Name.Name][s.dir()] = true
			}
		}
	}
	text, err := os.ReadFile(filepath.Join(root(t), "docs", "verification.md"))
	if err != nil {
		t.Fatal(err)
	}
	name := regexp.MustCompile("`(Test[A-Za-z0-9]+)(\\.\\.\\.)?`")
	// Names, and the package in brackets behind them.
	placed := regexp.MustCompile("((?:`Test[A-Za-z0-9]+`(?:, | and )?)+) \\(((?:agent|authority|authplugin|internal|pam|installer)[a-z0-9/]*)[;,):]")
	n := 0
	for _, m := range name.FindAllStringSubmatch(string(text), -1) {
		if n++; m[2] == "" && tests[m[1]] == nil {
			t.Errorf("docs/verification.md names %s, and there is no such test", m[1])
		}
	}
	in := 0
	for _, m := range placed.FindAllStringSubmatch(string(text), -1) {
		for _, one := range name.FindAllStringSubmatch(m[1], -1) {
			if in++; tests[one[1]] != nil && !tests[one[1]][m[2]] {
				t.Errorf("docs/verification.md says that %s is in %s; it is in %v", one[1], m[2], tests[one[1]])
			}
		}
	}
	if n < 100 || in < 80 {
		t.Errorf("only %d names were read, %d with their package", n, in)
	}
}
