// Package qr draws QR codes with characters, for a terminal.
package qr

import (
	"strings"

	"github.com/mdp/qrterminal/v3"
	"rsc.io/qr"
)

// Text returns the code of s as lines of half blocks, light on dark, with the
// quiet zone that cameras need.
func Text(s string) (string, error) {
	if _, err := qr.Encode(s, qr.L); err != nil { // qrterminal would panic
		return "", err
	}
	var b strings.Builder
	qrterminal.GenerateHalfBlock(s, qrterminal.L, &b)
	return b.String(), nil
}
