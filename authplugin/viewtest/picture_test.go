//go:build linux

package viewtest

import (
	"fmt"
	"image"
	"image/color"
	"testing"

	rsc "rsc.io/qr"

	"sallyport/internal/qr"
)

const uri = "otpauth://totp/Sallyport%20host:zoe?algorithm=SHA1&digits=6&issuer=Sallyport%20host&period=30&secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"

func enrolling(t *testing.T) *content {
	t.Helper()
	s := asking("Your account needs a second factor. Scan the code above with your authenticator app, or type in this key: GEZD GNBV GY3T QOJQ GEZD GNBV GY3T QOJQ\nThen type the code that the app shows: ")
	s.Visible = 1
	code, err := qr.Text(uri)
	if err != nil || len(code) > 6144 {
		t.Fatalf("%v: %d bytes", err, len(code))
	}
	copy(s.QR[:6144], code)
	return s
}

// TestThePictureIsTheCode reads the modules back from the screen's pixels.
func TestThePictureIsTheCode(t *testing.T) {
	h := startHost(t)
	v := h.open(enrolling(t))
	at, ok := v.With("SallyportQR")
	if !ok {
		t.Fatalf("no code is drawn: %+v", v)
	}
	code, err := rsc.Encode(uri, rsc.L)
	if err != nil {
		t.Fatal(err)
	}
	const quiet = 4 // modules, which ISO/IEC 18004 asks for
	side := code.Size + 2*quiet
	module := at.W / side
	if at.W != module*side || at.H != at.W || module < 4 {
		t.Fatalf("%d modules in %d by %d points", side, at.W, at.H)
	}
	desk.Until(t, at, func(img *image.RGBA) error {
		for y := range at.H {
			for x := range at.W {
				c := img.RGBAAt(x, y)
				want := color.RGBA{255, 255, 255, 255}
				if code.Black(x/module-quiet, y/module-quiet) {
					want = color.RGBA{0, 0, 0, 255}
				}
				if c != want {
					return fmt.Errorf("the pixel at %d, %d is %v, want %v", x, y, c, want)
				}
			}
		}
		return nil
	})
	h.do("close")
}

func TestACodeThatIsNoneIsNotDrawn(t *testing.T) {
	h := startHost(t)
	s := enrolling(t)
	copy(s.QR[:], "x")
	v := h.open(s)
	if _, ok := v.With("SallyportQR"); ok {
		t.Error("something is drawn")
	}
	h.do("close")
}
