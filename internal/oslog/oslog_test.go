package oslog

import (
	"log/slog"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestWhatTheAgentTellsIsKept(t *testing.T) {
	for level, want := range map[slog.Level]uint8{
		slog.LevelDebug: typeDebug, slog.LevelInfo: typeDefault, slog.LevelWarn: typeError, slog.LevelError: typeError, slog.LevelError + 4: typeError,
	} {
		if got := kind(level); got != want {
			t.Errorf("%v is %#x, want %#x", level, got, want)
		}
	}
}

func TestALongLineIsNotCutInSilence(t *testing.T) {
	for _, text := range []string{"", "one line\n", strings.Repeat("a", pieceLimit), strings.Repeat("ab", pieceLimit), strings.Repeat("€", pieceLimit),
		"a" + strings.Repeat("😀", pieceLimit), strings.Repeat("\x80", 3*pieceLimit)} {
		joined := ""
		for _, piece := range split(text) {
			if len(piece) > 1023 {
				t.Errorf("a piece of %d bytes", len(piece))
			}
			if utf8.ValidString(text) && !utf8.ValidString(piece) {
				t.Error("a letter is cut in two")
			}
			joined += piece
		}
		if got := strings.ReplaceAll(joined, " ...... ", ""); got != strings.TrimRight(text, "\n") {
			t.Errorf("%d bytes became %d", len(text), len(got))
		}
	}
	got := split(strings.Repeat("a", 100*pieceLimit))
	if len(got) != pieces+1 || !strings.Contains(got[pieces], "left out") {
		t.Errorf("%d pieces, the last of %d bytes", len(got), len(got[len(got)-1]))
	}
}
