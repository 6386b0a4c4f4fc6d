//go:build linux

package linux

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestSELinuxLetsHooksConnect puts the module into a copy of Debian's policy, and asks that
// policy who may connect to the agent's socket. The agent's domain there is initrc_t.
func TestSELinuxLetsHooksConnect(t *testing.T) {
	for _, tool := range []string{"/usr/sbin/semodule", "/usr/bin/sesearch", "/etc/selinux/default/policy"} {
		if _, err := os.Stat(tool); err != nil {
			t.Skip("needs Debian's policy for SELinux and its tools: ./build.sh deps installs them")
		}
	}
	store := t.TempDir()
	for _, dir := range []string{"etc", "var/lib"} {
		if err := os.MkdirAll(filepath.Join(store, dir), 0o755); err != nil {
			t.Fatal(err)
		}
		copyTree(t, filepath.Join("/", dir, "selinux"), filepath.Join(store, dir, "selinux"))
	}
	module := func(args ...string) {
		t.Helper()
		args = append([]string{"--path", store, "--store", "default", "--noreload"}, args...)
		if out, err := exec.Command("/usr/sbin/semodule", args...).CombinedOutput(); err != nil {
			t.Fatalf("semodule: %v\n%s", err, out)
		}
	}
	policies, err := filepath.Glob(filepath.Join(store, "etc/selinux/default/policy/policy.*"))
	if err != nil || len(policies) != 1 {
		t.Fatalf("%v, %q", err, policies)
	}
	// Each question takes a second, so there are few of them.
	ask := func(tool string, args ...string) string {
		t.Helper()
		out, err := exec.Command("/usr/bin/"+tool, append(args, policies[0])...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", tool, err, out)
		}
		return string(out)
	}
	allowed := func(who, what, class, permission string) string {
		t.Helper()
		return ask("sesearch", "--allow", "--source", who, "--target", what, "--class", class, "--perm", permission)
	}

	if allowed("sshd_t", "initrc_runtime_t", "sock_file", "write") != "" || allowed("sshd_t", "initrc_t", "unix_stream_socket", "connectto") != "" {
		t.Error("sshd gets through without the module: is it needed?")
	}
	module("--install", "selinux/sallyport.cil")

	hooks := strings.Fields(ask("seinfo", "--attribute=sallyport_hook", "--expand"))
	for _, who := range []string{"sshd_t", "local_login_t", "xdm_t", "cockpit_session_t", "staff_sudo_t", "user_su_t", "newrole_t", "policykit_auth_t", "vlock_t", "user_t"} {
		if !slices.Contains(hooks, who) {
			t.Errorf("%s is no hook", who)
		}
	}
	if allowed("sallyport_hook", "sallyport_run_t", "dir", "search") == "" || allowed("sshd_t", "sallyport_run_t", "sock_file", "write") == "" || allowed("sshd_t", "initrc_t", "unix_stream_socket", "connectto") == "" {
		t.Error("hooks do not get to the agent")
	}
	if allowed("httpd_t", "sallyport_run_t", "sock_file", "write") != "" {
		t.Error("a web server gets to the agent")
	}
	if allowed("sshd_t", "initrc_runtime_t", "sock_file", "write") != "" {
		t.Error("sshd gets to other services' sockets too")
	}
	rules := allowed("init_t", "sallyport_run_t", "dir", "create")
	for _, permission := range []string{" relabelto ", " remove_name ", " rmdir "} {
		if !strings.Contains(rules, permission) {
			t.Errorf("systemd may not %s the directory", permission)
		}
	}
	if !strings.Contains(read(t, store, "etc/selinux/default/contexts/files/file_contexts"), "/run/sallyport(/.*)?\tsystem_u:object_r:sallyport_run_t:s0\n") {
		t.Error("the directory gets no label")
	}
}
