package loadable

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

var cpus = map[string]uint32{"amd64": 0x01000007, "arm64": 0x0100000c}

const bundle, dylib = 8, 6

// thin is code with one symbol, in a section or from elsewhere.
func thin(cpu, kind uint32, name string, section byte) []byte {
	var b bytes.Buffer
	name = "\x00" + name + "\x00"
	_ = binary.Write(&b, binary.LittleEndian, []uint32{0xfeedfacf, cpu, 0, kind, 1, 24, 0, 0, 2, 24, 56, 1, 72, uint32(len(name)), 1, 0x0f | uint32(section)<<8, 0, 0})
	b.WriteString(name)
	return b.Bytes()
}

// fat is a universal file of these.
func fat(halves ...[]byte) []byte {
	const page = 4096
	var b bytes.Buffer
	_ = binary.Write(&b, binary.BigEndian, []uint32{0xcafebabe, uint32(len(halves))})
	for i, half := range halves {
		_ = binary.Write(&b, binary.BigEndian, []uint32{binary.LittleEndian.Uint32(half[4:]), 0, uint32((i + 1) * page), uint32(len(half)), 12})
	}
	for i, half := range halves {
		b.Write(make([]byte, (i+1)*page-b.Len()))
		b.Write(half)
	}
	return b.Bytes()
}

func TestWhatMacOSWouldNotLoad(t *testing.T) {
	own, other := cpus[runtime.GOARCH], cpus["arm64"]
	if own == other {
		other = cpus["amd64"]
	}
	good := thin(own, bundle, "_entry", 1)
	for what, c := range map[string]struct {
		file []byte
		want string
	}{
		"a bundle":                           {good, ""},
		"universal, ours first":              {fat(good, thin(other, bundle, "_entry", 1)), ""},
		"universal, ours last":               {fat(thin(other, bundle, "_entry", 1), good), ""},
		"universal, the other has it":        {fat(thin(other, bundle, "_entry", 1), thin(own, bundle, "_x", 1)), "no entry"},
		"another processor":                  {thin(other, bundle, "_entry", 1), "processor"},
		"universal, without ours":            {fat(thin(other, bundle, "_entry", 1)), "processor"},
		"a library":                          {thin(own, dylib, "_entry", 1), "no loadable bundle"},
		"a function of another name":         {thin(own, bundle, "_entry2", 1), "no entry"},
		"a function that it takes elsewhere": {thin(own, bundle, "_entry", 0), "no entry"},
		"a script":                           {[]byte("#!/bin/sh\n"), "no code of macOS's"},
		"nothing":                            {nil, "no code of macOS's"},
		"cut off":                            {good[:40], "no code of macOS's"},
	} {
		path := filepath.Join(t.TempDir(), "code")
		if err := os.WriteFile(path, c.file, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := Check(path, "entry"); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", what, err, c.want)
		}
	}
	if err := Check(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("what is not there")
	}
}
