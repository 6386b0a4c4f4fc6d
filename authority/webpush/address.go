package webpush

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"syscall"
)

// control refuses a connection before it is made.
func control(check func(netip.AddrPort) error) func(context.Context, string, string, syscall.RawConn) error {
	return func(_ context.Context, network, address string, _ syscall.RawConn) error {
		if network != "tcp4" && network != "tcp6" {
			return refused("a connection by %s", network)
		}
		a, err := netip.ParseAddrPort(address)
		if err != nil {
			return refused("the address %q", address)
		}
		return check(a)
	}
}

// special are the addresses that are nobody's in the Internet, or that only wrap
// another (IANA's special-purpose registries, RFC 6890).
var special = func() (list []netip.Prefix) {
	for _, p := range []string{
		"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
		"192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3",
		"2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
	} {
		list = append(list, netip.MustParsePrefix(p))
	}
	return list
}()

var (
	global6 = netip.MustParsePrefix("2000::/3")     // all that is handed out
	nat64   = netip.MustParsePrefix("64:ff9b::/96") // an IPv4 address seen from a network without
)

// public says whether an address is somebody's in the Internet.
func public(a netip.Addr) bool {
	a = a.Unmap()
	if a.Zone() != "" {
		return false
	}
	if nat64.Contains(a) {
		b := a.As16()
		a = netip.AddrFrom4([4]byte(b[12:]))
	}
	if a.Is6() && !global6.Contains(a) {
		return false
	}
	return a.IsGlobalUnicast() && !a.IsPrivate() &&
		!slices.ContainsFunc(special, func(p netip.Prefix) bool { return p.Contains(a) })
}

func checkPublic(a netip.AddrPort) error {
	if !public(a.Addr()) {
		return refused("the push service's name leads to %s, which is no public address", a.Addr())
	}
	if a.Port() != 443 {
		return refused("port %d", a.Port())
	}
	return nil
}

func checkLoopback(a netip.AddrPort) error {
	if !a.Addr().Unmap().IsLoopback() {
		return fmt.Errorf("%w: %s is not this machine", ErrRefused, a.Addr())
	}
	return nil
}
