//go:build linux

package screen

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
)

// Picture is what X shows where s is, read from the file that Xvfb draws in: XWD
// version 7, 32 bits a pixel (X11/XWDFile.h).
func (s *Screen) Picture(t testing.TB, of Seen) *image.RGBA {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(s.dir, "screen", "Xvfb_screen0"))
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
	img := image.NewRGBA(image.Rect(0, 0, of.W, of.H))
	for y := range of.H {
		for x := range of.W {
			at := first + (of.Y+y)*stride + 4*(of.X+x)
			v := binary.LittleEndian.Uint32(data[at:])
			if header[7] != 0 { // the byte order of the image
				v = binary.BigEndian.Uint32(data[at:])
			}
			img.SetRGBA(x, y, color.RGBA{byte(v >> 16), byte(v >> 8), byte(v), 255})
		}
	}
	return img
}

// Steady is the picture once it has been the same for a while; the caret blinks.
func (s *Screen) Steady(t testing.TB, of Seen) *image.RGBA {
	t.Helper()
	const still = 200 * time.Millisecond
	last, since := s.Picture(t, of), time.Now()
	for end := time.Now().Add(Patience); time.Since(since) < still; {
		if time.Now().After(end) {
			t.Fatalf("%q does not come to rest", of.Text)
		}
		time.Sleep(20 * time.Millisecond)
		if now := s.Picture(t, of); !bytes.Equal(now.Pix, last.Pix) {
			last, since = now, time.Now()
		}
	}
	return last
}

// Until waits until the steady picture is right: one that is half drawn is steady, too,
// when the machine is busy.
func (s *Screen) Until(t testing.TB, of Seen, right func(*image.RGBA) error) {
	t.Helper()
	for end := time.Now().Add(Patience); ; {
		err := right(s.Steady(t, of))
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// Blank says whether a picture shows next to nothing.
func Blank(img *image.RGBA) bool {
	colours, most := map[color.RGBA]int{}, 0
	for y := range img.Rect.Dy() {
		for x := range img.Rect.Dx() {
			c := img.RGBAAt(x, y)
			colours[c]++
			most = max(most, colours[c])
		}
	}
	return most > img.Rect.Dx()*img.Rect.Dy()*98/100 || len(colours) < 20
}

// PNG writes a picture in greys, which these windows look the same in.
func PNG(img image.Image) ([]byte, error) {
	var greys color.Palette
	for i := range 256 {
		greys = append(greys, color.Gray{byte(i)})
	}
	small := image.NewPaletted(img.Bounds(), greys)
	for y := range small.Rect.Dy() {
		for x := range small.Rect.Dx() {
			small.Set(x, y, img.At(x, y))
		}
	}
	var b bytes.Buffer
	err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&b, small)
	return b.Bytes(), err
}
