package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const module = "sallyport"

// source is one Go file of the project, whatever its build constraints.
type source struct {
	name string // relative to the module, with slashes
	file *ast.File
}

// dir is the package's directory, which is also its import path below module.
func (s source) dir() string { return path.Dir(s.name) }

func (s source) isTest() bool { return strings.HasSuffix(s.name, "_test.go") }

// imported is one import; ours are named as their directories.
type imported struct {
	path string
	ours bool
	line int
}

func (s source) imports(t *testing.T) []imported {
	t.Helper()
	var list []imported
	for _, spec := range s.file.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		i := imported{path: p, line: fileSet.Position(spec.Pos()).Line}
		if below, ok := strings.CutPrefix(p, module+"/"); ok {
			i.path, i.ours = below, true
		}
		list = append(list, i)
	}
	return list
}

var fileSet = token.NewFileSet()

// root is the directory of go.mod.
func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "go.mod")); err != nil {
		t.Fatalf("these tests read the project's source: %v", err)
	}
	return dir
}

// tree parses every Go file of the project, once.
func tree(t *testing.T) []source {
	t.Helper()
	list, err := parsed(root(t))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

var parsed = func() func(string) ([]source, error) {
	var once sync.Once
	var list []source
	var err error
	return func(dir string) ([]source, error) {
		once.Do(func() { list, err = parse(dir) })
		return list, err
	}
}()

func parse(dir string) (list []source, err error) {
	err = fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		// As the go command does, and what is built.
		base := path.Base(name)
		if d.IsDir() && name != "." && (strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") || base == "testdata" || name == "dist") {
			return fs.SkipDir
		}
		if d.IsDir() || path.Ext(name) != ".go" {
			return nil
		}
		f, err := parser.ParseFile(fileSet, filepath.Join(dir, name), nil, parser.ParseComments|parser.SkipObjectResolution)
		if err == nil {
			list = append(list, source{name, f})
		}
		return err
	})
	return list, err
}

// below says whether a directory is one of those named, or below one.
func below(dir string, parents ...string) bool {
	for _, p := range parents {
		if dir == p || strings.HasPrefix(dir, p+"/") {
			return true
		}
	}
	return false
}
