package enrol_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestTheEventsAreStableAndInTheDocs compares the constants with the list that was
// shipped, and with what people are told.
func TestTheEventsAreStableAndInTheDocs(t *testing.T) {
	b, err := os.ReadFile("testdata/events.txt")
	if err != nil {
		t.Fatal(err)
	}
	shipped := strings.Fields(string(b))
	f, err := parser.ParseFile(token.NewFileSet(), "enrol.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	ast.Inspect(f, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		of, ok := spec.Type.(*ast.SelectorExpr)
		if !ok || of.Sel.Name != "Name" {
			return true
		}
		for _, v := range spec.Values {
			name, err := strconv.Unquote(v.(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, name)
		}
		return true
	})
	slices.Sort(names)
	if !slices.Equal(names, shipped) {
		t.Errorf("the constants are %q, testdata/events.txt has %q: add what is new; never rename", names, shipped)
	}
	docs, err := os.ReadFile("../../docs/events.md")
	if err != nil {
		t.Fatal(err)
	}
	_, own, _ := strings.Cut(string(docs), "\n## Of the authority\n")
	own, _, _ = strings.Cut(own, "\n## ")
	for _, name := range names {
		if !strings.Contains(own, "`"+name+"`") {
			t.Errorf("%s is not in docs/events.md, Of the authority", name)
		}
	}
	if len(names) < 20 {
		t.Errorf("only %q were found", names)
	}
}
