package clock

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"
)

const bootEnv = "SALLYPORT_TEST_BOOT"

// TestHelperBoot is not a test: it says what boot it is in.
func TestHelperBoot(t *testing.T) {
	if os.Getenv(bootEnv) != "" {
		fmt.Printf("boot %s\n", System().Now().BootID)
	}
}

func TestOneBootHasOneNameInEveryProcess(t *testing.T) {
	_ = registry.DeleteKey(registry.LOCAL_MACHINE, bootKey) // as after a boot
	var names []string
	for range 3 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestHelperBoot$")
		cmd.Env = append(os.Environ(), bootEnv+"=1")
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		_, name, _ := strings.Cut(string(out), "boot ")
		name, _, _ = strings.Cut(name, "\n")
		names = append(names, strings.TrimSpace(name))
	}
	if len(names[0]) < 20 || names[1] != names[0] || names[2] != names[0] {
		t.Errorf("%q", names)
	}
	if own := System().Now().BootID; own != names[0] {
		t.Errorf("%q, not %q", own, names[0])
	}
	if err := registry.DeleteKey(registry.LOCAL_MACHINE, bootKey); err != nil {
		t.Fatal(err)
	}
	if next := System().Now().BootID; next == "" || next == names[0] {
		t.Errorf("after a boot: %q, before it %q", next, names[0])
	}
}

// A key that outlives the boot would name two boots alike. That it is volatile
// shows in that it takes no key that is not; its parent must take both.
func TestNameOfTheBootEndsWithIt(t *testing.T) {
	System()
	const notVolatile = windows.Errno(1021) // ERROR_CHILD_MUST_BE_VOLATILE
	k, _, err := registry.CreateKey(registry.LOCAL_MACHINE, bootKey+`\x`, registry.QUERY_VALUE)
	if !errors.Is(err, notVolatile) {
		_ = k.Close()
		t.Errorf("takes what stays: %v", err)
	}
	k, _, err = registry.CreateKey(registry.LOCAL_MACHINE, bootParent+`\x`, registry.QUERY_VALUE)
	if err != nil {
		t.Fatal(err)
	}
	_ = k.Close()
	if err := registry.DeleteKey(registry.LOCAL_MACHINE, bootParent+`\x`); err != nil {
		t.Error(err)
	}
}
