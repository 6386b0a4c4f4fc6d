//go:build linux

package openpam

import (
	"debug/elf"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sallyport/internal/testkit/sandbox"
)

// What is loaded into sudo exports what PAM calls, and takes nothing of libpam that
// macOS's has not: authplugin/sdk's stub names what the manual pages of macOS have.
func TestSymbols(t *testing.T) {
	sandbox.Need(t)
	f, err := elf.Open(shipped.module())
	must(t, err)
	defer f.Close()
	symbols, err := f.DynamicSymbols()
	must(t, err)
	var exports, needs []string
	for _, s := range symbols {
		switch {
		case s.Section != elf.SHN_UNDEF:
			exports = append(exports, s.Name)
		case strings.HasPrefix(s.Name, "pam_") || strings.HasPrefix(s.Name, "openpam_"):
			needs = append(needs, s.Name)
		}
	}
	slices.Sort(exports)
	slices.Sort(needs)
	if want := []string{"pam_sm_acct_mgmt", "pam_sm_authenticate", "pam_sm_setcred"}; !slices.Equal(exports, want) {
		t.Errorf("it exports %q, want %q", exports, want)
	}
	stub, err := os.ReadFile(filepath.Join("..", "..", "..", "authplugin", "sdk", "usr", "lib", "libpam.tbd"))
	must(t, err)
	var has []string
	for _, m := range regexp.MustCompile(`(?m)^ +- _(\w+)$`).FindAllStringSubmatch(string(stub), -1) {
		has = append(has, m[1])
	}
	if slices.Sort(has); !slices.Equal(needs, has) {
		t.Errorf("it needs %q of libpam; the stub has %q", needs, has)
	}
}
