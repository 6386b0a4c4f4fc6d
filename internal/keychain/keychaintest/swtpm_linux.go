// Package keychaintest starts software TPMs for tests.
package keychaintest

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// SWTPM starts swtpm(8) with the TPM's state in the given directory. It returns
// the socket, which answers, and a function that takes the TPM away; the end of
// the test does so too. Without swtpm the test is skipped.
func SWTPM(t testing.TB, state string) (socket string, stop func()) {
	t.Helper()
	run, err := os.MkdirTemp("", "swtpm") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(run) })
	return SWTPMIn(t, state, run)
}

// SWTPMIn is SWTPM with its sockets in the directory run.
func SWTPMIn(t testing.TB, state, run string) (socket string, stop func()) {
	t.Helper()
	path, err := exec.LookPath("swtpm")
	if err != nil {
		t.Skip("swtpm is not installed")
	}
	socket = filepath.Join(run, "s")
	cmd := exec.Command(path, "socket", "--tpm2", "--tpmstate", "dir="+state,
		"--server", "type=unixio,path="+socket, "--ctrl", "type=unixio,path="+filepath.Join(run, "c"),
		"--flags", "not-need-init,startup-clear")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	stop = func() {
		_ = cmd.Process.Kill()
		<-ended
		_ = os.Remove(socket)
	}
	t.Cleanup(stop)
	for deadline := time.Now().Add(time.Minute); ; {
		c, err := net.Dial("unix", socket)
		if err == nil {
			_ = c.Close()
			return socket, stop
		}
		select {
		case <-ended:
			t.Fatalf("swtpm ended: %s", out.String())
		case <-time.After(5 * time.Millisecond): // its socket is not there yet
		}
		if time.Now().After(deadline) {
			t.Fatalf("swtpm does not answer: %v", err)
		}
	}
}
