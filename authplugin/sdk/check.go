package sdk

import (
	"bytes"
	"crypto/sha256"
	"debug/macho"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// What is built for macOS, by its place in dist/macos-universal.
var products = []product{
	{name: "sallyport", kind: macho.TypeExec},
	{name: "Sallyport.bundle/Contents/MacOS/Sallyport", kind: macho.TypeBundle, exports: []string{"_AuthorizationPluginCreate"}},
	{name: "pam_sallyport.so.2", kind: macho.TypeBundle, exports: []string{"_pam_sm_acct_mgmt", "_pam_sm_authenticate", "_pam_sm_setcred"}},
}

type product struct {
	name    string
	kind    macho.Type
	exports []string // of a bundle
}

// CheckAll looks at everything that was built for macOS in the directory.
func CheckAll(dir string) error {
	var errs []error
	for _, p := range products {
		errs = append(errs, p.check(filepath.Join(dir, filepath.FromSlash(p.name))))
	}
	return errors.Join(errs...)
}

// check looks at a universal file: is it there for both processors, is each half
// linked as it should be, signed, and taken from libraries that have what it takes.
func (p product) check(path string) error {
	fat, err := macho.OpenFat(path)
	if err != nil {
		return fmt.Errorf("%s: is not universal: %w", path, err)
	}
	defer fat.Close()
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	owner, err := owners()
	if err != nil {
		return err
	}
	var errs []error
	var cpus []macho.Cpu
	for _, half := range fat.Arches {
		cpus = append(cpus, half.Cpu)
		if uint64(half.Offset)+uint64(half.Size) > uint64(len(content)) {
			return fmt.Errorf("%s: is cut off", path)
		}
		for _, err := range p.checkHalf(half.File, content[half.Offset:][:half.Size], owner) {
			errs = append(errs, fmt.Errorf("%s (%v): %w", path, half.Cpu, err))
		}
	}
	slices.Sort(cpus)
	if !slices.Equal(cpus, []macho.Cpu{macho.CpuAmd64, macho.CpuArm64}) {
		errs = append(errs, fmt.Errorf("%s: is for %v, and should be for arm64 and x86_64", path, cpus))
	}
	return errors.Join(errs...)
}

// From mach-o/loader.h, which debug/macho has not.
const (
	loadDylib        = 0xc
	loadCodeSign     = 0x1d
	loadBuildVersion = 0x32
	platformMacOS    = 1
	macOS12          = 12 << 16
)

// Load commands that everything for macOS has. Others, such as LC_RPATH, or a
// library that may be missing, are refused: they change where code comes from.
var commands = map[uint32]string{
	0x2: "LC_SYMTAB", 0xb: "LC_DYSYMTAB", loadDylib: "LC_LOAD_DYLIB", 0xe: "LC_LOAD_DYLINKER", 0x19: "LC_SEGMENT_64", 0x1b: "LC_UUID",
	loadCodeSign: "LC_CODE_SIGNATURE", 0x26: "LC_FUNCTION_STARTS", 0x29: "LC_DATA_IN_CODE", 0x2a: "LC_SOURCE_VERSION", loadBuildVersion: "LC_BUILD_VERSION",
	0x80000022: "LC_DYLD_INFO_ONLY", 0x80000028: "LC_MAIN", 0x80000033: "LC_DYLD_EXPORTS_TRIE", 0x80000034: "LC_DYLD_CHAINED_FIXUPS",
}

func (p product) checkHalf(f *macho.File, content []byte, owner map[string]string) []error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	if f.Type != p.kind {
		fail("is a %v, and should be a %v", f.Type, p.kind)
	}
	if p.kind == macho.TypeExec && f.Flags&macho.FlagPIE == 0 {
		fail("is linked without PIE")
	}
	for flag, name := range map[uint32]string{macho.FlagTwoLevel: "two-level namespace", macho.FlagNoUndefs: "all symbols defined"} {
		if f.Flags&flag == 0 {
			fail("is linked without: %s", name)
		}
	}
	if f.Flags&macho.FlagAllowStackExecution != 0 {
		fail("has an executable stack")
	}

	libraries, err := f.ImportedLibraries()
	if err != nil {
		return append(errs, err)
	}
	known := []string{libSystem}
	for _, library := range owner {
		known = append(known, library)
	}
	for _, library := range libraries {
		if !slices.Contains(known, library) {
			fail("needs %s, which has no stub", library)
		}
	}

	var signed, versioned bool
	for _, load := range f.Loads {
		raw := load.Raw()
		command := f.ByteOrder.Uint32(raw)
		if commands[command] == "" {
			fail("has the load command %#x, which is not on the list", command)
		}
		switch command {
		case 0xe:
			if !bytes.Contains(raw, []byte("/usr/lib/dyld\x00")) {
				fail("is loaded by another program than dyld")
			}
		case loadBuildVersion:
			versioned = f.ByteOrder.Uint32(raw[8:]) == platformMacOS && f.ByteOrder.Uint32(raw[12:]) == macOS12
		case loadCodeSign:
			signed = true
			offset, size := f.ByteOrder.Uint32(raw[8:]), f.ByteOrder.Uint32(raw[12:])
			if err := checkSignature(content, offset, size); err != nil {
				fail("%w", err)
			}
		}
		if segment, ok := load.(*macho.Segment); ok && (segment.Prot&segment.Maxprot|segment.Maxprot)&6 == 6 {
			fail("segment %s can be written and executed", segment.Name)
		}
	}
	if !signed {
		fail("is not signed, not even ad hoc")
	}
	if !versioned {
		fail("is not for macOS from 12.0 on")
	}

	var exports []string
	for _, symbol := range f.Symtab.Syms {
		const external, typ, undefined = 0x01, 0x0e, 0
		switch {
		case symbol.Type&0xe0 != 0 || symbol.Type&external == 0: // for debuggers, or its own
		case symbol.Type&typ != undefined:
			exports = append(exports, symbol.Name)
		default:
			if err := checkBinding(symbol, libraries, owner); err != nil {
				fail("%w", err)
			}
		}
	}
	slices.Sort(exports)
	if p.kind == macho.TypeBundle && !slices.Equal(exports, p.exports) {
		fail("exports %v, and should export %v", exports, p.exports)
	}
	return errs
}

// checkBinding looks where dyld will look for a symbol (mach-o/nlist.h: the number of
// the library is in n_desc).
func checkBinding(symbol macho.Symbol, libraries []string, owner map[string]string) error {
	const weak = 0x40
	if symbol.Desc&weak != 0 {
		return fmt.Errorf("%s may be missing", symbol.Name)
	}
	ordinal := int(symbol.Desc >> 8)
	if ordinal < 1 || ordinal > len(libraries) {
		return fmt.Errorf("%s is looked for in any library", symbol.Name)
	}
	where, want := libraries[ordinal-1], owner[symbol.Name]
	if want == "" {
		want = libSystem
	}
	if where != want {
		return fmt.Errorf("%s is taken from %s, and is in %s", symbol.Name, where, want)
	}
	return nil
}

// checkSignature looks whether the code directory has the hash of each page: macOS
// kills what has another. The format is in Apple's xnu, osfmk/kern/cs_blobs.h.
func checkSignature(content []byte, offset, size uint32) error {
	const superBlob, codeDirectory = 0xfade0cc0, 0xfade0c02
	if uint64(offset)+uint64(size) > uint64(len(content)) || size < 20 {
		return errors.New("its signature is cut off")
	}
	blob := content[offset:][:size]
	u32 := func(at uint32) uint32 {
		if uint64(at)+4 > uint64(len(blob)) {
			return 0
		}
		return binary.BigEndian.Uint32(blob[at:])
	}
	if u32(0) != superBlob {
		return errors.New("its signature has another format")
	}
	for i := range min(u32(8), 16) {
		at := u32(12 + 8*i + 4)
		if u32(at) != codeDirectory {
			continue
		}
		hashes, slots, limit := at+u32(at+16), u32(at+28), u32(at+32)
		if uint64(at)+40 > uint64(len(blob)) || blob[at+36] != sha256.Size || blob[at+39] > 16 || limit != offset {
			return errors.New("its code directory has another format, or leaves code out")
		}
		page := uint32(1) << blob[at+39]
		for n := range slots {
			start, hash := n*page, uint64(hashes)+uint64(n)*sha256.Size
			if start >= limit || hash+sha256.Size > uint64(len(blob)) {
				return errors.New("its signature is cut off")
			}
			sum := sha256.Sum256(content[start:min(start+page, limit)])
			if !bytes.Equal(sum[:], blob[hash:][:sha256.Size]) {
				return fmt.Errorf("its signature does not fit page %d", n)
			}
		}
		if slots != (limit+page-1)/page {
			return errors.New("its signature leaves code out")
		}
		return nil
	}
	return errors.New("its signature has no code directory")
}
