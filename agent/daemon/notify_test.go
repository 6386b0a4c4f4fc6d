package daemon

import (
	"net"
	"strings"
	"testing"
)

// listenNotify is the service manager's end of sd_notify(3).
func listenNotify(t *testing.T, path string) <-chan struct{} {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	ready := make(chan struct{})
	go func() {
		b := make([]byte, 256)
		for {
			n, err := conn.Read(b)
			if err != nil {
				return
			}
			if strings.Contains(string(b[:n]), "READY=1") {
				close(ready)
				return
			}
		}
	}()
	return ready
}
