package archtest

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

// rule is one line of the architecture.
type rule struct {
	why string
	// about says which files the rule is about.
	about func(source) bool
	// allows says whether such a file may import this.
	allows func(source, imported) bool
}

// isStd says whether an import is of the standard library.
func isStd(i imported) bool {
	first, _, _ := strings.Cut(i.path, "/")
	return !i.ours && !strings.Contains(first, ".")
}

// isPure says whether a package of the standard library only reckons. A package
// that reaches the machine or the network has to be named in except.
func isPure(i imported, except ...string) bool {
	if slices.Contains(except, i.path) {
		return true
	}
	return isStd(i) && !below(i.path, "C", "database", "io/ioutil", "log/syslog", "net", "os", "plugin", "runtime", "syscall", "testing", "unsafe") && i.path != "log"
}

func isWire(i imported) bool {
	return i.ours && below(i.path, "proto") || below(i.path, "google.golang.org/grpc", "google.golang.org/protobuf")
}

// code is about the files that are no tests, below these directories.
func code(dirs ...string) func(source) bool {
	return func(s source) bool { return !s.isTest() && below(s.dir(), dirs...) }
}

func ours(i imported, dirs ...string) bool { return i.ours && slices.Contains(dirs, i.path) }

var rules = []rule{
	{
		why:   "the engine is a pure state machine: what a login comes to must depend on nothing but its inputs, so that a test can try them all",
		about: code("internal/engine"),
		allows: func(_ source, i imported) bool {
			return isPure(i) || ours(i, "internal/factor", "internal/policy", "internal/secret", "internal/clock")
		},
	},
	{
		why:   "the factors are pure: they get the record and the time, and reach the vault and the authority through interfaces of their own",
		about: code("internal/factor"),
		allows: func(_ source, i imported) bool {
			return isPure(i, "net/url") || below(i.path, "github.com/pquerna/otp") || ours(i, "internal/clock", "internal/secret") ||
				i.ours && below(i.path, "internal/factor")
		},
	},
	{
		why:   "what the organisation signs is checked in the same way on every device: by the bytes and the key, and nothing else",
		about: code("internal/organisation"),
		allows: func(_ source, i imported) bool {
			return isPure(i)
		},
	},
	{
		why:   "the policy is pure: names are looked up by the caller, who says when a look-up failed",
		about: code("internal/policy"),
		allows: func(_ source, i imported) bool {
			return isPure(i, "net/netip") || below(i.path, "github.com/pelletier/go-toml/v2") || ours(i, "internal/identity")
		},
	},
	{
		why: "only the services know the wire: whatever else knew it would have to change with it, and would be a second way in",
		about: func(s source) bool {
			return !s.isTest() && !below(s.dir(), "agent", "authority", "proto", "internal/localsock", "internal/testkit")
		},
		allows: func(_ source, i imported) bool { return !isWire(i) },
	},
	{
		why:    "the agent is a program: what others need of it belongs into internal",
		about:  func(s source) bool { return !below(s.dir(), "agent") },
		allows: func(_ source, i imported) bool { return !i.ours || !below(i.path, "agent") },
	},
	{
		why:    "the authority is a program: what others need of it belongs into internal",
		about:  func(s source) bool { return !below(s.dir(), "authority") },
		allows: func(_ source, i imported) bool { return !i.ours || !below(i.path, "authority") },
	},
	{
		why:   "the installer holds the system's files; only the agent, which installs itself, has them, and whoever tries out the shipped PAM stacks",
		about: func(s source) bool { return !s.isTest() && !below(s.dir(), "agent", "installer") },
		allows: func(s source, i imported) bool {
			return !i.ours || !below(i.path, "installer") || i.path == "installer/linux/pam.d" && below(s.dir(), "pam/e2e", "pam/demo", "pam/bench")
		},
	},
	{
		why: "what is shipped holds nothing of the tests: a fake that is linked in can be reached",
		about: func(s source) bool {
			return !s.isTest() && below(s.dir(), "agent", "authority", "installer", "internal", "pam/try", "proto") &&
				!below(s.dir(), "internal/testkit", "internal/keychain/keychaintest", "authority/store/storetest", "authority/bench")
		},
		allows: func(_ source, i imported) bool {
			return i.path != "testing" && !strings.HasPrefix(i.path, "testing/") && !(i.ours && below(i.path, "internal/testkit", "internal/keychain/keychaintest", "authority/store/storetest"))
		},
	},
	{
		why:   "a code or a key from math/rand can be guessed",
		about: code("agent", "authority", "internal", "pam/try"),
		allows: func(s source, i imported) bool {
			// It picks a free place in the TPM with it, no secret.
			return !below(i.path, "math/rand") || s.name == "internal/keychain/counter_linux.go"
		},
	},
}

func TestImports(t *testing.T) {
	for _, s := range tree(t) {
		for _, i := range s.imports(t) {
			for _, r := range rules {
				if r.about(s) && !r.allows(s, i) {
					t.Errorf("%s:%d imports %s: %s", s.name, i.line, i.path, r.why)
				}
			}
		}
	}
}

// TestTheRulesBite: a rule that forbids nothing, or is about nothing, is none.
func TestTheRulesBite(t *testing.T) {
	refused := func(name, imports string) bool {
		i := imported{path: imports}
		if p, ok := strings.CutPrefix(imports, module+"/"); ok {
			i.path, i.ours = p, true
		}
		s := source{name: name}
		return slices.ContainsFunc(rules, func(r rule) bool { return r.about(s) && !r.allows(s, i) })
	}
	for _, c := range []struct {
		file, imports string
		allowed       bool
	}{
		{"internal/engine/x.go", "fmt", true},
		{"internal/engine/x.go", "sallyport/internal/factor", true},
		{"internal/engine/x.go", "sallyport/internal/vault", false},
		{"internal/engine/x.go", "sallyport/internal/event", false},
		{"internal/engine/x.go", "os", false},
		{"internal/engine/x.go", "os/exec", false},
		{"internal/engine/x.go", "net", false},
		{"internal/engine/x.go", "net/netip", false},
		{"internal/engine/x.go", "google.golang.org/grpc/codes", false},
		{"internal/engine/x.go", "github.com/pquerna/otp", false},
		{"internal/engine/x_test.go", "os", true},
		{"internal/factor/totp/x.go", "github.com/pquerna/otp/hotp", true},
		{"internal/factor/totp/x.go", "net/url", true},
		{"internal/factor/push/x.go", "net/http", false},
		{"internal/factor/push/x.go", "sallyport/proto/sallyport/authority/v1", false},
		{"internal/factor/x.go", "sallyport/internal/vault", false},
		{"internal/factory/x.go", "sallyport/internal/vault", true},
		{"internal/organisation/x.go", "crypto/hpke", true},
		{"internal/organisation/x.go", "sallyport/internal/vault", false},
		{"internal/organisation/x.go", "sallyport/proto/sallyport/authority/v1", false},
		{"internal/organisation/x.go", "os", false},
		{"internal/engine/x.go", "sallyport/internal/factor/push", false},
		{"internal/factor/push/x.go", "sallyport/internal/testkit/passkey", false},
		{"internal/factor/push/x_test.go", "sallyport/internal/testkit/passkey", true},
		{"agent/loginsvc/x.go", "sallyport/internal/testkit/passkey", false},
		{"authority/console/x.go", "sallyport/internal/testkit/passkey", false},
		{"authority/bench/x.go", "sallyport/internal/testkit/passkey", true},
		{"agent/link/x.go", "sallyport/authority/store", false},
		{"internal/testkit/x.go", "sallyport/authority/store", false},
		{"internal/policy/x.go", "net/netip", true},
		{"internal/policy/x.go", "cel.dev/cel-go/cel", false},
		{"internal/policy/x_test.go", "cel.dev/cel-go/cel", true},
		{"internal/policy/x.go", "net", false},
		{"internal/policy/x.go", "os/user", false},
		{"internal/policy/x.go", "sallyport/internal/accounts", false},
		{"internal/vault/x.go", "google.golang.org/protobuf/proto", false},
		{"internal/event/x.go", "sallyport/proto/sallyport/admin/v1", false},
		{"internal/localsock/x.go", "google.golang.org/grpc", true},
		{"internal/testkit/hook/x.go", "google.golang.org/grpc", true},
		{"internal/vault/x_test.go", "google.golang.org/grpc", true},
		{"pam/try/main.go", "google.golang.org/grpc", false},
		{"pam/pamtest/x_test.go", "sallyport/proto/sallyport/login/v1", true},
		{"agent/loginsvc/x.go", "google.golang.org/grpc", true},
		{"agent/loginsvc/x.go", "sallyport/agent/store", true},
		{"pam/try/main.go", "sallyport/agent/cli", false},
		{"pam/bench/main.go", "sallyport/agent/store", false},
		{"pam/bench/main_test.go", "sallyport/agent/store", false},
		{"internal/vault/x.go", "sallyport/agent/store", false},
		{"authority/main.go", "sallyport/agent/store", false},
		{"agent/main.go", "sallyport/authority/store", false},
		{"agent/main.go", "sallyport/installer/linux", true},
		{"internal/vault/x.go", "sallyport/installer/linux", false},
		{"pam/demo/main.go", "sallyport/installer/linux", false},
		{"pam/demo/main.go", "sallyport/installer/linux/pam.d", true},
		{"internal/vault/x.go", "sallyport/installer/linux/pam.d", false},
		{"agent/daemon/x.go", "sallyport/internal/testkit/sandbox", false},
		{"agent/daemon/x.go", "testing", false},
		{"authority/daemon/x.go", "sallyport/authority/store/storetest", false},
		{"internal/keychain/x.go", "sallyport/internal/keychain/keychaintest", false},
		{"internal/factor/onetime/x.go", "math/rand/v2", false},
		{"internal/factor/onetime/x.go", "crypto/rand", true},
	} {
		if got := !refused(c.file, c.imports); got != c.allowed {
			t.Errorf("%s imports %s: allowed %v, want %v", c.file, c.imports, got, c.allowed)
		}
	}
	for _, r := range rules {
		if !slices.ContainsFunc(tree(t), r.about) {
			t.Errorf("no file is left that this rule is about: %s", r.why)
		}
	}
}

// TestThePurePackagesReachNothingByWayOfOthers: no package of somebody else's
// brings the wire or a server into what is pure.
func TestThePurePackagesReachNothingByWayOfOthers(t *testing.T) {
	command, err := exec.LookPath("go")
	if err != nil {
		t.Skip("the go command is not installed")
	}
	cmd := exec.Command(command, "list", "-deps", "-json=ImportPath,Imports", "./internal/engine", "./internal/factor/...", "./internal/policy", "./internal/organisation")
	cmd.Dir = root(t)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	n := 0
	for d := json.NewDecoder(strings.NewReader(string(out))); ; n++ {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		for _, i := range p.Imports {
			if below(i, "google.golang.org", "go.etcd.io", "net/http", "os/exec", module+"/proto", module+"/agent", module+"/internal/vault") {
				t.Errorf("%s imports %s, and the engine, the factors or the policy import %s", p.ImportPath, i, path.Base(p.ImportPath))
			}
		}
	}
	if n < 10 {
		t.Errorf("go list named %d packages", n)
	}
}
