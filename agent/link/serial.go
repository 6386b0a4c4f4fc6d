package link

import (
	"bytes"
	"regexp"
)

// printable is a serial number as it may be sent; "" when it is none.
func printable(b []byte) string {
	b = bytes.TrimSpace(b)
	if bytes.ContainsFunc(b, func(r rune) bool { return r < ' ' || r > '~' }) {
		return ""
	}
	return truncate(string(b), maxSerial)
}

var ioregSerial = regexp.MustCompile(`(?m)^\s*"IOPlatformSerialNumber" = "([^"]*)"$`)

// ofIOReg is the serial number in what ioreg(8) prints of a Mac's IOPlatformExpertDevice.
func ofIOReg(out []byte) string {
	m := ioregSerial.FindSubmatch(out)
	if m == nil {
		return ""
	}
	return printable(m[1])
}
