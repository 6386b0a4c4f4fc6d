package chromium

import (
	"bytes"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"maps"
	"slices"
)

// Smaller is a screenshot in a few colours, which is all that a page has: for
// documentation.
func Smaller(shot []byte) ([]byte, error) {
	in, err := png.Decode(bytes.NewReader(shot))
	if err != nil {
		return nil, err
	}
	count := map[color.RGBA]int{}
	b := in.Bounds()
	at := func(x, y int) color.RGBA {
		r, g, b, _ := in.At(x, y).RGBA()
		return color.RGBA{uint8(r>>8) &^ 7, uint8(g>>8) &^ 7, uint8(b>>8) &^ 7, 255}
	}
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			count[at(x, y)]++
		}
	}
	list := slices.SortedFunc(maps.Keys(count), func(x, y color.RGBA) int { return count[y] - count[x] })
	var colours color.Palette
	for _, c := range list[:min(len(list), 256)] {
		colours = append(colours, color.RGBA{c.R | c.R>>5, c.G | c.G>>5, c.B | c.B>>5, 255})
	}
	out := image.NewPaletted(b, colours)
	draw.Draw(out, b, in, b.Min, draw.Src)
	var small bytes.Buffer
	err = (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&small, out)
	return small.Bytes(), err
}
