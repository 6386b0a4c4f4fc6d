// Package sdk is what stands in for Apple's SDK on Linux: a few of its headers and,
// for each library of macOS that we take something from, a stub that says what is in
// it. The package reads the stubs, and checks what was linked against them.
//
// A stub that names the wrong library is invisible until dyld refuses what was linked
// with it, and then nobody logs in. So each symbol stands in one stub, and a binary
// takes it from there; a build on a Mac, where the linker asks Apple's SDK, must agree.
package sdk

import (
	"embed"
	"fmt"
	"io/fs"
	"strings"
)

//go:embed System/Library/Frameworks/*/*.tbd usr/lib/*.tbd
var files embed.FS

// libSystem is C's library. Its stub comes with the headers that libc.sh fetches.
const libSystem = "/usr/lib/libSystem.B.dylib"

// Stub is one text-based stub library: what a library of macOS exports, of which we
// use it.
type Stub struct {
	File        string
	InstallName string // where dyld finds it
	Symbols     []string
}

// Stubs reads those in this directory.
func Stubs() ([]Stub, error) {
	var stubs []Stub
	err := fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := files.ReadFile(name)
		if err != nil {
			return err
		}
		stub, err := parseStub(string(text))
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		stub.File = name
		stubs = append(stubs, stub)
		return nil
	})
	return stubs, err
}

// parseStub reads as much of the format (version 4) as our stubs have: lines of one
// symbol under three headings.
func parseStub(text string) (Stub, error) {
	var s Stub
	var names []string // what a line under the heading stands for
	for i, line := range strings.Split(text, "\n") {
		symbol, listed := strings.CutPrefix(line, "      - ")
		name, isName := strings.CutPrefix(line, "install-name: '")
		switch heading := strings.TrimSpace(line); {
		case isName:
			s.InstallName = strings.TrimSuffix(name, "'")
		case heading == "symbols:":
			names = []string{""}
		case heading == "objc-classes:":
			names = []string{"_OBJC_CLASS_$_", "_OBJC_METACLASS_$_"}
		case heading == "objc-eh-types:":
			names = []string{"_OBJC_EHTYPE_$_"}
		case listed && names == nil:
			return Stub{}, fmt.Errorf("line %d is under no heading", i+1)
		case listed:
			for _, prefix := range names {
				s.Symbols = append(s.Symbols, prefix+symbol)
			}
		}
	}
	if s.InstallName == "" || len(s.Symbols) == 0 {
		return Stub{}, fmt.Errorf("has no install-name, or no symbols")
	}
	return s, nil
}

// owners maps each symbol to the install name of the library it is in.
func owners() (map[string]string, error) {
	stubs, err := Stubs()
	if err != nil {
		return nil, err
	}
	owner := make(map[string]string)
	for _, stub := range stubs {
		for _, symbol := range stub.Symbols {
			if other, ok := owner[symbol]; ok {
				return nil, fmt.Errorf("%s is in the stubs of %s and of %s", symbol, other, stub.InstallName)
			}
			owner[symbol] = stub.InstallName
		}
	}
	return owner, nil
}
