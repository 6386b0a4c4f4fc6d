package link

import (
	"strings"
	"testing"
)

func TestTheSerialNumberOfAMac(t *testing.T) {
	const before = "+-o J314sAP  <class IOPlatformExpertDevice, id 0x100000227, registered, matched, active, busy 0, retain 41>\n    {\n      \"manufacturer\" = <\"Apple Inc.\">\n"
	for out, want := range map[string]string{
		before + "      \"IOPlatformSerialNumber\" = \"C02ABC123XYZ\"\n    }\n": "C02ABC123XYZ",
		before + "      \"IOPlatformSerialNumber\" = \"\"\n    }\n":             "",
		before + "      \"IOPlatformSerialNumber\" = \"a\x01b\"\n    }\n":       "",
		before + "    }\n": "",
		"":                 "",
		"\"IOPlatformSerialNumber\" = \"" + strings.Repeat("9", 300) + "\"\n": strings.Repeat("9", maxSerial),
	} {
		if got := ofIOReg([]byte(out)); got != want {
			t.Errorf("%q: %q, want %q", out, got, want)
		}
	}
}
