//go:build linux

package screen

import (
	"errors"
	"image"

	"rsc.io/qr/coding"
)

// quiet is how many light modules are around a QR code (ISO/IEC 18004).
const quiet = 4

// ReadQR reads the QR code that fills a picture, as a camera's program would, but for
// the errors: there are none to correct.
func ReadQR(img *image.RGBA) (string, error) {
	black := func(x, y int) bool { c := img.RGBAAt(x, y); return int(c.R)+int(c.G)+int(c.B) < 3*128 }
	// The finder's upper edge is seven dark modules.
	at := 0
	for at < img.Rect.Dx() && !black(at, at) {
		at++
	}
	end := at
	for end < img.Rect.Dx() && black(end, at) {
		end++
	}
	module := (end - at) / 7
	if module == 0 || at != quiet*module || img.Rect.Dx()%module != 0 || img.Rect.Dy() != img.Rect.Dx() {
		return "", errors.New("no QR code fills the picture")
	}
	side := img.Rect.Dx()/module - 2*quiet
	dark := func(x, y int) bool { return black((quiet+x)*module+module/2, (quiet+y)*module+module/2) }
	for level := coding.L; level <= coding.H; level++ {
		for mask := range coding.Mask(8) {
			plan, err := coding.NewPlan(coding.Version((side-17)/4), level, mask)
			if err != nil {
				return "", err
			}
			if data, ok := readPlan(plan, dark); ok {
				return text(plan.Version, data)
			}
		}
	}
	return "", errors.New("the QR code is of no kind")
}

// readPlan is the code's data; false when it is laid out otherwise.
func readPlan(plan *coding.Plan, dark func(x, y int) bool) ([]byte, bool) {
	data := make([]byte, plan.DataBytes)
	for y, row := range plan.Pixel {
		for x, pixel := range row {
			is := dark(x, y) != (pixel&coding.Black != 0)
			switch pixel.Role() {
			case coding.Position, coding.Alignment, coding.Timing, coding.Format, coding.PVersion:
				if is {
					return nil, false
				}
			case coding.Data:
				if o := pixel.Offset(); is {
					data[o/8] |= 1 << (7 - o%8)
				}
			}
		}
	}
	return data, true
}

// text is the one segment of bytes in a code's data.
func text(version coding.Version, data []byte) (string, error) {
	at := 0
	take := func(bits int) (v int) {
		for range bits {
			v = v<<1 | int(data[at/8]>>(7-at%8)&1)
			at++
		}
		return v
	}
	if mode := take(4); mode != 4 {
		return "", errors.New("the QR code is not of bytes")
	}
	length := 8
	if version > 9 {
		length = 16
	}
	n := take(length)
	if n > len(data)-3 {
		return "", errors.New("the QR code is too short")
	}
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(take(8))
	}
	return string(b), nil
}
