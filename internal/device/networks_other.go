//go:build !linux

package device

import (
	"net"
	"net/netip"
)

// Networks names the networks that this computer is in, the same text for the
// same ones: the prefixes of its addresses.
func Networks() (string, error) {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return "", err
	}
	var list []string
	for _, a := range addresses {
		p, err := netip.ParsePrefix(a.String())
		if err != nil || !p.Addr().IsGlobalUnicast() {
			continue
		}
		list = append(list, p.Masked().String())
	}
	return join(list), nil
}
