package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"sallyport/authority/enrol"
	"sallyport/internal/qr"
	"sallyport/internal/textout"
)

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return textout.Clean(s)
}

// whom names the users of a device or a token.
func whom(users []string) string {
	switch {
	case len(users) == 0:
		return "nobody"
	case slices.Equal(users, []string{enrol.Everyone}):
		return "everyone"
	}
	return textout.Clean(strings.Join(users, ", "))
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// showQR draws a code where it fits. With colours it is light on dark whatever
// the terminal's theme is.
func (a *app) showQR(w io.Writer, text string, always bool) {
	tty := a.deps.IsTTY(w)
	if !tty && !always {
		return
	}
	code, err := qr.Text(text)
	if err != nil {
		printf(w, "(No QR code: %v.)\n", err)
		return
	}
	p, columns := a.paint(w), 0
	lines := strings.Split(strings.TrimRight(code, "\n"), "\n")
	for i, l := range lines {
		columns = max(columns, utf8.RuneCountInString(l))
		lines[i] = p.SGR("97;40", l)
	}
	if width := a.deps.Width(w); tty && width > 0 && width < columns {
		printf(w, "(The QR code needs %d columns, this terminal has %d.)\n", columns, width)
		return
	}
	_, _ = fmt.Fprintln(w, strings.Join(lines, "\n"))
}
