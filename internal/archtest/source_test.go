package archtest

import (
	"go/ast"
	"go/token"
	"slices"
	"strings"
	"testing"
)

// timeless are the packages that get the time passed in: what they decide has
// to be the same for the same inputs, and their tests have to be able to say
// that it is next year.
var timeless = []string{"internal/engine", "internal/factor", "internal/policy", "internal/organisation", "internal/vault"}

// waiting are functions that read the clock only to know how long they have
// waited for somebody else; nothing that is decided depends on it.
var waiting = []string{"internal/vault/vault.go takeLock"}

// TestTheTimeIsPassedIn: clock.Instant comes in as an argument, from the one
// place that reads the clocks, internal/clock.
func TestTheTimeIsPassedIn(t *testing.T) {
	read := 0
	for _, s := range tree(t) {
		if s.isTest() {
			continue
		}
		name := localName(s.file, "time")
		if name == "." {
			t.Errorf("%s imports time as .: the clock cannot be told from other names", s.name)
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if f, ok := n.(*ast.FuncDecl); ok && slices.Contains(waiting, s.name+" "+f.Name.Name) {
				return false
			}
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			x, ok := sel.X.(*ast.Ident)
			if !ok || x.Name != name || !slices.Contains([]string{"Now", "Since", "Until"}, sel.Sel.Name) {
				return true
			}
			read++
			if below(s.dir(), timeless...) {
				t.Errorf("%s:%d reads the clock with time.%s: take a clock.Instant", s.name, fileSet.Position(sel.Pos()).Line, sel.Sel.Name)
			}
			return true
		})
	}
	if read == 0 {
		t.Error("nobody reads the clock: this test sees nothing")
	}
}

// localName is what a file calls an import; "" when it has none.
func localName(f *ast.File, path string) string {
	for _, spec := range f.Imports {
		if spec.Path.Value != `"`+path+`"` {
			continue
		}
		if spec.Name != nil {
			return spec.Name.Name
		}
		return path[strings.LastIndexByte(path, '/')+1:]
	}
	return ""
}

// documented are the directories whose packages have to say what they are.
var documented = []string{"agent", "authority", "authplugin", "installer", "internal", "pam"}

func TestEveryPackageHasAComment(t *testing.T) {
	comments := map[string]string{} // by directory; "" is none yet
	for _, s := range tree(t) {
		if s.isTest() || !below(s.dir(), documented...) {
			continue
		}
		if _, ok := comments[s.dir()]; !ok {
			comments[s.dir()] = ""
		}
		text := s.file.Doc.Text()
		if text == "" {
			continue
		}
		if comments[s.dir()] != "" {
			t.Errorf("%s: the package has a second comment", s.name)
		}
		comments[s.dir()] = text
		if want := "Package " + s.file.Name.Name + " "; s.file.Name.Name != "main" && !strings.HasPrefix(text, want) {
			t.Errorf("%s: the package's comment does not begin with %q", s.name, want)
		}
	}
	for dir, text := range comments {
		if text == "" {
			t.Errorf("%s has no package comment", dir)
		}
	}
	if len(comments) == 0 {
		t.Error("no package was seen")
	}
}

// selfEvident are methods whose meaning an interface of the standard library
// fixes: fmt.Stringer, error, and what errors.Is and errors.Unwrap look for.
var selfEvident = []string{"String", "Error", "Unwrap", "Is"}

func TestWhatIsExportedHasAComment(t *testing.T) {
	seen := 0
	for _, s := range tree(t) {
		if s.isTest() || !below(s.dir(), documented...) || s.file.Name.Name == "main" {
			continue
		}
		report := func(name *ast.Ident) {
			t.Errorf("%s:%d: %s has no comment", s.name, fileSet.Position(name.Pos()).Line, name.Name)
		}
		for _, d := range s.file.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if !d.Name.IsExported() || d.Recv != nil && !receiver(d).IsExported() {
					continue
				}
				seen++
				if d.Doc.Text() == "" && !(d.Recv != nil && slices.Contains(selfEvident, d.Name.Name)) {
					report(d.Name)
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					switch spec := spec.(type) {
					case *ast.TypeSpec:
						if spec.Name.IsExported() {
							seen++
							// The comment of a group is not a type's own.
							if spec.Doc.Text() == "" && (d.Doc.Text() == "" || d.Lparen.IsValid()) {
								report(spec.Name)
							}
						}
					case *ast.ValueSpec:
						for _, name := range spec.Names {
							if name.IsExported() {
								seen++
								if spec.Doc.Text() == "" && spec.Comment.Text() == "" && d.Doc.Text() == "" {
									report(name)
								}
							}
						}
					}
				}
			}
		}
	}
	if seen == 0 {
		t.Error("nothing exported was seen")
	}
}

// receiver is the name of a method's type.
func receiver(d *ast.FuncDecl) *ast.Ident {
	e := d.Recv.List[0].Type
	for {
		switch x := e.(type) {
		case *ast.StarExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.IndexListExpr:
			e = x.X
		case *ast.Ident:
			return x
		default:
			return &ast.Ident{Name: "_", NamePos: token.NoPos}
		}
	}
}
