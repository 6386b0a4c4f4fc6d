package approver

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"image/png"
	"io/fs"
	"os"
	"strings"
	"testing"

	"sallyport/internal/testkit/chromium"
)

var update = flag.Bool("update", false, "draw the icons anew from icon.svg, and take the screenshots of docs/img")

// icons are drawn from icon.svg. bleed: to the edge, as launchers cut them to
// their own shape; scale keeps the picture within what no shape cuts off.
var icons = []struct {
	name  string
	size  int
	bleed bool
	scale float64
}{
	{"icon-192.png", 192, false, 1},
	{"icon-512.png", 512, false, 1},
	{"icon-maskable-512.png", 512, true, 0.8},
	{"icon-180.png", 180, true, 0.9}, // iOS
}

func TestIcons(t *testing.T) {
	if *update {
		drawIcons(t)
	}
	for _, icon := range icons {
		b, err := fs.ReadFile(files, icon.name)
		if *update {
			b, err = os.ReadFile("page/" + icon.name)
		}
		if err != nil {
			t.Fatal(err)
		}
		c, err := png.DecodeConfig(bytes.NewReader(b))
		if err != nil || c.Width != icon.size || c.Height != icon.size {
			t.Errorf("%s: %d by %d, %v", icon.name, c.Width, c.Height, err)
		}
	}
	// The manifest names icons that are there, of the sizes that make it installable.
	var m struct {
		Icons []struct{ Src, Sizes, Purpose string }
	}
	b, err := fs.ReadFile(files, "manifest.webmanifest")
	if err == nil {
		err = json.Unmarshal(b, &m)
	}
	if err != nil {
		t.Fatal(err)
	}
	sizes := ""
	for _, i := range m.Icons {
		if _, err := fs.Stat(files, i.Src); err != nil {
			t.Error(err)
		}
		sizes += i.Sizes + " " + i.Purpose + ";"
	}
	for _, want := range []string{"192x192 ;", "512x512 ;", "512x512 maskable;"} {
		if !strings.Contains(sizes, want) {
			t.Errorf("no icon of %s in %s", want, sizes)
		}
	}
}

func drawIcons(t *testing.T) {
	svg, err := fs.ReadFile(files, "icon.svg")
	if err != nil {
		t.Fatal(err)
	}
	b, err := chromium.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	tab, err := b.Open(chromium.Desktop)
	if err != nil {
		t.Fatal(err)
	}
	for _, icon := range icons {
		picture := string(svg)
		if icon.bleed {
			picture = strings.Replace(picture, ` rx="112"`, "", 1)
		}
		var drawn []byte
		err := tab.Eval(fmt.Sprintf(`new Promise((done, fail) => {
			const image = new Image();
			image.onerror = fail;
			image.onload = () => {
				const c = document.createElement('canvas');
				c.width = c.height = %d;
				const g = c.getContext('2d'), k = %v, s = c.width;
				g.drawImage(image, 0, 0, s, s);
				if (k < 1) { g.fillStyle = '#0b6b5b'; g.fillRect(0, 0, s, s); g.drawImage(image, s * (1 - k) / 2, s * (1 - k) / 2, s * k, s * k); }
				done(c.toDataURL('image/png').split(',')[1]);
			};
			image.width = image.height = %d;
			image.src = 'data:image/svg+xml;base64,%s';
		})`, icon.size, icon.scale, icon.size, base64.StdEncoding.EncodeToString([]byte(picture))), &drawn)
		if err == nil {
			err = os.WriteFile("page/"+icon.name, drawn, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
