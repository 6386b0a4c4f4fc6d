//go:build unix

package cli

import (
	"path/filepath"
	"testing"
	"time"
)

// TestSupportBundleOfAHungAgent: it accepts, and never answers.
func TestSupportBundleOfAHungAgent(t *testing.T) {
	s := newSession(t, nil)
	listenAdmin(t, s.dir)
	s.deps.CallTimeout = 100 * time.Millisecond
	out := filepath.Join(t.TempDir(), "x.tar.gz")
	s.run("support-bundle", "--out", out, "--redact-users").wantExit(0)
	files := unpacked(t, out)
	wantIn(t, files, "config.txt", "this is what the file says")
	wantIn(t, files, "status.txt", "does not answer")
}

// TestPAMLines: what decides is shown, what another module is given is not.
func TestPAMLines(t *testing.T) {
	for line, want := range map[string]string{
		"auth  required   pam_sallyport.so socket=/run/x timeout=60":              "auth  required   pam_sallyport.so socket=/run/x timeout=60",
		"session optional pam_sallyport.so":                                       "session optional pam_sallyport.so",
		"-auth [success=1 new_authtok_reqd=done default=ignore]\tpam_unix.so try": "-auth [success=1 new_authtok_reqd=done default=ignore] pam_unix.so try",
		"account required pam_mysql.so user=pam passwd=geheim deny=3":             "account required pam_mysql.so user=... passwd=... deny=3",
		"@include common-auth":          "@include common-auth",
		"password required pam_unix.so": "", "session required pam_env.so": "", "# auth required pam_x.so": "", "": "", "auth": "",
	} {
		if got := pamLine(line); got != want {
			t.Errorf("%s\n%s\nwant %s", line, got, want)
		}
	}
}
