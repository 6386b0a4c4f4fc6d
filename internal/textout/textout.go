// Package textout is how the commands write for people: text from outside made
// safe for a terminal, tables, times.
package textout

import (
	"fmt"
	"io"
	"runtime"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Clean makes text from outside safe for a terminal: control characters,
// direction marks and bytes that are not UTF-8 are written out, not obeyed.
func Clean(s string) string {
	ok := true
	for _, r := range s {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			ok = false
			break
		}
	}
	if ok {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && size <= 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
			size = 1
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case r < 0x100:
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
		s = s[size:]
	}
	return b.String()
}

// CleanLines is Clean for text of several lines.
func CleanLines(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = Clean(lines[i])
	}
	return strings.Join(lines, "\n  ")
}

// Table writes rows as aligned columns, two spaces apart. The first row is the
// heading. Cells must be clean.
func Table(w io.Writer, rows [][]string) {
	var width []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(width) {
				width = append(width, 0)
			}
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range rows {
		var b strings.Builder
		for i, cell := range row {
			b.WriteString(cell)
			if i < len(row)-1 {
				b.WriteString(strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell)+2))
			}
		}
		_, _ = fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
}

// Fold breaks clean text between words, so that it fits into so many columns where
// it begins, and goes on, at column indent. A word that is too long is left as it
// is. A width of 0 is no terminal's: what reads a pipe wants its lines whole.
func Fold(s string, width, indent int) string {
	const narrow = 20 // below that nothing is gained
	room := width - indent
	if room < narrow {
		return s
	}
	var b strings.Builder
	column := 0
	for i, word := range strings.Split(s, " ") {
		n := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case column+1+n > room:
			b.WriteString("\n" + strings.Repeat(" ", indent))
			column = 0
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += n
	}
	return b.String()
}

// When is a time for people, in their own zone.
func When(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

// HowLong is a duration for people: "14m30s", "2h5m", "3d4h".
func HowLong(d time.Duration) string {
	d = d.Round(time.Second)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return trimZero(fmt.Sprintf("%dm%ds", int(d.Minutes()), int(d.Seconds())%60), "0s")
	case d < 48*time.Hour:
		return trimZero(fmt.Sprintf("%dh%dm", int(d.Hours()), int(d.Minutes())%60), "0m")
	default:
		return trimZero(fmt.Sprintf("%dd%dh", int(d.Hours())/24, int(d.Hours())%24), "0h")
	}
}

func trimZero(s, zero string) string {
	if strings.HasSuffix(s, zero) && len(s) > len(zero) {
		if c := s[len(s)-len(zero)-1]; c < '0' || c > '9' {
			return strings.TrimSuffix(s, zero)
		}
	}
	return s
}

// Plural is a number of things.
func Plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// QuoteArg writes a name so that it can be pasted into a shell of this system.
func QuoteArg(s string) string { return quoteArg(s, runtime.GOOS == "windows") }

func quoteArg(s string, windows bool) string {
	harmless := "@._-+"
	if windows {
		harmless += `\` // CORP\alice
	}
	plain := func(r rune) bool {
		return unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune(harmless, r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	if windows { // for cmd and PowerShell; no name there has a quotation mark in it
		return `"` + strings.ReplaceAll(Clean(s), `"`, "") + `"`
	}
	return "'" + strings.ReplaceAll(Clean(s), "'", `'\''`) + "'"
}
