// Package loadable looks at code that a program of macOS's loads into itself: a
// Mach-O bundle, for one processor or universal (mach-o/loader.h, mach-o/fat.h).
package loadable

import (
	"debug/macho"
	"errors"
	"fmt"
	"runtime"
	"slices"
)

// Check says why a file is no bundle for this processor with these C functions.
func Check(path string, functions ...string) error {
	var all []*macho.File
	fat, err := macho.OpenFat(path)
	if err == nil {
		defer func() { _ = fat.Close() }()
		for _, f := range fat.Arches {
			all = append(all, f.File)
		}
	} else if errors.Is(err, macho.ErrNotFat) {
		var thin *macho.File
		if thin, err = macho.Open(path); err == nil {
			defer func() { _ = thin.Close() }()
			all = append(all, thin)
		}
	}
	if err != nil {
		return fmt.Errorf("it is no code of macOS's: %w", err)
	}
	cpu := map[string]macho.Cpu{"arm64": macho.CpuArm64, "amd64": macho.CpuAmd64}[runtime.GOARCH]
	i := slices.IndexFunc(all, func(f *macho.File) bool { return f.Cpu == cpu })
	if i < 0 {
		return fmt.Errorf("it is not for this computer's processor (%s)", runtime.GOARCH)
	}
	if all[i].Type != macho.TypeBundle || all[i].Symtab == nil {
		return errors.New("it is no loadable bundle")
	}
	for _, name := range functions {
		// A C name has a "_" before it; without a section it is somebody else's.
		if !slices.ContainsFunc(all[i].Symtab.Syms, func(s macho.Symbol) bool { return s.Name == "_"+name && s.Sect != 0 }) {
			return fmt.Errorf("it has no %s", name)
		}
	}
	return nil
}
