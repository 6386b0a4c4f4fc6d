//go:build linux

package screen

import (
	"image"
	"image/color"
	"image/draw"
	"strings"
	"testing"

	"rsc.io/qr"
)

// drawn is a QR code of that many pixels a module.
func drawn(t *testing.T, text string, level qr.Level, module int) *image.RGBA {
	t.Helper()
	code, err := qr.Encode(text, level)
	if err != nil {
		t.Fatal(err)
	}
	side := code.Size + 2*quiet
	img := image.NewRGBA(image.Rect(0, 0, side*module, side*module))
	draw.Draw(img, img.Rect, image.White, image.Point{}, draw.Src)
	for y := range img.Rect.Dy() {
		for x := range img.Rect.Dx() {
			if code.Black(x/module-quiet, y/module-quiet) {
				img.Set(x, y, color.Black)
			}
		}
	}
	return img
}

func TestReadQR(t *testing.T) {
	for _, text := range []string{"otpauth://totp/x?secret=GEZDGNBVGY3TQOJQ", strings.Repeat("a longer one, %", 12), "a"} {
		for _, level := range []qr.Level{qr.L, qr.H} {
			img := drawn(t, text, level, 5)
			if got, err := ReadQR(img); err != nil || got != text {
				t.Errorf("%q is read as %q, %v", text, got, err)
			}
			for y := range 5 { // a module of the finder is light
				for x := range 5 {
					img.Set((quiet+3)*5+x, (quiet+3)*5+y, color.White)
				}
			}
			if got, err := ReadQR(img); err == nil {
				t.Errorf("a broken code is read as %q", got)
			}
		}
	}
	if _, err := ReadQR(image.NewRGBA(image.Rect(0, 0, 100, 100))); err == nil {
		t.Error("a black picture is read")
	}
}
