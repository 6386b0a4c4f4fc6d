// Package port finds ports for programs that must be told theirs.
package port

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
)

// The ports are below those that the system gives to clients by itself
// (ip_local_port_range, ip(7)): one of these may be taken again before the program
// listens.
const (
	first = 20000
	count = 12000
)

var next atomic.Uint32

func init() { next.Store(uint32(os.Getpid()) * 64) } // each process begins somewhere else

// Free is a port of 127.0.0.1 that nobody listens on, and that no second call in
// this process returns.
func Free() (int, error) {
	for range count {
		p := first + int(next.Add(1)%count)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", p))
		if err == nil {
			return p, l.Close()
		}
	}
	return 0, errors.New("no port is free")
}

// Address is such a port with its address.
func Address() (string, error) {
	p, err := Free()
	return fmt.Sprintf("127.0.0.1:%d", p), err
}
