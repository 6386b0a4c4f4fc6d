package device

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

// Networks names the networks that this computer is in, the same text for the
// same ones: its IPv4 routes and the prefixes of its IPv6 addresses. They are
// read from proc_pid_net(5), for which the agent needs no socket of its own.
func Networks() (string, error) { return networks(os.DirFS("/")) }

func networks(root fs.FS) (string, error) {
	routes, err := readBounded(root, "proc/self/net/route")
	if err != nil {
		return "", err
	}
	list, err := routes4(string(routes))
	if err != nil {
		return "", err
	}
	addresses, err := readBounded(root, "proc/self/net/if_inet6")
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // not there where IPv6 is switched off
		return "", err
	}
	for line := range strings.Lines(string(addresses)) {
		if p, ok := prefix6(strings.Fields(line)); ok {
			list = append(list, p)
		}
	}
	return join(list), nil
}

// maxRoutes bounds what is read of the kernel's tables, in bytes: a router of the
// Internet has a million routes, and a login does not wait for them.
const maxRoutes = 1 << 20

func readBounded(root fs.FS, name string) ([]byte, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, maxRoutes+1))
	if err == nil && len(text) > maxRoutes {
		err = fmt.Errorf("/%s is over %d bytes long", name, maxRoutes)
	}
	return text, err
}

// routes4 reads the kernel's IPv4 routes, with the gateway where there is one:
// the same 192.168.1.0/24 is at home and elsewhere.
func routes4(text string) (list []string, err error) {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for _, line := range lines[1:] { // below the names of the columns
		f := strings.Fields(line)
		if len(f) < 8 {
			return nil, fmt.Errorf("a route of the kernel's has %d columns", len(f))
		}
		if f[0] == "lo" {
			continue
		}
		to, gateway, mask := address4(f[1]), address4(f[2]), address4(f[7])
		if !to.IsValid() || !gateway.IsValid() || !mask.IsValid() {
			return nil, fmt.Errorf("a route of the kernel's is no address")
		}
		list = append(list, fmt.Sprintf("%s/%s>%s", to, mask, gateway))
	}
	return list, nil
}

// address4 reads a number as the kernel writes it: the bytes as they lie in this
// machine's memory, in hexadecimal. All that Linux runs on here is little-endian.
func address4(text string) netip.Addr {
	n, err := strconv.ParseUint(text, 16, 32)
	if err != nil || len(text) != 8 {
		return netip.Addr{}
	}
	return netip.AddrFrom4([4]byte{byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24)})
}

// prefix6 is the network of one address: its number, the interface's, the length
// of the prefix, the scope (0 is global), flags and the interface.
func prefix6(f []string) (string, bool) {
	if len(f) < 6 || f[3] != "00" || f[5] == "lo" {
		return "", false
	}
	b, err := hex.DecodeString(f[0])
	bits, err2 := strconv.ParseUint(f[2], 16, 8)
	a, ok := netip.AddrFromSlice(b)
	if err != nil || err2 != nil || !ok || !a.Is6() {
		return "", false
	}
	p, err := a.Prefix(int(bits))
	return p.String(), err == nil
}
