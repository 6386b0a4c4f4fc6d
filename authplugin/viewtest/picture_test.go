//go:build linux

package viewtest

import (
	"bytes"
	"encoding/binary"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"testing"
	"time"

	rsc "rsc.io/qr"

	"sallyport/internal/qr"
)

// picture is what X shows where s is, read from the file that Xvfb draws in: XWD
// version 7, 32 bits a pixel (X11/XWDFile.h).
func picture(t *testing.T, s seen) *image.RGBA {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "screen", "Xvfb_screen0"))
	if err != nil {
		t.Fatal(err)
	}
	var header [25]uint32
	if err := binary.Read(bytes.NewReader(data), binary.BigEndian, &header); err != nil {
		t.Fatal(err)
	}
	if header[1] != 7 || header[11] != 32 {
		t.Fatalf("an XWD of version %d with %d bits a pixel", header[1], header[11])
	}
	first := int(header[0] + 12*header[19]) // behind the header and the colours
	stride := int(header[12])
	img := image.NewRGBA(image.Rect(0, 0, s.W, s.H))
	for y := range s.H {
		for x := range s.W {
			at := first + (s.Y+y)*stride + 4*(s.X+x)
			v := binary.LittleEndian.Uint32(data[at:])
			if header[7] != 0 { // the byte order of the image
				v = binary.BigEndian.Uint32(data[at:])
			}
			img.SetRGBA(x, y, color.RGBA{byte(v >> 16), byte(v >> 8), byte(v), 255})
		}
	}
	return img
}

// steady is the picture once it has been the same for a while; the caret blinks.
func steady(t *testing.T, s seen) *image.RGBA {
	t.Helper()
	const still = 200 * time.Millisecond
	last, since := picture(t, s), time.Now()
	for end := time.Now().Add(patience); time.Since(since) < still; {
		if time.Now().After(end) {
			t.Fatalf("%q does not come to rest", s.Text)
		}
		time.Sleep(20 * time.Millisecond)
		if now := picture(t, s); !bytes.Equal(now.Pix, last.Pix) {
			last, since = now, time.Now()
		}
	}
	return last
}

const uri = "otpauth://totp/Sallyport%20host:zoe?algorithm=SHA1&digits=6&issuer=Sallyport%20host&period=30&secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"

func enrolling(t *testing.T) *screen {
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
	at, ok := v.with("SallyportQR")
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
	img := steady(t, at)
	for y := range at.H {
		for x := range at.W {
			c := img.RGBAAt(x, y)
			want := color.RGBA{255, 255, 255, 255}
			if code.Black(x/module-quiet, y/module-quiet) {
				want = color.RGBA{0, 0, 0, 255}
			}
			if c != want {
				t.Fatalf("the pixel at %d, %d is %v, want %v", x, y, c, want)
			}
		}
	}
	h.do("close")
}

func TestACodeThatIsNoneIsNotDrawn(t *testing.T) {
	h := startHost(t)
	s := enrolling(t)
	copy(s.QR[:], "x")
	v := h.open(s)
	if _, ok := v.with("SallyportQR"); ok {
		t.Error("something is drawn")
	}
	h.do("close")
}

// TestPictures keeps pictures of the view for the documents; -update writes them.
func TestPictures(t *testing.T) {
	h := startHost(t)
	xdotool(t, "mousemove", "1020", "760")
	code := asking(question)
	copy(code.Notice[:1024], "That code is not right. 2 tries are left.")
	for name, s := range map[string]*screen{
		"code":    code,
		"push":    ringing(),
		"refused": telling("You denied this login on your phone."),
		"enrol":   enrolling(t),
	} {
		v := h.open(s)
		if s.Kind == ask && s.QR[0] == 0 {
			typing(t, "123")
			h.typed("123")
		}
		content, _ := v.with("SallyportContent")
		img := steady(t, content)
		colours := map[color.RGBA]int{}
		for y := range content.H {
			for x := range content.W {
				colours[img.RGBAAt(x, y)]++
			}
		}
		most := 0
		for _, n := range colours {
			most = max(most, n)
		}
		if most > content.W*content.H*98/100 || len(colours) < 20 {
			t.Errorf("%s is blank: %d colours, %d of %d pixels are of one", name, len(colours), most, content.W*content.H)
		}
		file := filepath.Join("..", "..", "docs", "img", "macos-"+name+".png")
		if *update {
			small := image.NewPaletted(img.Rect, greys())
			for y := range content.H {
				for x := range content.W {
					small.Set(x, y, img.At(x, y))
				}
			}
			var b bytes.Buffer
			if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&b, small); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		kept, err := os.Open(file)
		if err != nil {
			t.Fatalf("%v; go test -run TestPictures -update writes it", err)
		}
		defer kept.Close()
		if size, err := png.DecodeConfig(kept); err != nil || size.Width != content.W {
			t.Errorf("%s: %v, %d wide, not %d", file, err, size.Width, content.W)
		}
		h.do("close")
	}
}

// greys is a palette that these windows look the same in.
func greys() color.Palette {
	var p color.Palette
	for i := range 256 {
		p = append(p, color.Gray{byte(i)})
	}
	return p
}
