//go:build linux

package wine

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf16"
)

// Import puts the text of a .reg file into the registry. The header line is
// added where it is missing.
func (w *Wine) Import(ctx context.Context, reg string) error {
	if !strings.HasPrefix(reg, regHeader) {
		reg = regHeader + "\r\n\r\n" + reg
	}
	save := w.Unix(ctx, "sh", "-euc", `file=$(mktemp --suffix=.reg); cat >"$file"; wine reg import "$file"; rm "$file"`)
	save.Stdin = strings.NewReader(string(encodeUTF16(reg)))
	if out, err := save.CombinedOutput(); err != nil {
		return fmt.Errorf("wine: reg import: %w: %s", err, out)
	}
	return nil
}

// Export is a key and all below it as the text of a .reg file, with "\n" at the
// end of its lines. A key that does not exist is an error.
func (w *Wine) Export(ctx context.Context, key string) (string, error) {
	load := w.Unix(ctx, "sh", "-euc", `dir=$(mktemp -d); wine reg export "$0" "$dir/key.reg" /y >&2; cat "$dir/key.reg"; rm -r "$dir"`, key)
	var complaint strings.Builder
	load.Stderr = &complaint
	out, err := load.Output()
	if err != nil {
		return "", fmt.Errorf("wine: reg export %s: %w: %s", key, err, strings.TrimSpace(complaint.String()))
	}
	text, err := decodeUTF16(out)
	if err != nil {
		return "", fmt.Errorf("wine: reg export %s: %w", key, err)
	}
	return text, nil
}

// SetValue sets a value of a key, which is made if it is missing: a string
// (REG_SZ), uint32 (REG_DWORD), []string (REG_MULTI_SZ), []byte (REG_BINARY), or
// nil to delete the value.
func (w *Wine) SetValue(ctx context.Context, key, name string, value any) error {
	var data string
	switch value := value.(type) {
	case nil:
		data = "-"
	case string:
		data = quote(value)
	case uint32:
		data = fmt.Sprintf("dword:%08x", value)
	case []byte:
		data = "hex:" + hexBytes(value)
	case []string:
		data = "hex(7):" + hexBytes(encodeUTF16(strings.Join(value, "\x00") + "\x00\x00")[2:])
	default:
		return fmt.Errorf("wine: no registry type for %T", value)
	}
	return w.Import(ctx, fmt.Sprintf("[%s]\r\n%s=%s\r\n", longRoot(key), quote(name), data))
}

// DeleteKey deletes a key and all below it.
func (w *Wine) DeleteKey(ctx context.Context, key string) error {
	return w.Import(ctx, fmt.Sprintf("[-%s]\r\n", longRoot(key)))
}

const regHeader = "Windows Registry Editor Version 5.00"

// longRoot spells HKLM and HKCU out, as .reg files want it.
func longRoot(key string) string {
	root, rest, _ := strings.Cut(key, `\`)
	switch strings.ToUpper(root) {
	case "HKLM":
		root = "HKEY_LOCAL_MACHINE"
	case "HKCU":
		root = "HKEY_CURRENT_USER"
	case "HKCR":
		root = "HKEY_CLASSES_ROOT"
	case "HKU":
		root = "HKEY_USERS"
	}
	return root + `\` + rest
}

func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

func hexBytes(b []byte) string {
	digits := make([]string, len(b))
	for i, c := range b {
		digits[i] = fmt.Sprintf("%02x", c)
	}
	return strings.Join(digits, ",")
}

// encodeUTF16 is little-endian, with a byte order mark.
func encodeUTF16(s string) []byte {
	b := []byte{0xff, 0xfe}
	for _, unit := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, unit)
	}
	return b
}

func decodeUTF16(b []byte) (string, error) {
	if len(b) < 2 || len(b)%2 != 0 || b[0] != 0xff || b[1] != 0xfe {
		return "", fmt.Errorf("not UTF-16 with a byte order mark: % x", b[:min(len(b), 8)])
	}
	var units []uint16
	for b = b[2:]; len(b) > 0; b = b[2:] {
		units = append(units, binary.LittleEndian.Uint16(b))
	}
	return strings.ReplaceAll(string(utf16.Decode(units)), "\r\n", "\n"), nil
}
