package qr_test

import (
	"fmt"
	"strings"
	"testing"

	rsc "rsc.io/qr"

	"sallyport/internal/qr"
)

const uri = "otpauth://totp/Sallyport%20host:alice?algorithm=SHA1&digits=6&issuer=Sallyport%20host&period=30&secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"

// pixels reads the half blocks back: true is dark.
func pixels(t *testing.T, text string) [][]bool {
	t.Helper()
	var rows [][]bool
	for line := range strings.Lines(text) {
		var top, bottom []bool
		for _, c := range strings.TrimSuffix(line, "\n") {
			light := map[rune][2]bool{'█': {true, true}, '▀': {true, false}, '▄': {false, true}, ' ': {false, false}}
			l, ok := light[c]
			if !ok {
				t.Fatalf("%q is no half block", c)
			}
			top, bottom = append(top, !l[0]), append(bottom, !l[1])
		}
		rows = append(rows, top, bottom)
	}
	return rows
}

func TestThePictureIsTheCode(t *testing.T) {
	for _, s := range []string{uri, "", "x", strings.Repeat("Zoë ", 100)} {
		text, err := qr.Text(s)
		if err != nil {
			t.Fatal(err)
		}
		code, err := rsc.Encode(s, rsc.L)
		if err != nil {
			t.Fatal(err)
		}
		rows := pixels(t, text)
		// Four light modules all around, which ISO/IEC 18004 asks for.
		const quiet = 4
		if len(rows) < code.Size+2*quiet {
			t.Fatalf("%d rows for a code of %d", len(rows), code.Size)
		}
		for y, row := range rows[:code.Size+2*quiet] { // the last line may hold half a row more
			if len(row) < code.Size+2*quiet {
				t.Fatalf("row %d has %d modules for a code of %d", y, len(row), code.Size)
			}
			for x, dark := range row {
				inside := x >= quiet && y >= quiet && x < quiet+code.Size && y < quiet+code.Size
				if want := inside && code.Black(x-quiet, y-quiet); dark != want {
					t.Fatalf("%d bytes: the module at %d, %d is dark: %v", len(s), x, y, dark)
				}
			}
		}
	}
}

func TestItFitsATerminal(t *testing.T) {
	text, err := qr.Text(uri)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if len(lines) > 40 {
		t.Errorf("%d lines", len(lines))
	}
	for _, l := range lines {
		if n := len([]rune(l)); n > 80 {
			t.Errorf("a line of %d characters", n)
		}
	}
}

func TestWhatDoesNotFitACodeIsAnError(t *testing.T) {
	if _, err := qr.Text(strings.Repeat("x", 3000)); err == nil {
		t.Error("3000 bytes fit")
	}
}

func TestThePathIsTheCode(t *testing.T) {
	d, size, err := qr.Path(uri)
	if err != nil {
		t.Fatal(err)
	}
	code, err := rsc.Encode(uri, rsc.L)
	if err != nil {
		t.Fatal(err)
	}
	dark := map[[2]int]bool{}
	for run := range strings.SplitSeq(strings.TrimSuffix(d, "z"), "z") {
		var x, y, n, back int
		if _, err := fmt.Sscanf(run, "M%d %dh%dv1h-%d", &x, &y, &n, &back); err != nil || n != back {
			t.Fatalf("%q: %v", run, err)
		}
		for i := range n {
			dark[[2]int{x + i, y}] = true
		}
	}
	for y := range size {
		for x := range size {
			if want := code.Black(x-4, y-4); dark[[2]int{x, y}] != want {
				t.Fatalf("the module at %d, %d is dark: %v", x, y, !want)
			}
		}
	}
	if size != code.Size+8 {
		t.Errorf("%d wide for a code of %d", size, code.Size)
	}
	if _, _, err := qr.Path(strings.Repeat("x", 5000)); err == nil {
		t.Error("a code of 5,000 bytes")
	}
}
