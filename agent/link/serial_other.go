//go:build !darwin

package link

import "os"

// Serial is the machine's serial number as its firmware says it; "" when it says
// none, or only root may know.
func Serial() string {
	b, err := os.ReadFile("/sys/class/dmi/id/product_serial")
	if err != nil {
		return ""
	}
	return printable(b)
}
