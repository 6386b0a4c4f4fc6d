//go:build linux

package viewtest

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"math"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	rsc "rsc.io/qr"

	"sallyport/internal/qr"
)

// plain asks what of the view needs no window, built with ASan and UBSan.
func plain(t *testing.T) func(format string, args ...any) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "plain")
	if out, err := exec.Command("make", "-s", "-C", "host", "OUT="+filepath.Dir(program), program).CombinedOutput(); err != nil {
		t.Fatalf("make: %v\n%s", err, out)
	}
	cmd := exec.Command(program)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var errors strings.Builder
	cmd.Stderr = &errors
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v\n%s", err, errors.String())
		}
	})
	lines := bufio.NewReader(out)
	return func(format string, args ...any) string {
		fmt.Fprintf(in, format+"\n", args...)
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatalf("%v: %s", err, fmt.Sprintf(format, args...))
		}
		return strings.TrimSuffix(line, "\n")
	}
}

func TestCodesAreReadAsInternalQRWritesThem(t *testing.T) {
	say := plain(t)
	for _, s := range []string{"", "x", uri, strings.Repeat("Zoë ", 40), strings.Repeat("7", 400)} {
		text, err := qr.Text(s)
		if err != nil {
			t.Fatal(err)
		}
		code, err := rsc.Encode(s, rsc.L)
		if err != nil {
			t.Fatal(err)
		}
		const quiet = 4
		var want strings.Builder
		for y := range code.Size + 2*quiet {
			for x := range code.Size + 2*quiet {
				want.WriteByte("01"[map[bool]int{true: 1}[code.Black(x-quiet, y-quiet)]])
			}
		}
		for _, text := range []string{text, strings.TrimSuffix(text, "\n")} {
			if got := say("qr %x", text); got != want.String() {
				t.Errorf("%d bytes: got %s", len(s), got)
			}
		}
	}
}

func TestWhatIsNoCode(t *testing.T) {
	say := plain(t)
	good, err := qr.Text(uri)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(good, "\n")
	for name, text := range map[string]string{
		"nothing":          "",
		"one line":         lines[0],
		"a line less":      strings.Join(lines[1:], ""),
		"a line more":      lines[0] + good,
		"a letter":         strings.Replace(good, "█", "X", 1),
		"a quarter block":  strings.Replace(good, "█", "▖", 1),
		"half a character": good[:len(good)-3],
		"a broken one":     good[:len(good)-2],
		"a longer line":    strings.Replace(good, "\n", "█\n", 1),
		"too many columns": strings.Repeat(" ", 6144),
		"too many lines":   strings.Repeat("\n", 6144),
		"too big":          strings.Repeat(strings.Repeat(" ", 91)+"\n", 46),
		"too small":        strings.Repeat(strings.Repeat(" ", 19)+"\n", 10),
	} {
		if got := say("qr %s", hex.EncodeToString([]byte(text))); got != "no" {
			t.Errorf("%s: read as %s", name, got)
		}
	}
}

func TestTheCountdownsWords(t *testing.T) {
	say := plain(t)
	for _, c := range []struct {
		until, now int64
		want       string
	}{
		{0, 0, "0"}, {1, 0, "1"}, {1000, 0, "1"}, {1001, 0, "2"}, {57_000, 1, "57"}, {0, 1, "0"}, {-5, 5, "0"},
		{math.MaxInt64, math.MinInt64, "5999"}, {math.MinInt64, math.MaxInt64, "0"}, {math.MaxInt64, -1, "5999"}, {500, -501, "2"},
	} {
		if got := say("seconds %d %d", c.until, c.now); got != c.want {
			t.Errorf("from %d until %d: %s, want %s", c.now, c.until, got, c.want)
		}
	}
	for seconds, want := range map[int]string{0: "Time left: 0:00", 9: "Time left: 0:09", 60: "Time left: 1:00", 5999: "Time left: 99:59"} {
		if got := say("time %d", seconds); got != want {
			t.Errorf("%d: %q", seconds, got)
		}
	}
}

func TestThePhonesWords(t *testing.T) {
	say := plain(t)
	for _, c := range []struct {
		number uint32
		phone  string
		want   string
	}{
		{0, "", "Type 00 on your phone to approve"},
		{7, "Zoë’s phone", "Type 07 on your phone (Zoë’s phone) to approve"},
		{math.MaxUint32, "%s%n" + strings.Repeat("W", 60), "Type 4294967295 on your phone (%s%n" + strings.Repeat("W", 60) + ") to approve"},
	} {
		if got := say("approve %d %x", c.number, c.phone); got != c.want {
			t.Errorf("%q", got)
		}
	}
}
