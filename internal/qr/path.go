package qr

import (
	"fmt"
	"strings"

	"rsc.io/qr"
)

// Path returns the code of s as the path data of an SVG, each module one unit, and
// the width of the square that holds it with the quiet zone that cameras need.
func Path(s string) (d string, size int, err error) {
	const quiet = 4 // ISO/IEC 18004
	code, err := qr.Encode(s, qr.L)
	if err != nil {
		return "", 0, err
	}
	var b strings.Builder
	for y := range code.Size {
		for x := 0; x < code.Size; x++ {
			start := x
			for x < code.Size && code.Black(x, y) {
				x++
			}
			if n := x - start; n > 0 {
				fmt.Fprintf(&b, "M%d %dh%dv1h-%dz", start+quiet, y+quiet, n, n)
			}
		}
	}
	return b.String(), code.Size + 2*quiet, nil
}
